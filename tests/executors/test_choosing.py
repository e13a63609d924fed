"""Which executor is chosen: `--on`, and third parties' executors."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

import clbench
from clbench.errors import MachineError, PluginError, UsageError

OWN = """
from clbench.executors.local import Local

said = []

class Cloud(Local):
    def do(self, planned, results):
        said.append((self.command.options, [run.name for run in planned]))
        return super().do(planned, results)

def broken(command):
    raise ValueError("no region")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An installed package with two executors."""
    folder = tmp_path / "site"
    info = folder / "cloud-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "cloud_executor.py").write_text(OWN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cloud\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[clbench.executors]\ncloud = cloud_executor:Cloud\nbroken = cloud_executor:broken\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    return importlib.import_module("cloud_executor")


@pytest.mark.slow
def test_a_package_adds_an_executor_by_an_entry_point(tmp_path: Path, data: Path, package: Any) -> None:
    (run,) = clbench.run("naive", "splitdigits", epochs=1, on="cloud:eu", data=data, out=tmp_path / "results")
    assert package.said == [("eu", ["/".join(run.path.parts[-3:])])]
    clbench.run("naive", "splitdigits", epochs=1, on="cloud:eu", data=data, out=tmp_path / "results")
    assert len(package.said) == 1  # what is stored is not handed to it


def test_an_executor_that_cannot_be_made_is_reported_as_the_packages_fault(
    tmp_path: Path, data: Path, package: Any
) -> None:
    with pytest.raises(PluginError, match="executor broken \\(cloud_executor:broken\\): ValueError: no region"):
        clbench.run("naive", "splitdigits", epochs=1, on="broken", data=data, out=tmp_path / "results")


def test_a_misspelt_executor_is_refused_before_anything_is_planned(tmp_path: Path, data: Path, package: Any) -> None:
    with pytest.raises(UsageError, match="known: local, ray, slurm, cloud, broken"):
        clbench.run("naive", "splitdigits", on="clod", data=data, out=tmp_path / "results")


def test_what_is_not_installed_is_said_with_the_command_that_installs_it(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ray", "submitit"):
        monkeypatch.setitem(sys.modules, name, None)
    for module in ("on_ray", "ray_tasks", "on_slurm", "slurm_task"):
        monkeypatch.delitem(sys.modules, f"clbench.executors.{module}", raising=False)
    for on, extra in (("ray", "ray"), ("slurm", "slurm")):
        with pytest.raises(MachineError) as refused:
            clbench.run("naive", "splitdigits", on=on, data=data, out=tmp_path / "results")
        assert refused.value.hint == f"Install it: pip install 'clbench[{extra}]'"


@pytest.mark.parametrize("options", [{"gpus_per_run": 0.5}, {"allow_mixed": True}])
def test_what_only_a_cluster_has_is_refused_here(tmp_path: Path, data: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is for --on ray"):
        clbench.run("naive", "splitdigits", data=data, out=tmp_path / "results", **options)
