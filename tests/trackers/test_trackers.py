"""TensorBoard, W&B, MLflow and events.jsonl: what they store of real runs, read back by each tracker's own reader."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tracker_readers as readers
from tracker_readers import Written

from clbench.results import stored_runs
from clbench.results.stored_run import StoredRun

pytestmark = [pytest.mark.slow, pytest.mark.waits]

ALL = "tensorboard,wandb,mlflow,events"
SECRET = "f00dfeedf00dfeedf00dfeedf00dfeedf00dfeed"

# It kills its process in the second experience, but only if told to, and only the first time.
MORTAL = '''
import os, signal, time
from pathlib import Path
import clbench

def let_trackers_write():
    """Wait until each has begun, which takes seconds on a busy machine, and a while longer."""
    deadline = time.monotonic() + 90
    places = [Path("tracking", name) for name in ("tensorboard", "wandb", "mlflow")]
    while time.monotonic() < deadline and not all(any(place.rglob("*")) for place in places):
        time.sleep(0.1)
    time.sleep(5)

class Mortal(clbench.Strategy):
    """Dies once."""

    def loss(self, batch):
        mark = os.environ.get("DIES_ONCE")
        if mark and batch.experience.index == 2:
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps > 20 and not os.path.exists(mark):
                os.mkdir(mark)
                let_trackers_write()
                os.kill(os.getpid(), signal.SIGKILL)
        return batch.cross_entropy("seen")

    def after_experience(self, model, experience):
        vars(self).pop("steps", None)
'''


def clbench_run(folder: Path, data: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    machine = ["--threads", "1", "--device", "cpu", "--data", str(data)]
    hidden = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-m", "clbench", "run", "-S", "splitdigits", *machine, *options],
        cwd=folder,
        env={**hidden, "WANDB_API_KEY": SECRET, "MLFLOW_TRACKING_PASSWORD": SECRET, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def runs_in(results: Path) -> dict[str, StoredRun]:
    found, unreadable = stored_runs.read_all([results])
    assert not unreadable
    return {"/".join(run.path.parts[-3:]): run for run in found}


@dataclass
class Tracked:
    folder: Path
    said: str
    runs: dict[str, StoredRun]
    tensorboard: dict[str, Written]
    wandb: dict[str, list[Written]]
    mlflow: dict[str, Written]

    @classmethod
    def read(cls, folder: Path, said: str) -> Tracked:
        place = folder / "tracking"
        return cls(
            folder,
            said,
            runs_in(folder / "results"),
            readers.tensorboard(place / "tensorboard"),
            readers.wandb(place / "wandb"),
            readers.mlflow(place / "mlflow" / "mlflow.db"),
        )

    def of(self, run: str) -> list[Written]:
        """What each tracker stores of a run that was not interrupted."""
        (by_wandb,) = self.wandb[run]
        return [self.tensorboard[run], by_wandb, self.mlflow[run]]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Tracked:
    folder = tmp_path_factory.mktemp("tracked")
    done = clbench_run(folder, data, "-s", "naive,lwf", "--epochs", "2", "--jobs", "2", "--track", ALL)
    assert done.returncode == 0, done.stderr
    return Tracked.read(folder, done.stderr)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    done = clbench_run(folder, data, "-s", "naive,lwf", "--epochs", "2")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_command_says_once_how_to_look(tracked: Tracked) -> None:
    lines = [line for line in tracked.said.splitlines() if line.startswith("track")]
    assert sorted(lines) == [
        "tracked by mlflow: mlflow ui --backend-store-uri sqlite:///tracking/mlflow/mlflow.db",
        "tracked by tensorboard: tensorboard --logdir tracking/tensorboard",
        "tracked by wandb: wandb sync tracking/wandb/offline-run-* (uploads what was written offline)",
    ]


def test_every_step_is_there_once_with_its_loss_and_rate(tracked: Tracked) -> None:
    assert len(tracked.runs) == 2
    for name, run in tracked.runs.items():
        steps = run.result.totals.gradient_steps
        means = [epoch.loss for each in run.result.experiences for epoch in each.epochs]
        for written in tracked.of(name):
            losses = sorted(written.values["training/loss"])
            assert [step for step, _ in losses] == list(range(1, steps + 1))
            rates = {value for _, value in written.values["training/learning_rate"]}
            assert list(rates) == pytest.approx([run.spec.recipe.config.lr])
            by_epoch = np.array_split([loss for _, loss in losses], np.cumsum(_epoch_lengths(run))[:-1])
            assert [epoch.mean() for epoch in by_epoch] == pytest.approx(means, rel=1e-5)


def _epoch_lengths(run: StoredRun) -> list[int]:
    return [each.gradient_steps // len(each.epochs) for each in run.result.experiences for _ in range(len(each.epochs))]


def test_the_metrics_of_every_experience_are_those_of_the_result(tracked: Tracked) -> None:
    for name, run in tracked.runs.items():
        ends = np.cumsum([each.gradient_steps for each in run.result.experiences]).tolist()
        for written in tracked.of(name):
            for setting, stored in run.result.metrics.items():

                def values(metric: str) -> dict[int, float]:
                    return dict(written.values[f"{setting}/{metric}"])  # noqa: B023 (called at once)

                for metric in ("old_accuracy", "new_accuracy", "accuracy_seen", "forgetting_after"):
                    expected = {
                        end: value for end, value in zip(ends, stored[metric], strict=True) if value is not None
                    }
                    assert values(metric) == pytest.approx(expected)
                for on in range(5):
                    column = {ends[after]: stored["accuracy_matrix"][after][on] for after in range(on, 5)}
                    assert values(f"accuracy_matrix/{on}") == pytest.approx(column)
                for metric in ("final_accuracy", "forgetting", "backward_transfer", "average_incremental_accuracy"):
                    assert values(metric)[ends[-1]] == pytest.approx(stored[metric])
                so_far = [np.mean(stored["accuracy_seen"][: after + 1]) for after in range(5)]
                assert list(values("average_incremental_accuracy").values()) == pytest.approx(so_far)


def test_a_run_has_its_spec_as_config_and_the_runs_of_a_command_an_experiment(tracked: Tracked) -> None:
    experiments = set()
    for name, run in tracked.runs.items():
        for written in tracked.of(name):
            experiments.add(written.experiment)
            config = written.config
            assert config["strategy.name"] == run.spec.strategy.name
            assert float(config["recipe.config.lr"]) == run.spec.recipe.config.lr
            assert json.loads(config["scenario.class_order"]) == list(run.spec.scenario.class_order)
            assert int(config["seeds.run"]) == 0
    (experiment,) = experiments
    assert experiment.startswith("splitdigits-naive-lwf-")


def test_a_finished_run_is_finished_for_every_tracker(tracked: Tracked) -> None:
    from tensorboard.plugins.hparams import api_pb2

    for name in tracked.runs:
        assert [each.status for each in tracked.of(name)] == [api_pb2.STATUS_SUCCESS, 0, "FINISHED"]


def test_the_events_of_a_run_are_published_with_it_with_every_loss(tracked: Tracked) -> None:
    for name, run in tracked.runs.items():
        path = run.path / "events.jsonl"
        (started,) = readers.events(path, "RunStarted")
        assert started["spec"] == json.loads((run.path / "spec.json").read_bytes())
        taken = readers.events(path, "StepsTaken")
        losses = [loss for each in taken for loss in each["losses"]]
        assert len(losses) == run.result.totals.gradient_steps == taken[-1]["step"]
        by_epoch = np.array_split(losses, np.cumsum(_epoch_lengths(run))[:-1])
        means = [epoch.loss for each in run.result.experiences for epoch in each.epochs]
        assert [float(epoch.mean()) for epoch in by_epoch] == pytest.approx(means)
        assert {each["run"] for each in taken} == {name}
        assert len(readers.events(path, "ExperienceFinished")) == 5
        assert (
            path.read_text().splitlines()[-1].endswith(f'"event": "RunFinished", "run": "{name}", "path": "{name}"}}')
        )


def _numbers(run: Path) -> dict[str, bytes]:
    """What a run published, without what differs from one execution to the next and what lists all files."""
    apart = ("environment.json", "costs.json", "events.jsonl", "MANIFEST.json")
    return {path.name: path.read_bytes() for path in run.iterdir() if path.name not in apart}


def test_tracking_changes_no_byte_of_a_run(tracked: Tracked, plain: Path) -> None:
    for name, run in tracked.runs.items():
        numbers = _numbers(run.path)
        assert set(numbers) == {"spec.json", "result.json", "predictions.npz"}
        assert _numbers(plain / "results" / name) == numbers


def test_without_a_tracker_nothing_is_tracked(plain: Path) -> None:
    assert [path.name for path in plain.iterdir()] == ["results"]
    assert not list(plain.rglob("events.jsonl"))


def test_no_credential_is_written(tracked: Tracked) -> None:
    files = [path for path in tracked.folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_git_is_told_to_leave_the_folder_out(tracked: Tracked) -> None:
    assert (tracked.folder / "tracking" / ".gitignore").read_text() == "*\n"


def test_runs_that_are_stored_are_not_tracked_again(tracked: Tracked, data: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (tracked.folder / "tracking").rglob("*")}
    done = clbench_run(tracked.folder, data, "-s", "naive,lwf", "--epochs", "2", "--track", ALL)
    assert done.returncode == 0
    assert "2 runs are stored already and not tracked" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in (tracked.folder / "tracking").rglob("*")} == before


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[Tracked]:
    """A run whose process was killed in its third experience, after which the same command was given again."""
    folder = tmp_path_factory.mktemp("resumed")
    (folder / "strategies").mkdir()
    (folder / "strategies" / "mortal.py").write_text(MORTAL)
    command = ["-s", "mortal", "--epochs", "12", "--track", ALL]
    mark = str(folder / "died")
    assert clbench_run(folder, data, *command, DIES_ONCE=mark).returncode == -signal.SIGKILL
    done = clbench_run(folder, data, *command, DIES_ONCE=mark)
    assert done.returncode == 0, done.stderr
    assert "resuming after experience 1" in done.stderr
    yield Tracked.read(folder, done.stderr)


def test_a_run_that_was_killed_has_each_step_once_and_is_one_run(resumed: Tracked) -> None:
    ((name, run),) = resumed.runs.items()
    steps = run.result.totals.gradient_steps
    for written in (resumed.tensorboard[name], resumed.mlflow[name]):
        assert [step for step, _ in sorted(written.values["training/loss"])] == list(range(1, steps + 1))
        assert len(written.values["class_incremental/new_accuracy"]) == 5
    assert resumed.mlflow[name].status == "FINISHED"


def test_wandb_has_both_parts_of_a_run_that_was_killed_under_its_id(resumed: Tracked) -> None:
    ((name, run),) = resumed.runs.items()
    first, second = resumed.wandb[name]
    boundary = sum(each.gradient_steps for each in run.result.experiences[:2])
    assert (first.status, second.status) == (130, 0)
    ours, theirs = (dict(part.values["training/loss"]) for part in (first, second))
    assert min(theirs) == boundary + 1 and max(ours) > boundary
    # The steps between the boundary and the kill are done again, with the same losses.
    assert all(theirs[step] == loss for step, loss in ours.items() if step > boundary)
    assert sorted({*ours, *theirs}) == list(range(1, run.result.totals.gradient_steps + 1))


def test_the_events_of_a_run_that_was_killed_are_cut_back_to_its_checkpoint(resumed: Tracked) -> None:
    ((_, run),) = resumed.runs.items()
    path = run.path / "events.jsonl"
    assert [each["resumed_after"] for each in readers.events(path, "RunStarted")] == [0, 2]
    taken = readers.events(path, "StepsTaken")
    ends = [each["step"] for each in taken]
    assert ends == sorted(set(ends))
    assert sum(len(each["losses"]) for each in taken) == ends[-1] == run.result.totals.gradient_steps
    assert [each["experience"] for each in readers.events(path, "ExperienceFinished")] == list(range(5))


def test_a_run_that_was_killed_has_the_bytes_of_one_that_was_neither_killed_nor_tracked(
    resumed: Tracked, tmp_path: Path, data: Path
) -> None:
    ((name, run),) = resumed.runs.items()
    done = clbench_run(tmp_path, data, "-s", str(resumed.folder / "strategies" / "mortal.py"), "--epochs", "12")
    assert done.returncode == 0, done.stderr
    assert _numbers(tmp_path / "results" / name) == _numbers(run.path)


def test_a_run_that_failed_or_was_interrupted_is_so_for_every_tracker(tmp_path: Path, data: Path) -> None:
    from tensorboard.plugins.hparams import api_pb2

    (tmp_path / "strategies").mkdir()
    for name, ending in (
        ("raises", "raise ValueError('mine')"),
        ("stops", "let_trackers_write(); os.kill(os.getpid(), signal.SIGINT)"),
    ):
        strategy = MORTAL.replace("Mortal", name.capitalize()).replace(
            "        mark", f"        {ending}\n        mark", 1
        )
        (tmp_path / "strategies" / f"{name}.py").write_text(strategy)
    done = clbench_run(tmp_path, data, "-s", "raises,stops", "--epochs", "1", "--track", ALL)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    wait_until(lambda: not list((tmp_path / "tracking").rglob(".*.lock")))  # the trackers end what was under way
    place = tmp_path / "tracking"
    by_tensorboard = {run.split("/")[1]: each for run, each in readers.tensorboard(place / "tensorboard").items()}
    assert by_tensorboard["raises"].status == api_pb2.STATUS_FAILURE
    assert by_tensorboard["stops"].status == api_pb2.STATUS_UNKNOWN
    by_wandb = {run.split("/")[1]: each[0].status for run, each in readers.wandb(place / "wandb").items()}
    assert by_wandb == {"raises": 1, "stops": 130}
    by_mlflow = {run.split("/")[1]: each.status for run, each in readers.mlflow(place / "mlflow/mlflow.db").items()}
    assert by_mlflow == {"raises": "FAILED", "stops": "KILLED"}
    (path,) = (tmp_path / "results/.failed/splitdigits/raises").glob("*/events.jsonl")
    assert "ValueError: mine" in readers.events(path, "RunFailed")[0]["message"]


def wait_until(holds: Callable[[], bool]) -> None:
    import time

    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
