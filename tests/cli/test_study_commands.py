"""`clbench run study.toml`, `--save-study`, `--dry-run` and `clbench init`, as they are typed."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from clbench.cli import program
from clbench.results.run_spec import RunSpec, folder_name
from clbench.results.stored_runs import read_all


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Command = Callable[..., Done]

STUDY = """
strategy = ["naive", "l2"]
scenario = "splitdigits"
epochs = 1
device = "cpu"

[[grid]]
split = 2

[[grid]]
strategy = "naive"
split = 1
"""


@pytest.fixture
def command(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, in an empty folder."""
    monkeypatch.setenv("CLBENCH_DATA", str(data))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["clbench", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            program.main()
        streams = capsys.readouterr()
        return Done(int(ended.value.code or 0), streams.out, streams.err)

    return call


@pytest.mark.slow
def test_a_study_runs_all_its_grids_with_one_count_and_compares_each(command: Command) -> None:
    Path("study.toml").write_text(STUDY)
    done = command("run", "study.toml")
    assert done.code == 0 and "[3/3]" in done.err
    runs, _ = read_all(["results"])
    made = {(run.spec.strategy.name, run.spec.scenario.classes_per_experience) for run in runs}
    assert made == {("naive", (5, 5)), ("l2", (5, 5)), ("naive", (10,))}
    assert "2×5 classes" in done.out and "1×10 classes" in done.out
    again = command("run", "study.toml", "--jobs", "2")
    assert again.code == 0 and again.err.count("already done, skipped") == 3


def test_all_grids_are_checked_before_anything_is_trained(command: Command) -> None:
    Path("study.toml").write_text(STUDY + "\n[[grid]]\nsplit = 3\n")
    done = command("run", "study.toml")
    assert done.code == 2 and "study.toml, line 15: 10 classes do not divide into 3" in done.err
    assert not Path("results").exists()


def test_options_that_the_study_says_are_refused_beside_it(command: Command) -> None:
    Path("study.toml").write_text(STUDY)
    for options in (["--seeds", "1"], ["-s", "lwf"], ["--set", "lwf.alpha=2", "--epochs", "1"], ["--split", "2"]):
        done = command("run", "study.toml", *options, "--dry-run")
        assert (done.code, done.out) == (2, "") and "study.toml says what to run; change it there" in done.err
        assert "--jobs" in done.err and "--out" in done.err


def test_options_of_the_machine_are_taken_beside_it(command: Command) -> None:
    Path("study.toml").write_text(STUDY)
    done = command("run", "study.toml", "--out", "mine", "--jobs", "2", "--threads", "2", "--dry-run", "--json")
    specs = json.loads(done.out)
    assert [spec["threads"] for spec in specs] == [2, 2, 2]
    assert all(spec["planned"]["run"].startswith("mine/") for spec in specs)


def test_a_command_without_strategies_or_a_study_is_told_of_both(command: Command) -> None:
    done = command("run")
    assert done.code == 2 and "--strategy/-s and --scenario/-S must be given, or a study" in done.err
    assert "clbench run -s lwf -S splitdigits" in done.err and "clbench init" in done.err
    assert "named by options" in command("run", "lwf").err
    assert "there is no file mine.toml" in command("run", "mine.toml").err
    Path("study.toml").write_text(STUDY)
    assert "'mine.toml'" in command("run", "study.toml", "mine.toml").err


# -- dry run ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dry_run_counts_the_runs_and_says_what_is_known_of_their_time(command: Command) -> None:
    Path("study.toml").write_text(STUDY)
    done = command("run", "study.toml", "--dry-run")
    assert len(done.out.splitlines()) == 3
    assert "3 runs: 0 done, 3 to do. How long they take is unknown: no run stored in results is like these." in done.err
    assert command("run", "study.toml").code == 0
    Path("study.toml").write_text("seeds = 2\n" + STUDY)
    done = command("run", "study.toml", "--dry-run")
    assert [line.split()[1:] for line in done.out.splitlines()].count(["done"]) == 3
    assert "6 runs: 3 done, 3 to do. About " in done.err and "from 3 runs in results like these." in done.err


@pytest.mark.slow
def test_a_dry_run_as_json_has_the_specs_with_what_is_known_of_each_run(command: Command) -> None:
    small = ("-S", "splitdigits", "--split", "2", "--epochs", "1", "--device", "cpu")
    assert command("run", "-s", "naive", *small).code == 0
    planned = json.loads(command("run", "-s", "naive,l2", *small, "--seeds", "2", "--dry-run", "--json").out)
    known = [spec.pop("planned") for spec in planned]
    assert [(each["done"], each["from_stored_runs"]) for each in known] == [
        (True, 0),
        (False, 0),
        (False, 1),
        (False, 0),
    ]
    assert known[2]["expected_seconds"] > 0 and known[1]["expected_seconds"] is None
    names = [f"results/{folder_name(RunSpec.model_validate(spec))}" for spec in planned]
    assert names == [each["run"] for each in known]


def test_a_dry_run_of_a_search_says_how_many_runs_follow(command: Command) -> None:
    words = ("-S", "splitdigits", "--epochs", "1", "--device", "cpu", "--seeds", "3", "--dry-run")
    done = command("run", "-s", "lwf", *words, "--tune", "grid", "--set", "lwf.alpha=1,2")
    assert "4 of these are trials; 3 runs follow from what they choose." in done.err
    assert "4 runs: 0 done, 4 to do." in done.err
    assert all(line.startswith("results/.tuning/") for line in done.out.splitlines())


# -- writing studies --------------------------------------------------------------------------------------------------

LINES = [
    "-s naive,lwf:pycil -S splitdigits --seeds 3 --set lwf:pycil.temperature=3 --set recipe.lr=0.05",
    "-s lwf -S splitdigits --split 4,3,3 --class-order 9,8,7,6,5,4,3,2,1,0 --epochs 2 --set alpha=2.0",
    "-s ewc:vandeven2019,joint -S splitdigits --setting task --seed 7 --threads 2 --device cpu",
    "-s lwf -S splitdigits --tune grid --set lwf.alpha=1,2.0 --set recipe.batch_size=64 --set recipe.lr=0.1,1e-2",
    "-s naive -S splitdigits --network cnn --weights none --set network.train=head --keep-networks last --seeds 0,4",
    "-s naive,lwf -S splitdigits --tune chf --recipe standard --split 2 --class-order natural",
    "-s naive -S splitdigits --set recipe.schedule=milestones --set recipe.milestones=2,3 --set recipe.head=fixed",
]


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_a_saved_study_plans_the_very_same_runs(command: Command, line: str) -> None:
    typed = command("run", *line.split(), "--dry-run", "--save-study", "folder/mine.toml")
    assert typed.code == 0 and "folder/mine.toml contains this study" in typed.err
    saved = command("run", "folder/mine.toml", "--dry-run")
    assert typed.out and (saved.code, saved.out) == (0, typed.out)


def test_the_commands_that_are_printed_for_a_new_study_can_be_pasted(command: Command) -> None:
    made = command("init", "my studies/first.toml").out
    words = ("run", "-s", "naive", "-S", "splitdigits", "--dry-run")
    saved = command(*words, "--save-study", "my studies/second.toml").err
    printed = [line.partition(": clbench ")[2] for line in (made + saved).splitlines() if ": clbench run" in line]
    assert [shlex.split(line)[:2] for line in printed] == [
        ["run", "my studies/first.toml"],
        ["run", "my studies/first.toml"],
        ["run", "my studies/second.toml"],
    ]
    assert "clbench run 'my studies/first.toml' --dry-run\n" in Path("my studies/first.toml").read_text()


@pytest.mark.slow
def test_a_saved_study_is_written_once_all_is_checked_and_then_run(command: Command) -> None:
    words = ("run", "-s", "naive", "-S", "splitdigits", "--epochs", "1", "--device", "cpu", "--save-study", "mine.toml")
    assert command(*words, "--split", "3").code == 2 and not Path("mine.toml").exists()
    assert command(*words, "--split", "2").code == 0
    assert Path("mine.toml").exists() and len(read_all(["results"])[0]) == 1
    refused = command(*words, "--split", "1")
    assert refused.code == 2 and "mine.toml exists already" in refused.err
    assert len(read_all(["results"])[0]) == 1
    assert "is a study" in command("run", "mine.toml", "--save-study", "other.toml").err


@pytest.mark.slow
def test_init_writes_a_study_that_runs_and_overwrites_nothing(command: Command) -> None:
    done = command("init")
    assert done.code == 0 and "clbench run study.toml --dry-run" in done.out
    assert len(command("run", "study.toml", "--dry-run").out.splitlines()) == 6
    text = Path("study.toml").read_text()
    assert command("init").code == 2 and Path("study.toml").read_text() == text
    assert (
        command("init", "folder/mine.toml").code == 0
        and "clbench run folder/mine.toml" in Path("folder/mine.toml").read_text()
    )
    assert command("init", "mine").code == 2
