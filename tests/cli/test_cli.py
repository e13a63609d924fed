"""The command and its Python twin: exit codes, what goes to which stream, and what a bad strategy cannot do."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from rich.console import Console
from stored_runs import fail, publish

import clbench
from clbench.cli import program
from clbench.cli.plugins import list_
from clbench.data.feature_cache import open_features
from clbench.errors import PluginError, UsageError
from clbench.plugins.discovery import discover
from clbench.results import manifests
from clbench.results.store import ResultsFolder
from clbench.system.signals import Interrupted, Interruption

STRATEGY = '''"""Fine-tuning, with a place for mischief."""

import os
import signal
import sys

import torch

import clbench
from clbench import losses

{top}


class Mine(clbench.Strategy):
    def loss(self, batch):
        loss = losses.cross_entropy(batch.logits, batch.y)
        {loss}
        return loss

    def after_experience(self, model, experience):
        {after}
'''
SMALL = ["-S", "splitdigits", "--split", "2", "--epochs", "1", "--threads", "1", "--device", "cpu"]
SMALL_ARGUMENTS: dict[str, Any] = {"scenario": "splitdigits", "split": "2", "epochs": 1, "threads": 1, "device": "cpu"}


COMMANDS = (
    *("run", "init", "compare", "reproduce", "profile", "report", "show", "check", "doctor", "list", "data", "new"),
    *("train", "extend", "export", "predict"),
    *("pack", "unpack", "export-table", "data list", "data fetch", "data import", "data verify", "data clean"),
    *("new strategy", "new scenario", "new network"),
)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def here(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; the data folder has the digits."""
    monkeypatch.setenv("CLBENCH_DATA", str(data))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, which has imported torch already."""

    def call(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["clbench", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            program.main()
        streams = capsys.readouterr()
        return Done(int(ended.value.code or 0), streams.out, streams.err)

    return call


def write(folder: Path, name: str, *, top: str = "", loss: str = "pass", after: str = "pass") -> Path:
    path = folder / "strategies" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(STRATEGY.format(top=top, loss=loss, after=after))
    return path


def process(folder: Path, *arguments: str, data: Path) -> Done:
    """The command in a process of its own."""
    environment = {**os.environ, "CLBENCH_DATA": str(data)}
    done = subprocess.run(
        [sys.executable, "-m", "clbench", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A working folder with a strategy of its own, run beside naive on two seeds, and what the command said."""
    folder = tmp_path_factory.mktemp("grid")
    write(folder, "mine", top="print('noise at import')", loss="print('noise in training'); loss = 2 * loss")
    done = process(folder, "run", "-s", "mine,naive", *SMALL, "--seeds", "2", data=data)
    assert done.code == 0, done.err
    (folder / "said.out").write_text(done.out)
    (folder / "said.err").write_text(done.err)
    return folder


@pytest.fixture
def home(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder beside the working folder, with a strategy in it."""
    folder = here / "home"
    folder.mkdir()
    write(folder, "mine")
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_the_home_folder_may_be_written_as_the_shell_leaves_it(command: Command, here: Path, home: Path) -> None:
    done = command("run", "--strategy=naive,~/strategies/mine.py", *SMALL, "--out=~/results", "--save-study=~/s.toml")
    assert done.code == 0, done.err
    assert (home / "s.toml").is_file()
    assert len(run_folders(home / "results")) == 2
    assert command("compare", "~/results").code == 0
    assert command("report", "~/results", "--out=~/page").code == 0 and (home / "page" / "index.html").is_file()
    assert command("show", "~/strategies/mine.py").code == 0
    assert [path.name for path in here.iterdir()] == ["home"]


def test_the_home_folder_may_be_written_in_arguments_from_python(here: Path, home: Path) -> None:
    (home / "order.txt").write_text("\n".join(map(str, reversed(range(10)))))
    clbench.run("~/strategies/mine.py", out="~/results", class_order="~/order.txt", **SMALL_ARGUMENTS)
    assert len(run_folders(home / "results")) == 1
    assert clbench.load("~/results")["strategy"].unique().tolist() == ["mine"]
    assert clbench.report("~/results", out="~/page") == home / "page" / "index.html"
    assert [path.name for path in here.iterdir()] == ["home"]


def test_a_home_folder_of_nobody_is_a_name_like_others(command: Command, here: Path, home: Path) -> None:
    done = command("compare", "~nobody-of-this-name/results")
    assert (done.code, done.out) == (2, "") and "there is no folder or pack ~nobody" in done.err
    assert command("data", "list", "--data", "~nobody-of-this-name/data").code == 0


LONG = 300 * "a"
"""Longer than a name in a folder may be."""


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["run", "-s", "naive", "-S", "PATH"], "there is no scenario file PATH", 2),
        (["run", "-s", "naive", "-S", "PATH.npz"], "there is no scenario file PATH.npz", 2),
        (["run", "-s", "PATH.py", "-S", "splitdigits"], "there is no strategy file PATH.py", 2),
        (["run", "-s", "naive", "-S", "splitdigits", "--network", "PATH.py"], "there is no network file PATH.py", 2),
        (["run", "-s", "naive", "-S", "splitdigits", "--weights", "PATH.pt"], "there is no weights file PATH.pt", 3),
        (["run", "PATH.toml"], "there is no file PATH.toml", 2),
        (["run", "PATH"], "'PATH': strategies and scenarios are named by options", 2),
        (["init", "PATH.toml"], "cannot write PATH.toml", 4),
        (["show", "PATH.py"], "there is no strategy file PATH.py", 2),
        (["compare", "PATH"], "there is no folder or pack PATH", 2),
        (["report", "PATH"], "there is no folder or pack PATH", 2),
        (["predict", "PATH", "photo.png"], "there is no image or folder photo.png", 2),
        (["predict", "PATH", "PATH.png"], "there is no image or folder PATH.png", 2),
        (["export", "PATH", "--to", "onnx"], "there is no folder PATH", 2),
        (["train", "--images", "PATH", "--network", "mlp", "--out", "model"], "PATH does not exist", 3),
        (["train", "--images", ".", "--network", "mlp", "--out", "PATH"], "cannot write to PATH", 4),
        (["data", "import", "mine", "PATH"], "PATH does not exist", 3),
    ],
)
@pytest.mark.parametrize("kind", ["too long", "locked"])
def test_what_can_be_no_path_or_may_not_be_looked_at_is_not_there(
    kind: str, arguments: list[str], said: str, code: int, command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = here / (LONG if kind == "too long" else "locked/mine")
    if kind == "locked":  # in a folder that one may not enter, as all are to root
        stat, write = Path.stat, Path.open

        def refuse(path: Path) -> None:
            if path.parent.name == "locked":
                raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "stat", lambda self, **how: refuse(self) or stat(self, **how))
        monkeypatch.setattr(Path, "open", lambda self, *how, **more: refuse(self) or write(self, *how, **more))
    done = command(*(word.replace("PATH", str(path)) for word in arguments))
    assert done.code == code
    assert said.replace("PATH", str(path)) in done.err.replace("\n", "")
    assert "Traceback" not in done.err


def test_a_pack_that_cannot_be_written_is_a_machine_error(command: Command, grid: Path) -> None:
    done = command("pack", str(grid / "results"), f"{LONG}.zip")
    assert done.code == 4 and f"cannot write {LONG}.zip" in done.err.replace("\n", "")


def test_no_datasets_are_in_a_data_folder_that_can_be_none(command: Command) -> None:
    assert command("data", "list", "--data", LONG).code == 0


def run_folders(results: Path) -> list[Path]:
    return sorted(path.parent for path in results.glob("*/*/*/MANIFEST.json"))


def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())  # type: ignore[no-any-return]


def weights(run: Path) -> list[str]:
    return [entry["weights_sha256"] for entry in result(run)["experiences"]]


def failure(here: Path, strategy: str) -> tuple[dict[str, Any], str]:
    """The result and the traceback of the one failed run of the strategy."""
    (run,) = (here / "results" / ".failed" / "splitdigits" / strategy).iterdir()
    return result(run), (run / "traceback.txt").read_text()


# -- light commands ---------------------------------------------------------------------------------------------------

WITHOUT_TORCH = """
import sys
from clbench.cli.program import main
code = 0
try:
    main()
except SystemExit as ended:
    code = ended.code or 0
loaded = {name.partition(".")[0] for name in sys.modules} & {"torch", "torchvision", "avalanche"}
sys.exit(f"imported {sorted(loaded)}" if loaded else code)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["--version"],
        ["list", "--json"],
        ["list", "runs"],
        ["show", "lwf"],
        ["compare"],
        ["data", "list"],
    ],
    ids=" ".join,
)
def test_what_trains_nothing_imports_neither_torch_nor_avalanche(grid: Path, data: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        cwd=grid,
        env={**os.environ, "CLBENCH_DATA": str(data)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_importing_clbench_imports_neither_torch_nor_avalanche() -> None:
    code = "import clbench, sys; sys.exit('torch' in sys.modules or 'avalanche' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=300).returncode == 0


def test_a_list_as_json_has_a_row_for_each_plugin_and_says_which_are_broken(command: Command, here: Path) -> None:
    write(here, "mine")
    (here / "strategies" / "bad.py").write_text("def (:\n")
    done = command("list", "--json")
    listed = json.loads(done.out)
    assert set(listed) == {"strategies", "scenarios", "networks", "streams"}
    rows = {row["name"]: row for row in listed["strategies"]}
    assert {"naive", "lwf", "l2", "joint", "frozen", "mine", "bad"} <= set(rows)
    assert (
        rows["mine"]["what"] == "Fine-tuning, with a place for mischief." and rows["mine"]["from"] == "working folder"
    )
    assert rows["bad"]["what"].startswith("broken: SyntaxError in line 1")
    assert {"splitdigits", "splitmnist", "splitcifar10"} <= {row["name"] for row in listed["scenarios"]}


def test_a_list_for_people_has_the_same_names(command: Command) -> None:
    done = command("list", "strategies")
    assert done.code == 0 and "naive" in done.out and "splitdigits" not in done.out
    assert "splitcifar" in command("list", "scenarios").out


def test_a_list_of_80_columns_has_each_plugin_in_few_lines(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here, "mine")
    monkeypatch.setattr("clbench.cli.plugins.terminal", lambda: Console(width=80))
    list_("strategies")
    lines = capsys.readouterr().out.partition("\nDetails")[0].splitlines()
    assert all(len(line) <= 80 for line in lines) and len(lines) < 3 * len(discover("strategy"))
    shown = " ".join(" ".join(lines).split())
    assert "Presets: hsu2018." in shown and "with a place for mischief. (working folder)" in shown
    assert "built-in" not in shown


def test_show_tells_every_hyper_parameter_with_its_range_and_default(command: Command) -> None:
    done = command("show", "lwf")
    assert (
        "lwf.temperature: float > 0, default 2.0" in done.out
        and "lwf.alpha: float ≥ 0, default 1.0" in done.out
        and "Li & Hoiem" in done.out
    )
    shown = json.loads(command("show", "splitcifar", "--json").out)
    assert shown["name"] == "splitcifar10" and "quick" in shown["recipes"]


# -- usage errors -----------------------------------------------------------------------------------------------------

RUN = ["run", "-s", "naive", "-S", "splitdigits", "--threads", "1", "--device", "cpu"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "-s", "niave", "-S", "splitdigits"], "did you mean 'naive'"),
        (["run", "-s", "naive", "-S", "splitdigit"], "did you mean 'splitdigits'"),
        (["run", "-s", "naive,naive", "-S", "splitdigits"], "named twice"),
        (["run", "-s", "naive,", "-S", "splitdigits"], "a strategy is missing next to a comma"),
        (["run", "-s", ",", "-S", "splitdigits"], "no strategy is named"),
        (["run", "-s", "naive"], "--scenario"),
        ([*RUN, "--recipe", "quik"], "did you mean 'quick'"),
        ([*RUN, "--set", "alpha=1"], "naive has no hyper-parameter 'alpha'"),
        ([*RUN, "--set", "alpha"], "STRATEGY.NAME=VALUE"),
        ([*RUN, "--set", "=1"], "STRATEGY.NAME=VALUE"),
        ([*RUN, "--set", "lwf.alpha=1"], "strategy 'lwf' is not among those to run"),
        ([*RUN, "--set", "recpe.lr=1"], "strategy 'recpe' is not among those to run; did you mean 'recipe'?"),
        ([*RUN, "--set", "recpe.first.lr=1"], "did you mean 'recipe'?"),
        ([*RUN, "--set", "netwrok.units=1"], "did you mean 'network'?"),
        ([*RUN[:2], "lwf", *RUN[3:], "--set", "alhpa=1"], "did you mean 'alpha'"),
        ([*RUN[:2], "lwf", *RUN[3:], "--set", "alpha=-1"], "lwf.alpha must be"),
        ([*RUN[:2], "lwf", *RUN[3:], "--set", "temperature=0"], "lwf.temperature must be"),
        ([*RUN[:2], "lwf", *RUN[3:], "--set", "alpha=nan"], "lwf.alpha must be"),
        ([*RUN[:2], "lwf", *RUN[3:], "--set", "alpha=much"], "lwf.alpha must be"),
        ([*RUN[:2], "lwf", *RUN[3:], "--set", "alpha=1", "--set", "alpha=2"], "given twice"),
        ([*RUN[:2], "lwf", *RUN[3:], "--set", "alpha=1", "--set", "lwf.alpha=2"], "alpha"),
        ([*RUN[:2], "lwf,l2", *RUN[3:], "--set", "alpha=1"], "name the strategy, for example"),
        ([*RUN, "--split", "3"], "--split 4+2x3"),
        ([*RUN, "--split", "4,3"], "covers 7 classes"),
        ([*RUN, "--class-order", "0,1,2"], "exactly once"),
        ([*RUN, "--class-order", "0 1,2,3"], "class order"),
        ([*RUN, "--seeds", "0"], "--seeds must be"),
        ([*RUN, "--seeds", "-1,"], "--seeds"),
        ([*RUN, "--seeds", "1,1"], "none twice"),
        ([*RUN, "--seeds", "4294967296,"], "seed 4294967296 is not between"),
        ([*RUN, "--epochs", "0"], "epochs"),
        ([*RUN, "--epochs", "many"], "--epochs"),
        ([*RUN[:5], "--threads", "0"], "--threads must be"),
        ([*RUN, "--jobs", "0"], "--jobs must be"),
        ([*RUN[:5], "--device", "cudaa"], "did you mean 'cuda'"),
        ([*RUN[:5], "--device", "gpu"], "--device cuda"),
        ([*RUN, "--sead", "1"], "--seeds"),
        ([*RUN, "--epochs", "1", "--epochs", "2"], "--epochs is given 2 times"),
        ([*RUN, "--seed", "3", "--seeds", "5"], "--seed and --seeds are both given"),
        ([*RUN, "--seeds", "0"], "--seeds 0,"),
        ([*RUN, "--lr", "0.1"], "--set recipe.lr=VALUE"),
        ([*RUN, "--batch-size", "8"], "--set recipe.batch_size=VALUE"),
        ([*RUN, "--alpha", "2"], "--set STRATEGY.alpha=VALUE"),
        ([*RUN, "--learning-rate", "0.1"], "--set recipe.lr=VALUE"),
        ([*RUN, "--buffer-size", "100"], "--set STRATEGY.memory=VALUE"),
        ([*RUN, "--experiences", "5"], "--split N"),
        ([*RUN, "--dataset", "mnist"], "--scenario NAME"),
        ([*RUN, "--gpu"], "--device cuda"),
        ([*RUN, "--class_order", "natural"], "It is written --class-order"),
        (["compare", "--lr", "0.1"], "No such option: --lr"),
        ([*RUN, "--set", "split=2"], "--split 2"),
        ([*RUN, "--set", "seed=3"], "--seed 3"),
        ([*RUN, "--set", "lr=0.1"], "--set recipe.lr=0.1"),
        ([*RUN, "--set", "naive.lr=0.1"], "naive has no hyper-parameter 'lr'"),
        ([*RUN[:2], "lwf", *RUN[3:], "--set", "alpha=1,2"], "add --tune grid"),
        ([*RUN, "--set", "recipe.lr=0.1,0.2"], "add --tune grid"),
        ([*RUN, "--split", ""], "--split is given without a value"),
        ([*RUN, "--out", ""], "--out is given without a value"),
        ([*RUN, "--recipe", " "], "--recipe is given without a value"),
        (["run", "-s", "naive", "-S", ""], "--scenario/-S is given without a value"),
        (["run", "-s", "naive", "-S", "splitdigits,"], "a scenario is missing next to a comma"),
        (["export", "model"], "For example: clbench export results/splitdigits/lwf --to onnx"),
        (["compare", ""], "RESULTS is given without a value"),
        ([*RUN, "--share", "--no-share"], "--share and --no-share are both given"),
        ([*RUN, "--dry-run", "--gpus-per-run", "2"], "--gpus-per-run is for --on ray"),
        ([*RUN, "--dry-run", "--allow-mixed"], "--allow-mixed is for --on ray and --on slurm"),
        ([*RUN, "--dry-run", "--on", "lokal"], "did you mean 'local'"),
        ([*RUN, "--dry-run", "--on", "slurm:cluster=lokal"], "it must be slurm or local"),
        (["reproduce", "--list", "--seeds", "3"], "--seeds: nothing is run with --list"),
        (["reproduce", "--jobs", "2"], "--jobs: no protocol is named"),
        (["reproduce", "hsu2018", "--method", "nothing"], "no published cell with method 'nothing'"),
        (["run", "lwf", "splitdigits"], "clbench run -s lwf -S splitdigits"),
        (["lits"], "list"),
        (["list", "strategeis"], "did you mean 'strategies'"),
        (["list", "recipes"], "runs) The recipes of each scenario: clbench list scenarios"),
        (["show", "lfw"], "did you mean 'lwf'"),
        (["compare", "nowhere"], "no folder or pack nowhere"),
        (["compare", "."], "no runs in"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_in_the_command_ends_with_2_and_says_what_is_meant_before_anything_is_done(
    command: Command, here: Path, arguments: list[str], said: str
) -> None:
    done = command(*arguments)
    assert (done.code, done.out) == (2, ""), done.err
    assert said in " ".join(done.err.split()) and "Traceback" not in done.err
    assert list(here.iterdir()) == []


def test_the_usage_line_of_every_command_is_balanced(command: Command) -> None:
    """Typer writes required arguments in braces, and those that may repeat with dots behind."""
    for name in ("unpack", "predict", "pack", "init", "extend"):
        usage = command(name, "--help").out.split("\n\n")[0]
        assert re.fullmatch(r"Usage: [\w. -]*\[OPTIONS\]( \[?[\w.]+\]?(\.\.\.)?)+", " ".join(usage.split())), usage


@pytest.mark.slow
def test_a_process_ends_with_the_exit_code_and_its_message_goes_to_standard_error(here: Path, data: Path) -> None:
    done = process(here, "run", "-s", "niave", "-S", "splitdigits", data=data)
    assert (done.code, done.out) == (2, "")
    assert "did you mean 'naive'" in done.err


def test_cuda_where_there_is_none_ends_with_4_and_never_runs_on_the_cpu(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = command("run", "-s", "naive", "-S", "splitdigits", "--device", "cuda")
    assert (done.code, done.out) == (4, "") and "no CUDA device" in done.err
    assert list(here.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("content", ["def (:\n", "1 / 0\nimport clbench\nclass A(clbench.Strategy): pass\n"])
def test_a_broken_strategy_ends_with_5_where_it_is_asked_for_and_only_there(
    command: Command, here: Path, content: str
) -> None:
    path = write(here, "bad")
    path.write_text(content)
    done = command("run", "-s", "bad", "-S", "splitdigits")
    assert (done.code, done.out) == (5, "")
    assert str(path) in done.err and "line 1" in done.err and "Traceback" not in done.err
    assert command("list").code == 0
    assert command("run", "-s", "naive", *SMALL, "--dry-run").code == 0


@pytest.mark.parametrize("mischief", ["raise SystemExit(0)", "return 1 / 0"])
def test_a_strategy_whose_answers_to_planning_fail_ends_with_5(command: Command, here: Path, mischief: str) -> None:
    """SystemExit ended the command with 0 and without a word, and all else was a traceback."""
    path = here / "strategies" / "bad.py"
    path.parent.mkdir()
    path.write_text(
        "import clbench\nclass Bad(clbench.Strategy):\n    @classmethod\n"
        f"    def needs_passes(cls, config): {mischief}\n    def loss(self, batch): return batch.cross_entropy()\n"
    )
    done = command("run", "-s", "bad", "-S", "splitdigits", "--stream", "online", "--dry-run")
    assert (done.code, done.out) == (5, "")
    assert "strategy bad cannot be planned" in done.err and "Traceback" not in done.err


# -- planning ---------------------------------------------------------------------------------------------------------


def test_a_dry_run_lists_the_runs_and_neither_trains_nor_writes(command: Command, here: Path) -> None:
    done = command("run", "-s", "naive,l2", *SMALL, "--seeds", "0,3", "--dry-run")
    assert done.code == 0
    names = [line.split()[0] for line in done.out.splitlines()]
    assert [name.rpartition("-")[0] for name in names] == [
        f"results/splitdigits/{strategy}/quick-epochs1-seed{seed}" for seed in (0, 3) for strategy in ("naive", "l2")
    ]
    assert all(line.endswith("to do") for line in done.out.splitlines())
    assert list(here.iterdir()) == []


def test_a_dry_run_with_a_search_lists_the_runs_of_strategies_that_have_nothing_to_tune(command: Command) -> None:
    done = command("run", "-s", "naive,lwf", *SMALL, "--seeds", "2", "--tune", "grid", "--dry-run")
    final = [line for line in done.out.splitlines() if not line.startswith("results/.tuning/splitdigits/lwf/")]
    assert [line.split("-")[0] for line in final] == ["results/splitdigits/naive/quick"] * 2
    assert "8 of these are trials; 2 runs follow" in done.err and done.err.count("nothing to tune") == 1


def test_a_dry_run_of_many_seeds_lists_ten_class_orders(command: Command) -> None:
    lines = command("run", "-s", "naive,l2", *SMALL, "--seeds", "50", "--dry-run").err.splitlines()
    assert sum("classes:" in line for line in lines) == 10
    assert "… and 40 more class orders; --json has all" in lines


def test_a_dry_run_says_which_runs_go_on_from_a_checkpoint(command: Command, here: Path) -> None:
    write(here, "mine", loss="batch.experience.index == 1 and os.kill(os.getpid(), signal.SIGINT)")
    assert command("run", "-s", "mine", *SMALL).code == 130
    done = command("run", "-s", "mine", *SMALL, "--seeds", "2", "--dry-run")
    assert [line.partition("  ")[2] for line in done.out.splitlines()] == ["to resume", "to do"]
    assert "2 runs: 0 done, 2 to do, 1 of them to resume." in done.err


def test_ctrl_c_is_a_keyboard_interrupt_in_python_and_finished_work_is_kept(here: Path) -> None:
    write(here, "mine", loss="os.path.exists('go on') or os.kill(os.getpid(), signal.SIGINT)")
    study = here / "study.toml"
    study.write_text('strategy = ["naive", "mine"]\nscenario = "splitdigits"\nsplit = "2"\nepochs = 1\n')
    with pytest.raises(KeyboardInterrupt):
        clbench.run(["naive", "mine"], **SMALL_ARGUMENTS)
    assert len(run_folders(here / "results")) == 1
    with pytest.raises(KeyboardInterrupt):
        clbench.run_study(study, device="cpu", threads=1)
    (here / "go on").touch()
    assert len(clbench.run_study(study, device="cpu", threads=1)) == 2


def test_sigterm_is_no_keyboard_interrupt(here: Path) -> None:
    write(here, "mine", loss="os.kill(os.getpid(), signal.SIGTERM)")
    with pytest.raises(Interrupted) as stopped:
        clbench.run("mine", **SMALL_ARGUMENTS)
    assert stopped.value.exit_code == 143


@pytest.mark.slow
def test_strategies_may_be_named_one_by_one_with_spaces_or_in_a_list(command: Command, here: Path) -> None:
    def planned(*arguments: str) -> str:
        return command("run", *arguments, *SMALL, "--dry-run").out

    listed = planned("-s", "lwf,naive")
    assert len(listed.splitlines()) == 2
    assert planned("-s", "lwf", "-s", "naive") == planned("-s", " lwf, naive ") == listed


def test_a_dry_run_says_which_classes_each_experience_brings(command: Command, here: Path) -> None:
    done = command(
        "run", "-s", "naive", "-S", "splitdigits", "--split", "8+2x1", "--class-order", "natural", "--dry-run"
    )
    assert "classes: 0 1 2 3 4 5 6 7 | 8 | 9" in done.err
    words = ["--stream", "data_incremental", "--set", "stream.experiences=3", "--class-order", "natural"]
    done = command("run", "-s", "naive", "-S", "splitdigits", *words, "--dry-run")
    assert "classes: 0 1 2 3 4 5 6 7 8 9 | – | –" in done.err


def test_a_dry_run_of_a_folder_that_is_not_imported_does_not_call_it_done(command: Command, here: Path) -> None:
    for label in ("cat", "dog"):
        (here / "pets" / label).mkdir(parents=True)
        for number in range(2):
            PIL.Image.new("RGB", (8, 8), (number, 0, 0)).save(here / "pets" / label / f"{number}.png")
    done = command("run", "-s", "naive", "-S", "pets/", "--dry-run")
    assert (done.code, done.out) == (0, "")
    assert done.err == "pets/ is imported when it is first run; until then its runs cannot be listed\n"


@pytest.mark.slow
def test_a_dry_run_downloads_nothing_and_says_what_is_missing(here: Path, tmp_path: Path) -> None:
    data = tmp_path / "nothing"
    done = process(here, "run", "-s", "naive", "-S", "splitcifar10", "--dry-run", data=data)
    assert done.code == 0 and "cifar10 is not in" in done.err and "171 MB" in done.err
    assert done.out.endswith("quick-seed0-…  to do\n") and not data.exists()


def test_a_dry_run_refuses_an_output_folder_that_the_run_would_refuse(command: Command, here: Path) -> None:
    (here / "file").touch()
    for out in ("file", "file/results"):
        done = command("run", "-s", "naive", *SMALL, "--dry-run", "--out", out)
        assert (done.code, done.out) == (4, "") and "file" in done.err


def test_one_seed_is_that_seed(command: Command, here: Path) -> None:
    for seed in ("1993", "0"):  # 0 is the first task of a job array
        (line,) = command("run", "-s", "naive", *SMALL, "--seed", seed, "--dry-run").out.splitlines()
        assert f"seed{seed}-" in line


@pytest.mark.slow
def test_very_many_seeds_are_remarked_on(command: Command, here: Path) -> None:
    done = command("run", "-s", "naive", *SMALL, "--seeds", "1993", "--dry-run")
    assert len(done.out.splitlines()) == 1993 and "--seed 1993" in done.err


@pytest.mark.slow
def test_every_help_has_an_example(command: Command) -> None:
    for name in COMMANDS:
        assert f"Example: clbench {name}" in " ".join(command(*name.split(), "--help").out.split())
    assert "Example: clbench run" in command("--help").out


@pytest.mark.slow
def test_help_of_80_columns_cuts_no_sentence_and_names_no_python_type(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("", *COMMANDS):
        said = command(*name.split(), "--help").out
        commands = said.partition("Commands:")[2]
        assert "..." not in commands and not re.search(r"<\w+[\]>]|[{}]", said), said


def test_a_missing_option_is_named_with_an_example(command: Command) -> None:
    done = command("run", "-s", "lwf")
    assert done.code == 2 and "--scenario/-S must be given" in done.err and "-S splitdigits" in done.err
    assert "--strategy/-s and --scenario/-S must be given" in command("profile").err
    done = command("train", "--images", "photos", "--out", "model")
    assert "--network must be given" in done.err and "For example: clbench train --images photos/base" in done.err
    assert command("run", "--help").code == 0


def test_a_dry_run_as_json_gives_the_specs_and_only_them(command: Command, here: Path) -> None:
    write(here, "mine", top="print('noise at import')")
    done = command("run", "-s", "mine", *SMALL, "--dry-run", "--json")
    (spec,) = json.loads(done.out)
    assert spec["strategy"]["name"] == "mine" and spec["scenario"]["classes_per_experience"] == [5, 5]
    assert not (here / "results").exists()


def test_stored_features_are_listed_verified_and_cleaned(command: Command, here: Path) -> None:
    images = {part: np.zeros((count, 2, 2, 1), dtype=np.uint8) for part, count in (("train", 3), ("test", 1))}
    key = {"network": "flat", "size": 2, "dataset": "zeros"}
    folder, cpu = here / "data", torch.device("cpu")
    open_features(key, images, torch.nn.Flatten(), torch.Tensor.float, cpu, folder, lambda event: None, Interruption())
    table = command("data", "list", "--data", str(folder)).out
    assert re.search(r"^flat +2 +zeros +3 \+ 1 +4 ", table, re.MULTILINE)
    listed = json.loads(command("data", "list", "--json", "--data", str(folder)).out)
    assert [each["name"] for each in listed["datasets"]][:2] == ["digits", "mnist"]
    (entry,) = listed["features"]
    assert entry["entry"]["key"] == key and entry["problem"] is None

    assert re.fullmatch(
        r"features [0-9a-f]{8} \(flat on zeros\): intact\n", command("data", "verify", "--data", str(folder)).out
    )
    array = Path(entry["path"], "test.npy")
    array.write_bytes(array.read_bytes()[:-1] + b"\1")
    done = command("data", "verify", "--data", str(folder))
    assert done.code == 3 and "SHA-256 of test.npy" in done.out and "some features are damaged" in done.err

    assert command("data", "clean", "--data", str(folder)).code == 2
    assert Path(entry["path"]).exists()
    size = sum(path.stat().st_size for path in Path(entry["path"]).iterdir())
    cleaned = command("data", "clean", "--features", "--data", str(folder)).out
    assert cleaned == f"removed 1 entry of features, {size} B, from {folder}\n" and not Path(entry["path"]).exists()
    assert json.loads(command("data", "list", "--json", "--data", str(folder)).out)["features"] == []
    assert "removed 0 entries" in command("data", "clean", "--features", "--data", str(folder)).out


# -- whole runs -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_strategy_in_the_working_folder_runs_like_a_builtin_and_is_stored_whole(grid: Path) -> None:
    runs = run_folders(grid / "results")
    assert [run.relative_to(grid / "results").parts[:2] for run in runs] == [
        ("splitdigits", "mine"),
        ("splitdigits", "mine"),
        ("splitdigits", "naive"),
        ("splitdigits", "naive"),
    ]
    files = {"spec.json", "result.json", "predictions.npz", "environment.json", "costs.json", "MANIFEST.json"}
    assert all({path.name for path in run.iterdir()} == files for run in runs)
    assert all(result(run)["status"] == "finished" for run in runs)


@pytest.mark.slow
def test_progress_and_noise_go_to_standard_error_and_the_table_to_standard_output(grid: Path) -> None:
    out, err = (grid / "said.out").read_text(), (grid / "said.err").read_text()
    assert "forgetting" in out and "mine" in out and "naive" in out and "Stored in results/" in out
    assert "experience 1" in err and "noise in training" in err and "experience 1" not in out


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["noise at import", "noise in training"])
def test_what_a_strategy_prints_never_reaches_standard_output(grid: Path, noise: str) -> None:
    assert noise not in (grid / "said.out").read_text()
    assert noise in (grid / "said.err").read_text()


def test_a_run_as_json_puts_only_json_on_standard_output(command: Command, here: Path) -> None:
    write(here, "mine", loss="print('noise in training')")
    done = command("run", "-s", "mine", *SMALL, "--json")
    said = json.loads(done.out)
    (run,) = said["runs"]
    assert run["status"] == "finished" and (here / run["run"] / "result.json").is_file()
    assert said["comparisons"][0]["rows"][0]["strategy"] == "mine"


@pytest.mark.slow
def test_a_finished_run_is_skipped_and_its_files_are_not_touched(grid: Path, data: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(grid)
    before = {path: path.stat().st_mtime_ns for run in run_folders(grid / "results") for path in run.iterdir()}
    runs = clbench.run(["mine", "naive"], seeds=2, data=data, **SMALL_ARGUMENTS)
    assert len(runs) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(run_folders(grid / "results")) == 4


@pytest.mark.slow
def test_a_run_that_is_damaged_is_done_again_and_one_that_cannot_be_read_is_named_and_fails_the_command(
    command: Command, here: Path, data: Path
) -> None:
    line = ["run", "-s", "naive,frozen", *SMALL, "--jobs", "2"]
    assert command(*line[:-2]).code == 0
    frozen, naive = run_folders(here / "results")
    before = weights(frozen)
    (frozen / manifests.MANIFEST).write_bytes(b"[" * 100_000)  # damaged: done again
    (naive / "environment.json").write_bytes(b"[]")  # as its manifest says, but not a run
    files = {path.name: path.read_bytes() for path in naive.iterdir() if path.name != manifests.MANIFEST}
    (naive / manifests.MANIFEST).write_bytes(manifests.of(files))
    done = command(*line)
    assert done.code == 1 and re.search("naive/[^ ]* already done, skipped", done.err)
    assert weights(frozen) == before and "frozen" in done.out and "naive" not in done.out
    assert "1 of 2 runs is stored but cannot be read" in done.err
    assert re.search(rf"{naive.relative_to(here)}: its Environment is not valid", done.err)
    assert done.err.endswith("Remove its folder, then rerun the same command.\n")
    with pytest.raises(clbench.RunsFailed, match="1 of 2 runs is stored but cannot be read") as raised:
        clbench.run(["naive", "frozen"], data=data, **SMALL_ARGUMENTS)
    assert [run.path for run in raised.value.runs] == [frozen.relative_to(here)]
    shutil.rmtree(naive)
    assert command(*line).code == 0


def test_python_makes_the_runs_that_the_command_makes(grid: Path, data: Path, here: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(grid)
    (made,) = clbench.run("mine", seeds=[1], data=data, out=here / "out", **SMALL_ARGUMENTS)
    name = made.path.relative_to(here / "out")
    by_command = grid / "results" / name
    assert (made.path / "spec.json").read_bytes() == (by_command / "spec.json").read_bytes()
    assert made.result.run_id == result(by_command)["run_id"]
    assert weights(made.path) == weights(by_command)
    with np.load(made.path / "predictions.npz") as ours, np.load(by_command / "predictions.npz") as theirs:
        assert ours.files == theirs.files
        assert all((ours[key] == theirs[key]).all() for key in ours.files)


def test_load_gives_a_row_for_each_run_setting_evaluation_and_experience(grid: Path) -> None:
    frame = clbench.load(grid / "results")
    # 4 runs, 2 settings, 3 pairs (after, on) with on <= after
    assert len(frame) == 4 * 2 * 3
    assert set(frame["run"]) == {result(run)["run_id"] for run in run_folders(grid / "results")}
    assert set(zip(frame["after"], frame["on"], strict=True)) == {(0, 0), (1, 0), (1, 1)}
    assert (frame["accuracy"] == frame["correct"] / frame["total"]).all()
    for run in run_folders(grid / "results"):
        own = frame[(frame["run"] == result(run)["run_id"]) & (frame["setting"] == "class_incremental")]
        last = own[own["after"] == 1]
        final = result(run)["metrics"]["class_incremental"]["final_accuracy"]
        assert last["correct"].sum() / last["total"].sum() == pytest.approx(final)


@pytest.mark.slow
def test_compare_shows_the_stored_runs_strategy_by_strategy(grid: Path, command: Command) -> None:
    done = command("compare", str(grid / "results"), "--json")
    (comparison,) = json.loads(done.out)["comparisons"]
    rows = {row["strategy"]: row for row in comparison["rows"]}
    assert set(rows) == {"mine", "naive"} and all(row["seeds"] == [0, 1] for row in rows.values())
    finals = [
        result(run)["metrics"]["class_incremental"]["final_accuracy"] for run in run_folders(grid / "results")[2:]
    ]
    assert rows["naive"]["final_accuracy"]["mean"] == pytest.approx(sum(finals) / 2)
    table = command("compare", str(grid / "results")).out
    assert f"{100 * sum(finals) / 2:.1f} ±" in table


# -- report -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results with two sound runs, a damaged and a failed one, of which no figures are drawn."""
    monkeypatch.setattr("clbench.reporting.figures.all_figures", lambda comparison: [])
    for strategy in ("naive", "lwf", "spoilt"):
        made = publish(here / "results", strategy)
    (made.path / "spec.json").unlink()
    fail(here / "results", "lwf", 1, "KeyError: 'lost'")
    return here


def test_report_prints_where_the_page_is_and_on_standard_error_what_was_left_out(
    command: Command, stored_runs: Path
) -> None:
    done = command("report")
    assert (done.code, done.out) == (0, "reports/results/index.html: 2 runs in 1 comparison\n")
    damaged, failed = done.err.splitlines()
    assert damaged.startswith("Damaged, left out: tiny/spoilt/") and damaged.endswith("spec.json is missing")
    assert failed == "Failed, left out: lwf on tiny, seed 1: KeyError: 'lost'"
    assert (stored_runs / "reports" / "results" / "index.html").is_file()


@pytest.mark.slow
def test_a_bare_command_reads_ones_own_runs_and_says_which_results_folders_it_left_out(
    command: Command, here: Path
) -> None:
    publish(here / "results", "mine")
    publish(here / "results" / "reference", "theirs")
    for name in ("compare", "list runs", "report"):
        done = command(*name.split())
        assert done.code == 0 and f"clbench {name} results/reference" in done.err
        assert "theirs" not in done.out
    assert "theirs" not in (here / "reports" / "results" / "index.html").read_text()
    assert "mine" in command("compare").out
    assert "theirs" in command("compare", "results/reference").out
    assert {"mine", "theirs"} <= set(command("compare", "results").out.split())


def test_a_command_before_any_run_says_how_to_make_one(command: Command, here: Path) -> None:
    for name in ("compare", "list runs", "report"):
        done = command(*name.split())
        assert done.code == 2 and "no runs in results" in done.err and "clbench run -s naive,lwf" in done.err


def test_a_bare_command_without_runs_of_ones_own_says_so(command: Command, here: Path) -> None:
    publish(here / "results" / "reference", "theirs")
    done = command("report")
    assert done.code == 2 and "no runs in results" in done.err and "clbench report results/reference" in done.err


def test_report_takes_folders_names_and_a_place_and_python_does_the_same(command: Command, stored_runs: Path) -> None:
    chosen = ("results/tiny/naive", "results/tiny/lwf", "--out", "pages/x", "-s", "naive", "-S", "tiny")
    done = command("report", *chosen, "--recipe", "quick")
    assert (done.code, done.err) == (0, "") and done.out.startswith("pages/x/index.html: 1 run in")
    page = clbench.report("results/tiny/naive", out="pages/y", strategy="naive")
    assert page == Path("pages/y/index.html") and page.read_bytes() == Path("pages/x/index.html").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nowhere"], 2, "there is no folder or pack nowhere"),
        (["results/.work"], 2, "no runs in results/.work"),
        (["-s", "naif"], 2, "no stored run has the strategy 'naif'; did you mean 'naive'?"),
        (["--out", "results"], 4, "results contains something other than a report"),
        (["--out", "/proc/report"], 4, "cannot write /proc/report"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("stored_runs")
def test_report_ends_with_the_exit_code_of_what_is_wrong(
    command: Command, arguments: list[str], code: int, says: str
) -> None:
    done = command("report", *arguments)
    assert done.code == code and says in done.err and "Traceback" not in done.err


def test_list_runs_names_each_stored_run(grid: Path, command: Command) -> None:
    rows = json.loads(command("list", "runs", str(grid / "results"), "--json").out)
    assert {row["run"] for row in rows} == {str(run) for run in run_folders(grid / "results")}
    assert {row["status"] for row in rows} == {"finished"}


def test_list_runs_takes_folders_as_compare_does_and_the_other_lists_take_none(command: Command, here: Path) -> None:
    for folder, strategy in (("a", "naive"), ("b", "lwf"), ("results", "l2")):
        publish(here / folder, strategy)

    def listed(*folders: str) -> list[str]:
        return [row["run"].split("/")[2] for row in json.loads(command("list", "runs", *folders, "--json").out)]

    assert listed("a", "b") == ["naive", "lwf"] and listed() == ["l2"]
    refused = command("list", "scenarios", "a")
    assert (refused.code, refused.out) == (2, "") and "takes no folders (got a)" in refused.err


def test_python_has_the_errors_of_the_command(here: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'naive'"):
        clbench.run("niave", "splitdigits")
    with pytest.raises(UsageError, match="no folder"):
        clbench.load("nowhere")


@pytest.mark.parametrize("seeds", [0, -1, True, [], [0, 0], [-1], [2**32], [1.5]])
def test_python_refuses_seeds_that_the_command_refuses(here: Path, seeds: Any) -> None:
    with pytest.raises(UsageError):
        clbench.run("naive", seeds=seeds, **SMALL_ARGUMENTS)
    assert list(here.iterdir()) == []


def test_python_takes_seeds_of_numpy(here: Path) -> None:
    runs = clbench.run("naive", seeds=np.arange(1), **SMALL_ARGUMENTS)
    assert [run.spec.seeds.run for run in runs] == [0]


# -- bad strategies ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mischief:
    loss: str
    status: str
    says: str


MISCHIEF = {
    "raises": Mischief("if batch.experience.index == 1: raise KeyError('lost')", "failed", "KeyError: 'lost'"),
    "file_missing": Mischief("if batch.experience.index == 1: open('/no/such/file')", "failed", "FileNotFoundError"),
    "usage_error": Mischief("if batch.experience.index == 1: raise clbench.UsageError('no')", "failed", "no"),
    "memory": Mischief("if batch.experience.index == 1: raise MemoryError", "failed", "MemoryError"),
    "exits": Mischief("if batch.experience.index == 1: exit(0)", "failed", "exit(0)"),
    "nan": Mischief("if batch.experience.index == 1: loss = loss * float('nan')", "diverged", "the loss became nan"),
    "infinite": Mischief(
        "if batch.experience.index == 1: loss = loss * float('inf')", "diverged", "the loss became inf"
    ),
    "shape": Mischief("if batch.experience.index == 1: loss = loss * torch.ones(3)", "failed", "shape (3,)"),
    "none": Mischief("if batch.experience.index == 1: loss = None", "failed", "NoneType"),
    "number": Mischief("if batch.experience.index == 1: loss = 1.0", "failed", "float"),
    "detached": Mischief("if batch.experience.index == 1: loss = loss.detach()", "failed", "RuntimeError"),
}


@pytest.mark.slow
def test_why_a_run_failed_is_broken_between_words_in_a_terminal_and_a_line_elsewhere(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "a long explanation of what went wrong in the loss of this strategy, and of what to do about it now"
    write(here, "failing", loss=f"raise ValueError({reason!r})")
    arguments = ("run", "-s", "failing", *SMALL)
    said = command(*arguments).err.split("1 of 1 runs failed:")[1]
    assert reason in said
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    said = command(*arguments).err.split("1 of 1 runs failed:")[1]
    assert reason not in said and set(reason.split()) <= set(said.split())
    assert max(map(len, said.splitlines())) <= 60


@pytest.mark.slow
@pytest.mark.parametrize("name", MISCHIEF)
def test_a_strategy_that_fails_ends_its_own_run_only_and_is_not_compared(
    command: Command, here: Path, name: str
) -> None:
    mischief = MISCHIEF[name]
    path = write(here, name, loss=mischief.loss)
    done = command("run", "-s", f"{name},naive", *SMALL, "--json")
    assert done.code == 1, done.err
    assert [run.parent.name for run in run_folders(here / "results")] == ["naive"]
    stored, trace = failure(here, name)
    assert stored["status"] == mischief.status and mischief.says in stored["error"]
    assert "in experience 1" in stored["error"]
    assert "Traceback" in trace and mischief.says in trace
    if mischief.status == "failed" and name not in ("shape", "none", "number", "detached"):
        assert f'File "{path}"' in trace
    assert "1 of 2 runs failed" in done.err and mischief.says in done.err
    assert [run["status"] for run in json.loads(done.out)["runs"]] == ["finished"]
    (comparison,) = json.loads(command("compare", "--json").out)["comparisons"]
    assert [row["strategy"] for row in comparison["rows"]] == ["naive"]


def test_nan_scores_are_an_error_of_their_own_and_no_violation(command: Command, here: Path) -> None:
    path = write(here, "mine")
    predict = """
    def predict(self, model, x, experience):
        scores = model(x)
        if experience.index == 1:
            scores[::2] = float("nan")
        return scores
"""
    path.write_text(path.read_text() + predict)
    done = command("run", "-s", "mine", *SMALL)
    assert done.code == 1 and "violation" not in done.err
    stored, trace = failure(here, "mine")
    assert re.search(r"after experience 1: predict gave NaN scores to \d+ of \d+ test samples", stored["error"])
    assert "UndefinedScores" in trace


def test_a_diverged_run_says_at_which_step(command: Command, here: Path) -> None:
    write(here, "mine", loss="self.n = getattr(self, 'n', -1) + 1; loss = loss * (float('nan') if self.n == 7 else 1)")
    assert command("run", "-s", "mine", *SMALL).code == 1
    assert re.search(r"in experience 0, step 7:", failure(here, "mine")[0]["error"])


def test_a_failed_run_is_done_again_by_the_same_command_once_its_cause_is_gone(command: Command, here: Path) -> None:
    write(here, "mine", loss="if not os.path.exists('mended'): raise RuntimeError('not yet')")
    assert command("run", "-s", "mine", *SMALL).code == 1
    (here / "mended").touch()
    assert command("run", "-s", "mine", *SMALL).code == 0
    assert len(run_folders(here / "results")) == 1
    assert list((here / "results" / ".failed").glob("*/*/*")) == []


def test_from_python_a_failed_run_is_an_exception_that_carries_the_others(here: Path) -> None:
    write(here, "mine", loss="raise KeyError('lost')")
    with pytest.raises(clbench.RunsFailed, match="1 of 2 runs failed") as raised:
        clbench.run(["mine", "naive"], **SMALL_ARGUMENTS)
    assert [run.spec.strategy.name for run in raised.value.runs] == ["naive"]


def test_from_python_a_report_warns_of_the_runs_that_it_leaves_out(command: Command, here: Path) -> None:
    write(here, "mine", loss="raise KeyError('lost')")
    assert command("run", "-s", "mine,naive,frozen", *SMALL).code == 1
    frozen, _ = run_folders(here / "results")
    (frozen / manifests.MANIFEST).write_bytes(b"[")
    with pytest.warns(UserWarning) as warned:
        page = clbench.report("results")
    assert page.is_file()
    damaged, failed = (str(each.message) for each in warned)
    assert damaged.startswith("Damaged, left out: splitdigits/frozen/quick")
    assert failed.startswith("Failed, left out: mine on splitdigits, seed 0: ")
    assert {Path(each.filename) for each in warned} == {Path(__file__)}


# -- global state -----------------------------------------------------------------------------------------------------

CHANGES = {
    "number of threads": "torch.set_num_threads(2)",
    "default dtype": "torch.set_default_dtype(torch.float64)",
    "gradient mode": "torch.set_grad_enabled(False)",
    "working folder": "os.chdir('/')",
    "handler of SIGINT": "signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "handler of SIGTERM": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
}


def state() -> list[Any]:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return [torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), Path.cwd(), *handlers]


@pytest.fixture
def put_back() -> Iterator[list[Any]]:
    """The process's state, which no test may leave changed even where clbench does."""
    threads, dtype, gradients, folder, interrupt, terminate = before = state()
    yield before
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(gradients)
    os.chdir(folder)
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, terminate)


@pytest.mark.slow
def test_global_state_that_a_strategy_changes_is_put_back_and_noted(
    command: Command, here: Path, put_back: list[Any]
) -> None:
    assert command("run", "-s", "naive", *SMALL, "--out", "alone").code == 0
    write(here, "mine", after="; ".join(CHANGES.values()))
    assert command("run", "-s", "mine,naive", *SMALL).code == 0
    assert state() == put_back
    mine, naive = run_folders(here / "results")
    for what in CHANGES:
        for experience in (0, 1):
            assert any(what in note and f"experience {experience}" in note for note in result(mine)["notes"])
    assert result(naive)["notes"] == []
    assert weights(naive) == weights(run_folders(here / "alone")[0])


def test_global_state_that_a_strategy_that_then_fails_changes_is_put_back(
    command: Command, here: Path, put_back: list[Any]
) -> None:
    write(here, "mine", loss=f"{'; '.join(CHANGES.values())}; raise KeyError('lost')")
    assert command("run", "-s", "mine,naive", *SMALL).code == 1
    assert state() == put_back
    assert [run.parent.name for run in run_folders(here / "results")] == ["naive"]


@pytest.mark.parametrize("what", CHANGES)
def test_global_state_that_a_file_changes_when_it_is_imported_is_put_back_and_noted(
    command: Command, here: Path, put_back: list[Any], what: str
) -> None:
    write(here, "mine", top=CHANGES[what])
    assert command("run", "-s", "mine", *SMALL).code == 0
    assert state() == put_back
    (mine,) = run_folders(here / "results")
    assert any(what in note for note in result(mine)["notes"])


@pytest.mark.slow
def test_a_working_folder_that_a_strategy_removes_is_left_for_the_old_one(
    command: Command, here: Path, put_back: list[Any]
) -> None:
    write(here, "mine", after="os.makedirs('gone'); os.chdir('gone'); os.rmdir(os.getcwd())")
    assert command("run", "-s", "mine,naive", *SMALL).code in (0, 1)
    assert Path.cwd() == here
    assert "naive" in [run.parent.name for run in run_folders(here / "results")]


def test_without_a_working_folder_a_command_says_so(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "gone").mkdir()
    monkeypatch.chdir(here / "gone")
    (here / "gone").rmdir()
    done = command("run", "-s", "naive", *SMALL, "--out", str(here / "results"))
    assert (done.code, done.err) == (4, "Error: the working folder was removed\nChange to another one: cd FOLDER\n")


# -- doctor -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_doctor_names_a_broken_plugin_a_damaged_run_and_a_failed_run_and_how_to_mend_them(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clbench.diagnostics import doctor

    monkeypatch.setattr(doctor, "_installation", list)  # takes a process that imports torch and Avalanche
    write(here, "mine", loss="raise KeyError('lost')")
    assert command("run", "-s", "mine,naive", *SMALL).code == 1
    assert command("doctor").code == 1
    (run,) = run_folders(here / "results")
    (run / "result.json").write_text("{}")
    (here / "strategies" / "bad.py").write_text("def (:\n")
    done = command("doctor")
    assert done.code == 5
    assert re.search(r"FAIL +strategy bad: SyntaxError in line 1", done.out)
    assert re.search(rf"FAIL +run {run.relative_to(here)}: result\.json does not match", done.out)
    assert "Remove its folder, then rerun the command that made it." in done.out
    assert re.search(r"FAIL +failed run splitdigits/mine/", done.out) and "traceback.txt" in done.out
    monkeypatch.chdir(run)
    assert command("doctor", ".").code == 1


@pytest.mark.slow
def test_doctor_names_what_a_failed_run_has_left_with_its_size_and_how_to_remove_it(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clbench.diagnostics import doctor

    monkeypatch.setattr(doctor, "_installation", list)
    write(here, "mine", after="if experience.index: raise KeyError('lost')")
    assert command("run", "-s", "mine", *SMALL).code == 1
    write(here, "mine")
    assert command("run", "-s", "mine", *SMALL).code == 0
    (here / "results").rename(here / "my results")
    (work,) = [path for path in (here / "my results" / ".work").iterdir() if path.is_dir()]
    size = sum(path.stat().st_size for path in work.iterdir())
    done = command("doctor", "my results")
    assert done.code == 0
    found = rf"ok +unfinished work of the run splitdigits/mine/.*-{work.name[:8]}: {size / 1000:.1f} kB"
    assert re.search(found, done.out)
    assert f"To remove it: rm -r '{work.relative_to(here)}'\n" in done.out
    with ResultsFolder(here / "my results").lock(work.name):  # a process goes on from it
        assert "unfinished" not in command("doctor", "my results").out
    shutil.rmtree(work)
    assert "unfinished" not in command("doctor", "my results").out


def test_doctor_counts_the_plugins_that_list_shows(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from clbench.diagnostics import doctor

    monkeypatch.setattr(doctor, "_installation", list)
    said = command("doctor").out
    listed = json.loads(command("list", "--json").out)
    for kind in ("strategies", "scenarios", "networks"):
        assert re.search(rf"ok +{len(listed[kind])} {kind}\n", said)


def test_doctor_names_the_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    from clbench.diagnostics import doctor

    monkeypatch.setattr(doctor, "IMPORTED", ("json", "no_such_package", "csv"))
    _, _, *found, cores = doctor._installation()
    assert re.match(r"\d+ cores, ", cores.what)
    assert [finding.healthy for finding in found] == [True, False, True]
    assert found[1].what.endswith("does not import: ModuleNotFoundError: No module named 'no_such_package'")
    assert found[1].exit_code == 4 and "force-reinstall" in found[1].fix


def test_a_results_folder_whose_name_has_a_space_is_quoted_in_the_next_command(here: Path, command: Command) -> None:
    done = command("run", "-s", "naive", *SMALL, "--out", "my results")
    assert "To compare all runs there: clbench compare 'my results'" in done.out


@pytest.mark.parametrize(("raised", "code"), [(ValueError("no room"), 1), (MemoryError(), 4)])
def test_a_table_that_cannot_be_drawn_does_not_hide_that_the_runs_are_stored(
    here: Path, command: Command, monkeypatch: pytest.MonkeyPatch, raised: Exception, code: int
) -> None:
    def fail(*_: Any) -> None:
        raise raised

    monkeypatch.setattr("clbench.comparison.table.print_comparison", fail)
    done = command("run", "-s", "naive", *SMALL)
    assert done.code == code
    assert len(list(here.glob("results/splitdigits/naive/*/MANIFEST.json"))) == 1
    assert "stored in results/. To show them: clbench compare results" in done.err
    assert type(raised).__name__ in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("name", "said"),
    [("extend", "Stopped. Finished work is kept; rerun the same command to resume."), ("predict", "Stopped.")],
)
def test_a_stopped_command_says_that_it_is_resumed_only_if_it_is(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["clbench", name])
    monkeypatch.setattr(program, "application", lambda wanted: lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert (ended.value.code, capsys.readouterr().err.strip()) == (130, said)


def test_an_interruption_that_a_library_turned_into_an_error_still_ends_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def exporting() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            raise PluginError("the network cannot be exported") from None

    monkeypatch.setattr(program, "application", lambda wanted: exporting)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 130
