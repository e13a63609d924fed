"""What the shell is given when it asks what a word may become."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def completed(line: str) -> list[str]:
    """Return what bash is given for the last of these words, which it divides at : and =."""
    words = ["clbench", *(part for word in line.split(" ") for part in re.findall("[:=]+|[^:=]+|^$", word))]
    asked = {"_CLBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    code = "import sys; sys.argv = ['clbench']; from clbench.cli.program import program; program()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run -s lw", {"lwf", "lwf_mc"}),
        ("run -s naive,lwf", {"naive,lwf", "naive,lwf_mc"}),
        ("run -s lwf:", {"pycil", "facil", "li2016"}),
        ("run -s naive,lwf:py", {"pycil"}),
        ("run -s lwf:pycil -S splitd", {"splitdigits"}),
        ("run --strategy=lwf:py", {"pycil"}),
        ("run -S splitd", {"splitdigits"}),
        ("run -S splitcifar100 --recipe s", {"standard", "survey2024"}),
        ("run --setting t", {"task"}),
        ("run --setting=t", {"task"}),
        ("run --stream bl", {"blurry"}),
        ("run --tune g", {"grid"}),
        ("run --device cu", {"cuda"}),
        ("run --keep-networks l", {"last"}),
        ("export results --to o", {"onnx"}),
        ("run -s lwf --set lwf.al", {"lwf.alpha="}),
        ("run -s lwf --set recipe.epo", {"recipe.epochs="}),
        ("run -s lwf --set=lwf.al", {"lwf.alpha="}),
        ("run --stream blurry --set stream.", {"stream.minor="}),
        ("show splitm", {"splitmnist"}),
        ("show lwf:fac", {"facil"}),
        ("show blur", {"blurry"}),
        ("report -s lw", {"lwf"}),
        ("report -S splitcifar100 --recipe su", {"survey2024"}),
        ("compare --metric anyt", {"anytime_accuracy"}),
        ("data fetch fa", {"fashion"}),
        ("reproduce hsu", {"hsu2018"}),
        ("list sc", {"scenarios"}),
        ("check lwf_m", {"lwf_mc"}),
    ],
)
def test_names_are_completed(line: str, expected: set[str]) -> None:
    assert expected <= set(completed(line))


@pytest.mark.slow
def test_studies_are_completed_and_the_folders_that_they_may_be_in(tmp_path: Path) -> None:
    for name in ("study.toml", "study.txt", "others/mine.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert completed(f"run {tmp_path}/") == [f"{tmp_path}/others/", f"{tmp_path}/study.toml"]
    assert completed(f"run {tmp_path}/others/m") == [f"{tmp_path}/others/mine.toml"]


@pytest.mark.slow
def test_a_file_of_further_presets_is_no_strategy_to_complete() -> None:
    assert set(completed("run -s lwf")) == {"lwf", "lwf_mc"}


def test_recipes_are_those_of_the_scenario_that_is_typed() -> None:
    assert "survey2024" not in completed("run -S splitdigits --recipe s")


def test_hyper_parameters_are_those_of_the_strategies_that_are_typed() -> None:
    assert not any(word.startswith("ewc.") for word in completed("run -s lwf --set "))
