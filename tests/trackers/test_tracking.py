"""Trackers that fail, hang, crash or are in the way, those of other packages, and what is refused before training."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

import clbench
from clbench.base.events import (
    EvaluatedWithin,
    Event,
    ExperienceFinished,
    Note,
    RunFailed,
    RunFinished,
    RunSkipped,
    RunStarted,
    StepsTaken,
    TrainingProgress,
    to_json,
)
from clbench.errors import MachineError, UsageError
from clbench.results import stored_runs
from clbench.results.stored_run import StoredRun
from clbench.runs import event_file
from clbench.trackers import process, tracking
from clbench.trackers.registry import names, tracked
from clbench.trackers.tracker import TrackedRun
from clbench.trackers.tracking import Tracking

DIARY = '''
import json, os, signal, time
import clbench

class Diary(clbench.Tracker):
    """Writes down what it is told, and does what DIARY_FAULT says."""

    def where(self):
        print("this is no answer")
        return "cat diary"

    def note(self, what, *values):
        fault = os.environ.get("DIARY_FAULT", "")
        if fault.startswith(what):
            exec(fault.partition(": ")[2])
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "diary").open("a") as file:
            file.write(json.dumps([what, *values]) + "\\n")

    def begin(self, run):
        self.note("begin", run.name, run.step, run.experiment, run.tags, run.config)

    def log(self, run, step, values):
        self.note("log", run.name, step, dict(values))

    def end(self, run, status):
        self.note("end", run.name, status)

    def close(self):
        self.note("close")
'''
SPEC = {
    "scenario": {"name": "s", "class_order": [1, 0]},
    "strategy": {"name": "t", "config": {"alpha": 0.5, "own": None}},
    "seeds": {"run": 3},
}
RUN = "s/t/quick-seed3-0123abcd"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution with the tracker `diary`, and an empty working folder."""
    site, working = tmp_path / "site", tmp_path / "working"
    information = site / "diary_dist-1.0.dist-info"
    information.mkdir(parents=True)
    working.mkdir()
    (site / "diarypackage.py").write_text(DIARY)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: diary-dist\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[clbench.trackers]\ndiary = diarypackage:Diary\n")
    monkeypatch.syspath_prepend(site)
    # Nothing behind a separator would be the working folder.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH")))))
    monkeypatch.chdir(working)
    return working


def diary(working: Path, what: str = "") -> list[list[Any]]:
    lines = (working / "tracking" / "diary" / "diary").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if not what or entry[0] == what]


def steps(first: int, losses: list[float], experience: int = 0) -> StepsTaken:
    return StepsTaken(RUN, experience, 0, first + len(losses) - 1, len(losses), losses, [0.1] * len(losses), 10.0)


EVENTS: list[Event] = [
    RunStarted(RUN, 1, "1 epoch", 0, 0, "0123", SPEC),
    TrainingProgress(RUN, 0, 0, 0.5, 10.0),
    steps(1, [2.0, 1.0]),
    ExperienceFinished(RUN, 0, None, 0.9, 1.5, 2, {"class_incremental/new_accuracy": 0.9}),
    RunFinished(RUN, "results"),
]


def follow(events: list[Event], names: tuple[str, ...] = ("diary",)) -> list[str]:
    """Track the events; return the messages to the user, event by event."""
    heard: list[Event] = []
    with Tracking(names, heard.append) as listener:
        listener.expect("experiment")
        for event in events:
            listener(event)
    assert [event for event in heard if not isinstance(event, Note)] == events  # the display sees them all
    return [event.text for event in heard if isinstance(event, Note)]


def test_a_tracker_of_another_package_is_told_of_a_run(package: Path) -> None:
    assert "diary" in names()
    assert follow(EVENTS) == ["tracked by diary: cat diary"]
    begin, first, second, experience, end, close = diary(package)
    config = {
        "scenario.name": "s",
        "scenario.class_order": "[1, 0]",
        "strategy.name": "t",
        "strategy.config.alpha": 0.5,
        "seeds.run": 3,
    }
    assert begin == ["begin", RUN, 0, "experiment", {"scenario": "s", "strategy": "t", "seed": "3"}, config]
    assert [(entry[2], entry[3]["training/loss"]) for entry in (first, second)] == [(1, 2.0), (2, 1.0)]
    reached = {"experience": 0, "experience_seconds": 1.5, "class_incremental/new_accuracy": 0.9}
    assert experience == ["log", RUN, 2, reached]
    assert (end, close) == (["end", RUN, "finished"], ["close"])


def test_a_tracker_is_told_of_evaluations_within_experiences_at_their_steps(package: Path) -> None:
    within = EvaluatedWithin(RUN, 0, 1, {"class_incremental/new_accuracy": 0.4})
    follow([EVENTS[0], steps(1, [2.0]), within, steps(2, [1.0]), *EVENTS[-2:]])
    named = [(step, values.get("class_incremental/new_accuracy")) for _, _, step, values in diary(package, "log")]
    assert named == [(1, None), (1, 0.4), (2, None), (2, 0.9)]


class Silent(clbench.Tracker):
    def where(self) -> str:
        return ""

    def begin(self, run: TrackedRun) -> None:
        pass

    def log(self, run: TrackedRun, step: int, values: Mapping[str, float]) -> None:
        pass

    def end(self, run: TrackedRun, status: str) -> None:
        pass


def track_a_run(folder: Path) -> None:
    follower = process.Follower(Silent(folder), "experiment")
    follower(EVENTS[0])
    follower(EVENTS[-1])


def test_a_run_that_another_tracker_takes_as_soon_as_it_has_ended_is_not_taken_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = [FileLock(tmp_path / ".0123.lock")]

    class Released(FileLock):
        def release(self, force: bool = False) -> None:
            super().release(force)
            while waiting:
                waiting.pop().acquire(timeout=0)

    monkeypatch.setattr(process, "FileLock", Released)
    next_holder = waiting[0]
    track_a_run(tmp_path)
    assert next_holder.is_locked
    with pytest.raises(Timeout):
        FileLock(tmp_path / ".0123.lock").acquire(timeout=0)


def test_a_tracker_that_waited_in_vain_leaves_the_run_to_who_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PATIENCE", 0)
    with FileLock(tmp_path / ".0123.lock"):
        track_a_run(tmp_path)
        with pytest.raises(Timeout):
            FileLock(tmp_path / ".0123.lock").acquire(timeout=0)


def test_a_run_that_was_tracked_leaves_no_lock(tmp_path: Path) -> None:
    track_a_run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_runs_that_nobody_tracks_are_not_told(package: Path) -> None:
    untracked = RunStarted(RUN, 1, "1 epoch", 0)
    assert follow([untracked, RunFinished(RUN, "results"), RunSkipped(RUN, "results")]) == [
        "1 run is stored already and not tracked"
    ]
    assert not (package / "tracking").exists()


def test_a_run_that_goes_on_elsewhere_is_interrupted_and_begun_again(package: Path) -> None:
    again = RunStarted(RUN, 2, "1 epoch", 1, 2, "0123", SPEC)
    more = steps(3, [5.0], experience=1)
    follow([*EVENTS[:4], more, again, more, RunFailed(RUN, "", ""), more])  # the last comes too late, and is dropped
    assert [entry[2] for entry in diary(package, "log")] == [1, 2, 2, 3, 3]
    assert [(entry[0], entry[2]) for entry in diary(package) if entry[0] in ("begin", "end")] == [
        ("begin", 0),
        ("end", "interrupted"),
        ("begin", 2),
        ("end", "failed"),
    ]


def test_runs_that_are_under_way_when_the_command_ends_are_interrupted(package: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Tracking(["diary"], lambda event: None) as listener:
        for event in EVENTS[:-1]:
            listener(event)
        raise KeyboardInterrupt
    deadline = time.monotonic() + 30
    while not (package / "tracking/diary/diary").exists() or diary(package)[-1:] != [["close"]]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert diary(package, "end") == [["end", RUN, "interrupted"]]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("begin: raise ValueError('no')", "ValueError: no"),
        ("log: raise OSError(28, 'No space left on device')", "No space left on device"),
        ("end: raise SystemExit(3)", "SystemExit: 3"),
        ("close: raise KeyError('https://me:secret@host/x')", "https://…@host/x"),
        ("log: os.kill(os.getpid(), signal.SIGKILL)", "its process ended with exit code -9"),
        ("log: os._exit(7)", "its process ended with exit code 7"),
    ],
)
def test_a_tracker_that_fails_is_reported_once(
    package: Path, monkeypatch: pytest.MonkeyPatch, fault: str, reason: str
) -> None:
    monkeypatch.setenv("DIARY_FAULT", fault)
    (report,) = [text for text in follow(EVENTS * 3) if "failed" in text]
    assert report.startswith("tracker diary failed: ") and reason in report
    assert report.endswith("It is left out from here on; the runs are not affected.")
    assert "secret" not in report


def test_a_tracker_does_not_import_from_the_working_folder(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*filter(None, sys.path)])  # pytest's workers have the working folder in theirs
    (package / "clbench").mkdir()
    for name in ("clbench/__init__.py", "json.py"):
        (package / name).write_text("raise ImportError('the wrong module')\n")
    assert follow(EVENTS) == ["tracked by diary: cat diary"]


def test_a_tracker_that_cannot_be_imported_is_reported(package: Path, tmp_path: Path) -> None:
    (tmp_path / "site" / "diarypackage.py").write_text("import there_is_no_such_module")
    assert ["there_is_no_such_module" in text for text in follow(EVENTS)] == [True]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("'{\"op', end='', flush=True); os.kill(os.getpid(), 9", "its process ended with exit code -9"),
        ("'Killed', flush=True); time.sleep(60", "its answer is not valid: Killed"),
    ],
    ids=["cut off", "none"],
)
def test_a_tracker_whose_answer_is_cut_off_or_none_is_reported(
    package: Path, monkeypatch: pytest.MonkeyPatch, end: str, reason: str
) -> None:
    code = f'import os, time; print(\'{{"opened": "here"}}\'); print({end})'
    monkeypatch.setattr(tracking, "module_command", lambda *_: [sys.executable, "-c", code])
    opened, failed = follow(EVENTS)
    assert opened == "tracked by diary: here"
    assert failed.startswith(f"tracker diary failed: {reason}. It is left out")


def test_a_tracker_that_hangs_is_left_out_and_ended(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIARY_FAULT", "log: time.sleep(1000)")
    monkeypatch.setattr(tracking, "PATIENCE", 3.0)
    began = time.monotonic()
    told = follow(EVENTS)
    assert told[-1].startswith("tracker diary failed: it did not end within 3 seconds.")
    assert time.monotonic() - began < 30


def test_the_runs_do_not_wait_for_a_tracker_that_does_not_keep_up(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIARY_FAULT", "begin: time.sleep(1000)")
    monkeypatch.setattr(tracking, "MOST_WAITING", 100)
    many = [steps(first, [1.0] * 50) for first in range(1, 100_000, 50)]
    began = time.monotonic()
    told = follow([EVENTS[0], *many])
    assert time.monotonic() - began < 10
    assert [text for text in told if "failed" in text] == [
        "tracker diary failed: it does not keep up: 100 events wait for it. It is left out from here on; the runs are "
        "not affected."
    ]


def test_a_tracker_that_hangs_does_not_outlive_a_command_that_was_killed_for_long(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIARY_FAULT", "log: time.sleep(1000)")
    impatient = "from clbench.trackers import process; process.PATIENCE = 1.0; process.main('diary', 'experiment')"
    told = "".join(json.dumps(to_json(event)) + "\n" for event in EVENTS)
    done = subprocess.run(
        [sys.executable, "-c", impatient], input=told, text=True, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert [list(json.loads(line)) for line in done.stdout.splitlines()] == [["opened"]]


@pytest.mark.parametrize(("given", "hint"), [("tensorbord", "did you mean 'tensorboard'?"), ("event", "'events'")])
def test_an_unknown_tracker_is_refused(given: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"no tracker '{given}'.*{hint}".replace("?", r"\?")):
        tracked(["wandb", given])


@pytest.mark.parametrize(
    ("name", "missing"), [("tensorboard", "tensorboard"), ("wandb", "wandb"), ("mlflow", "sqlalchemy")]
)
def test_a_tracker_that_is_not_installed_is_refused_with_the_command_that_installs_it(
    name: str, missing: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.metadata.version

    def version(distribution: str) -> str:
        if distribution == missing:
            raise importlib.metadata.PackageNotFoundError(distribution)
        return there(distribution)

    monkeypatch.setattr("clbench.trackers.registry.version", version)
    with pytest.raises(MachineError, match=f"{missing} is not installed") as refusal:
        clbench.run("naive", "splitdigits", track=name, out=tmp_path / "out", data=data)
    assert refusal.value.hint == f"pip install 'clbench[{name}]'"
    assert not (tmp_path / "out").exists()


def test_two_packages_with_a_tracker_of_one_name_are_refused(package: Path, tmp_path: Path) -> None:
    information = tmp_path / "site" / "other_dist-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: other-dist\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[clbench.trackers]\ndiary = otherpackage:Diary\n")
    with pytest.raises(UsageError, match="several packages have a tracker 'diary': diarypackage:Diary, otherpackage"):
        tracked(["diary"])


# -- real runs --------------------------------------------------------------------------------------------------------


def numbers(run: StoredRun) -> list[bytes]:
    return [(run.path / name).read_bytes() for name in ("spec.json", "result.json", "predictions.npz")]


def small(data: Path, out: Path, strategy: str = "naive", **options: Any) -> StoredRun:
    asked: dict[str, Any] = {"epochs": 1, "threads": 1, "device": "cpu", "data": data, "out": out, **options}
    return clbench.run(strategy, "splitdigits", **asked)[0]


@pytest.mark.slow
def test_a_run_whose_tracker_fails_has_the_bytes_of_one_without(
    package: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = small(data, package / "plain")
    monkeypatch.setenv("DIARY_FAULT", "log: raise ValueError('no')")
    followed = small(data, package / "followed", track=["diary", "events"])
    assert numbers(followed) == numbers(plain)
    assert capsys.readouterr().err.count("tracker diary failed: ValueError: no.") == 1


@pytest.mark.slow
def test_the_steps_of_trials_are_not_tracked(package: Path, data: Path) -> None:
    """Neither those of `--tune chf` before each experience, nor the runs of `--tune grid`."""
    run = small(data, package / "chf", strategy="lwf", tune="chf", track="diary", set={"lwf.alpha": 1.0})
    logged = [entry[2] for entry in diary(package, "log") if "training/loss" in entry[3]]
    assert logged == list(range(1, run.result.totals.gradient_steps + 1))
    (package / "tracking/diary/diary").unlink()
    run = small(data, package / "grid", tune="grid", track="diary", set={"recipe.lr": "0.001,0.01"})
    assert [entry[1] for entry in diary(package, "begin")] == ["/".join(run.path.parts[-3:])]


@pytest.mark.slow
def test_a_disk_that_does_not_take_the_events_costs_nothing_but_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = small(data, tmp_path / "plain")

    def full(descriptor: int, content: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(event_file.os, "write", full)
    run = small(data, tmp_path / "full", track="events")
    monkeypatch.undo()
    assert numbers(run) == numbers(plain)
    assert not (run.path / "events.jsonl").exists()
    assert capsys.readouterr().err.count("events.jsonl cannot be written (No space left on device)") == 1


def test_a_file_of_events_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    def written(after: int, events: list[Event], garbage: bytes = b"") -> list[str]:
        with event_file.EventFile(tmp_path, after, lambda event: None) as file:
            for event in events:
                file(event)
        path = tmp_path / "events.jsonl"
        content = path.read_bytes()
        path.write_bytes(content + garbage)
        return [json.loads(line)["event"] for line in content.splitlines()]

    def finished(experience: int) -> ExperienceFinished:
        return ExperienceFinished(RUN, experience, None, 1.0, 1.0)

    started = EVENTS[0]
    assert len(written(0, [started, steps(1, [1.0]), finished(0), steps(2, [1.0], 1), finished(1)])) == 5
    # The checkpoint of experience 1 was not saved any more.
    assert written(1, [started]) == ["RunStarted", "StepsTaken", "ExperienceFinished", "RunStarted"]
    written(1, [started], garbage=b'{"event": "StepsTak')  # cut off by a kill
    assert written(1, []) == ["RunStarted", "StepsTaken", "ExperienceFinished"]
    (tmp_path / "events.jsonl").write_bytes(bytes(1000))  # lost with the power
    assert written(1, [started]) == ["RunStarted"]


def test_a_file_of_events_with_a_diverged_loss_ends_with_the_last_finite_one(tmp_path: Path, data: Path) -> None:
    with pytest.raises(clbench.ClbenchError):
        small(data, tmp_path, track="events", set={"recipe.lr": 1e30, "recipe.optimizer": "sgd"}, epochs=5)
    (path,) = (tmp_path / ".failed").rglob("events.jsonl")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert events[-1]["event"] == "RunFailed" and "the loss became" in events[-1]["message"]
    losses = [loss for event in events if event["event"] == "StepsTaken" for loss in event["losses"]]
    assert all(abs(loss) < float("inf") for loss in losses)
    said = events[-1]["message"]
    assert f"step {len(losses)}:" in said


def test_what_reads_runs_reads_one_with_events(tmp_path: Path, data: Path) -> None:
    run = small(data, tmp_path, track="events")
    assert isinstance(stored_runs.read(run.path), StoredRun)
    listed = json.loads((run.path / "MANIFEST.json").read_text())["files"]
    assert listed["events.jsonl"]["size"] == (run.path / "events.jsonl").stat().st_size
