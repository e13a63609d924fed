"""Files with further presets of a strategy: how one is selected, and what happens to it in a run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import clbench
from clbench.errors import UsageError
from clbench.plugins.description import print_in_full
from clbench.plugins.discovery import builtin_folder, describe, discover, select, without_dialects
from clbench.plugins.scaffold import new_strategy
from clbench.results.record_model import to_json
from clbench.runs.planned_runs import plan
from clbench.runs.request import Request

FAMILY = '''"""Dialects of naive."""

import clbench


class Family(clbench.Strategy):
    dialects_of = "naive"
    presets = {"loud": {"source": "a test", "loss": "CE", "set": {}}}
'''


@pytest.fixture(autouse=True)
def strategies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The strategies folder of an otherwise empty working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strategies").mkdir()
    return tmp_path / "strategies"


def spec(data: Path, strategy: str, **values: Any) -> dict[str, Any]:
    (run,) = plan(Request([strategy], ["splitdigits"], set=values, data=data, device="cpu"), lambda event: None)
    found: dict[str, Any] = to_json(run.spec.strategy)
    return found


def sha256(name: str) -> str:
    return describe("strategy", builtin_folder("strategy") / f"{name}.py", "").sha256


@pytest.mark.parametrize(
    ("wanted", "file"),
    [
        ("lwf", "lwf"),
        ("lwf:li2016", "lwf"),
        ("lwf:pycil", "lwf_dialects"),
        ("lwf_dialects:pycil", "lwf_dialects"),
        ("ewc", "ewc"),
        ("ewc:kirkpatrick2017", "ewc"),
        ("ewc:hsu2018", "ewc_dialects"),
    ],
)
def test_a_preset_is_run_by_the_file_that_has_it_under_the_strategys_name(data: Path, wanted: str, file: str) -> None:
    found = spec(data, wanted)
    assert found["name"] == wanted.partition(":")[0].removesuffix("_dialects")
    assert found["sha256"] == sha256(file)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["lwf", "lwf_dialects"])
def test_a_preset_can_be_selected_by_a_path_as_well(data: Path, file: str) -> None:
    assert spec(data, f"{builtin_folder('strategy') / file}.py:pycil") == spec(data, "lwf:pycil")


def test_without_a_preset_the_dialects_file_runs_under_its_own_name(data: Path) -> None:
    found = spec(data, "lwf_dialects")
    assert found["name"] == "lwf_dialects" and "preset" not in found


def test_all_strategies_are_those_that_are_not_dialects_of_another() -> None:
    names = {plugin.name for plugin in without_dialects(discover("strategy"))}
    assert "lwf" in names and "ewc" in names and not [name for name in names if "dialects" in name]


def test_dialects_of_a_strategy_that_is_not_there_are_listed_by_themselves(strategies: Path) -> None:
    (strategies / "orphan.py").write_text(FAMILY.replace('"naive"', '"nothing"'))
    assert "orphan" in {plugin.name for plugin in without_dialects(discover("strategy"))}


def test_a_user_can_add_dialects_of_a_built_in_strategy(data: Path, strategies: Path) -> None:
    (strategies / "mine.py").write_text(FAMILY)
    assert spec(data, "naive:loud")["preset"] == "loud"
    assert select("strategy", "naive", "pycil").path.name == "naive.py"
    assert set(select("strategy", "naive").all_presets) == {"pycil", "mammoth", "loud"}


def test_a_preset_in_two_files_must_be_selected_by_path(strategies: Path) -> None:
    for name in ("one", "two"):
        (strategies / f"{name}.py").write_text(f"# {name}\n{FAMILY}")
    with pytest.raises(UsageError, match="two different files have a preset 'loud'"):
        select("strategy", "naive", "loud")
    assert select("strategy", "strategies/one.py", "loud").name == "naive"


def test_an_unknown_preset_is_an_error_that_knows_the_presets_of_both_files() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'pycil'\?.*li2016.*mammoth"):
        select("strategy", "lwf", "pycli")


@pytest.mark.parametrize("name", ["distillation_over", "distil"])
def test_a_hyper_parameter_of_the_dialects_alone_says_which_presets_have_it(data: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"no hyper-parameter 'distillation_over' of its own; .* lwf:pycil"):
        spec(data, "lwf", **{name: "old"})
    assert spec(data, "lwf:mammoth", distillation_over="seen")["config"]["distillation_over"] == "seen"


def test_dialects_of_something_other_than_a_name_make_the_file_broken(strategies: Path) -> None:
    (strategies / "mine.py").write_text(FAMILY.replace('"naive"', "3"))
    assert describe("strategy", strategies / "mine.py", "").problem == "its dialects_of is not the name of a strategy"


@pytest.mark.slow
def test_list_and_show_have_the_presets_of_both_files() -> None:
    for arguments in (["list", "strategies", "--json"], ["show", "lwf"]):
        command = [sys.executable, "-m", "clbench", *arguments]
        shown = subprocess.run(command, capture_output=True, check=True, text=True, timeout=300).stdout
        assert all(preset in shown for preset in ("li2016", "pycil", "avalanche"))
    assert "lwf.distillation_over" in shown and shown.count("lwf.temperature:") == 1


def test_a_copy_of_a_dialects_file_is_a_strategy_of_its_own(strategies: Path) -> None:
    new_strategy("mine", "lwf_dialects")
    assert select("strategy", "mine").dialects_of is None
    assert select("strategy", "lwf", "pycil").path.name == "lwf_dialects.py"


@pytest.mark.slow
def test_a_stored_run_of_a_dialect_is_described_from_the_file_that_ran(data: Path, tmp_path: Path) -> None:
    (run,) = clbench.run(
        "ewc:hsu2018", "splitdigits", epochs=1, threads=1, device="cpu", out=tmp_path / "results", data=data
    )
    assert b'dialects_of = "ewc"' in run.source
    assert run.path.parent.name == "ewc"


def test_what_has_another_default_in_the_dialects_is_shown_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    (er,) = [plugin for plugin in discover("strategy") if plugin.name == "er"]
    print_in_full(er)
    shown = capsys.readouterr().out
    _, own, dialects = re.split(r"\n.*--set .*NAME=VALUE\):\n", shown)
    assert "er.memory: int ≥ 1, default 200" in own and "er.memory: int ≥ 1, default 1100" in dialects
    assert "er.memories" in own and "er.memories" not in dialects
