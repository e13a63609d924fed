"""The process of a tracker, which reads events as JSON lines from its standard input until there are no more.

From here, a tracker can do no harm to the random numbers, the signals or the memory of a run, nor by being slow. It
answers with JSON lines: `opened` when it is ready, and at the end `failed` or `done`. If the command that started it is
killed, its input ends; then it ends the runs that are under way as interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from filelock import FileLock, Timeout

from clbench.base.events import (
    EvaluatedWithin,
    Event,
    ExperienceFinished,
    RunFailed,
    RunFinished,
    RunStarted,
    StepsTaken,
    from_json,
)
from clbench.system.output import one_line
from clbench.trackers.points import Points
from clbench.trackers.registry import load
from clbench.trackers.tracker import Status, TrackedRun, Tracker

FOLDER = Path("tracking")

PATIENCE = 60.0
"""Seconds that a tracker may take to finish after the last event."""


class Follower:
    """Turns the events of runs into calls to a tracker."""

    def __init__(self, tracker: Tracker, experiment: str) -> None:
        self._tracker, self._experiment = tracker, experiment
        self._runs: dict[str, tuple[TrackedRun, Points]] = {}
        self._locks: dict[str, FileLock] = {}

    def __call__(self, event: Event) -> None:
        """Handle an event of a run that is tracked."""
        if isinstance(event, RunStarted):
            self._end(event.run, "interrupted")  # where it ran before, if it continues elsewhere
            run = TrackedRun(event.run, event.run_id, self._experiment, event.spec, event.step)
            self._runs[run.name] = run, Points()
            self._wait_for_another(run)
            self._tracker.begin(run)
        elif isinstance(event, StepsTaken) and event.run in self._runs:
            run, points = self._runs[event.run]
            for step, values in points.add(event):
                self._tracker.log(run, step, values)
        elif isinstance(event, EvaluatedWithin) and event.run in self._runs:
            self._tracker.log(self._runs[event.run][0], event.step, event.metrics)
        elif isinstance(event, ExperienceFinished) and event.run in self._runs:
            run, points = self._runs[event.run]
            for step, values in points.rest():
                self._tracker.log(run, step, values)
            own = {"experience": float(event.experience), "experience_seconds": event.seconds}
            self._tracker.log(run, event.step, own | event.metrics)
        elif isinstance(event, RunFinished):
            self._end(event.run, "finished")
        elif isinstance(event, RunFailed):
            self._end(event.run, "failed")

    def close(self) -> None:
        """End the runs that are under way, and the tracker."""
        for name in list(self._runs):
            self._end(name, "interrupted")
        self._tracker.close()

    def _end(self, name: str, status: Status) -> None:
        if name in self._runs:
            run, points = self._runs.pop(name)
            # The steps of an interrupted run since the last point are taken again.
            for step, values in points.rest() if status != "interrupted" else ():
                self._tracker.log(run, step, values)
            self._tracker.end(run, status)
            lock = self._locks.pop(name)
            if lock.is_locked:
                Path(lock.lock_file).unlink(missing_ok=True)  # while it is held: afterwards it may be another's
                lock.release()

    def _wait_for_another(self, run: TrackedRun) -> None:
        """Wait for the tracker of a command that was killed in this run, if it is still ending the run."""
        self._tracker.folder.mkdir(parents=True, exist_ok=True)
        lock = self._locks[run.name] = FileLock(self._tracker.folder / f".{run.run_id}.lock")
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=PATIENCE)


def serve(name: str, experiment: str, lines: TextIO, answers: TextIO) -> int:
    """Track the events in `lines` with the tracker `name`; return the exit code."""

    def answer(kind: str, text: str = "") -> None:
        answers.write(json.dumps({kind: text}) + "\n")
        answers.flush()

    try:
        tracker = load(name)(FOLDER / name)
        answer("opened", one_line(tracker.where()))
        FOLDER.mkdir(exist_ok=True)
        if not (FOLDER / ".gitignore").exists():
            (FOLDER / ".gitignore").write_text("*\n")
        follower = Follower(tracker, experiment)
        for line in lines:
            follower(from_json(json.loads(line)))
        follower.close()
        answer("done")
    except BrokenPipeError:  # the command has ended, and there is nobody to tell
        return 1
    except BaseException as error:
        answer("failed", without_credentials(one_line(f"{type(error).__name__}: {error}", 500)))
        return 1
    return 0


def without_credentials(text: str) -> str:
    """Return a text without the user names and passwords of addresses in it."""
    return re.sub(r"//[^/\s]*@", "//…@", text)


def _end_in_time(lines: int) -> None:
    """End this process if it is still running a while after its input has ended."""
    waiting = select.poll()
    waiting.register(lines, select.POLLHUP)
    while not any(what & select.POLLHUP for _, what in waiting.poll()):
        pass
    time.sleep(PATIENCE)
    os._exit(1)


def main(name: str, experiment: str) -> None:
    """Run the process of the tracker `name`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with its input
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    threading.Thread(target=_end_in_time, args=(0,), daemon=True).start()
    code = serve(name, experiment, sys.stdin, answers)
    answers.close()
    os._exit(code)  # whatever a library still has to do at the end: it was told to end


if __name__ == "__main__":
    main(*sys.argv[1:])
