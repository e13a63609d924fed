"""Processes that clbench starts import what the one that starts them imports, wherever they are started."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import clbench
from clbench.diagnostics import doctor
from clbench.results.stored_run import StoredRun
from clbench.system.own_python import code_command, module_command


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with files that are called like modules; processes that are started in it are not forked."""
    folder = tmp_path / "poisoned"
    (folder / "clbench").mkdir(parents=True)
    for name in ("statistics.py", "json.py", "runpy.py", "colorsys.py", "clbench/__init__.py"):
        (folder / name).write_text("raise ImportError('the wrong module')\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONSAFEPATH", "")  # as if it were not set, but they start as always
    return folder


def said(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_process_imports_from_where_this_one_does(poisoned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = poisoned.parent / "else:where"
    elsewhere.mkdir()
    (elsewhere / "greeting.py").write_text("import sys\nprint(__name__, sys.path, sys.argv[1:])\n")
    monkeypatch.syspath_prepend(elsewhere)
    assert said(module_command("greeting", "a", "b c")) == f"__main__ {sys.path} ['a', 'b c']\n"
    assert said(code_command("import greeting")) == f"greeting {sys.path} []\n"
    assert str(poisoned) not in sys.path


@pytest.mark.slow
def test_runs_of_several_jobs_do_not_import_from_the_working_folder(poisoned: Path, data: Path) -> None:
    def runs(out: str, jobs: int) -> list[StoredRun]:
        small = {"split": "2", "epochs": 1, "threads": 1, "device": "cpu", "data": data, "seeds": 2}
        return clbench.run("naive", "splitdigits", out=poisoned.parent / out, jobs=jobs, **small)  # type: ignore[arg-type]

    for alone, beside in zip(runs("alone", 1), runs("beside", 2), strict=True):
        assert alone.path.name == beside.path.name
        assert (alone.path / "predictions.npz").read_bytes() == (beside.path / "predictions.npz").read_bytes()


def test_doctor_does_not_import_from_the_working_folder(poisoned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "IMPORTED", ("colorsys", "statistics"))
    *_, one, other, _cores = doctor._installation()
    assert (one.what, other.what) == ("colorsys imports", "statistics imports")
