"""Passes the events of a command's runs on to its trackers, from the process that executes or distributes the runs.

Each tracker is in a process of its own (see process.py), and a thread sends it events through a pipe, so that no run
waits for it. One that fails, or does not keep up, is reported once and left out from then on.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from clbench.base.events import (
    EvaluatedWithin,
    Event,
    ExperienceFinished,
    Listener,
    Note,
    RunFailed,
    RunFinished,
    RunSkipped,
    RunStarted,
    StepsTaken,
    to_json,
)
from clbench.system.files import working_folder
from clbench.system.output import one_line
from clbench.system.own_python import module_command
from clbench.trackers.process import PATIENCE, without_credentials
from clbench.trackers.registry import EVENTS

MOST_WAITING = 10_000
"""Events that may wait for a tracker; each stands for up to 50 steps."""

_FOLLOWED = (RunStarted, StepsTaken, EvaluatedWithin, ExperienceFinished, RunFinished, RunFailed)


class Tracking:
    """A listener that shows every event with `display`, and passes those of tracked runs on to the trackers.

    A tracker's process starts with the first of these runs: if all are stored already, there is nothing to track.
    """

    def __init__(self, names: Sequence[str], display: Listener) -> None:
        self._names = list(dict.fromkeys(name for name in names if name != EVENTS))
        self._wanted, self._display = bool(names), display
        self._folder = working_folder()  # a strategy may change it
        self._experiment = ""
        self._runs: set[str] = set()
        self._skipped, self._over = 0, False
        self._trackers: list[TrackerProcess] | None = None

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tracker in self._trackers or ():
            tracker.end()
        if error is not None:  # a user who stops a command does not wait; the trackers end by themselves
            deadline = time.monotonic() + 0.5
            for tracker in self._trackers or ():
                tracker.told(deadline)
            self._over = True
            return
        deadline = time.monotonic() + PATIENCE
        for tracker in self._trackers or ():
            tracker.ended(deadline)
        if self._skipped:
            runs = "1 run is" if self._skipped == 1 else f"{self._skipped} runs are"
            self._tell(f"{runs} stored already and not tracked")

    def expect(self, experiment: str) -> None:
        """Set the name that the runs that follow have in common."""
        self._experiment = experiment

    def __call__(self, event: Event) -> None:
        """Show the event, and pass it on to the trackers."""
        self._display(event)
        if isinstance(event, RunSkipped) and self._wanted:
            self._skipped += 1
        if isinstance(event, RunStarted) and event.run_id:
            self._runs.add(event.run)
            if self._trackers is None:
                self._trackers = [
                    TrackerProcess(name, self._experiment, self._folder, self._tell) for name in self._names
                ]
        if isinstance(event, _FOLLOWED) and event.run in self._runs:
            for tracker in self._trackers or ():
                tracker.send(event)

    def _tell(self, text: str) -> None:
        if not self._over:
            self._display(Note(text))


class TrackerProcess:
    """The process of one tracker, as seen by the process that started it."""

    def __init__(self, name: str, experiment: str, folder: Path, tell: Callable[[str], None]) -> None:
        self._name, self._tell = name, tell
        self._waiting: queue.Queue[Event | None] = queue.Queue(MOST_WAITING)
        self._left_out, self._leaving_out = False, threading.Lock()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (it stays open as long as the process)
        try:
            # A session of its own: Ctrl-C in the terminal does not reach it. It ends when its input does.
            self._process = subprocess.Popen(
                module_command("clbench.trackers.process", name, experiment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            self._said.close()
            self._leave_out(f"its process does not start: {error.strerror}")
            return
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._reader.start()
        self._writer.start()

    def send(self, event: Event | None) -> None:
        """Queue an event for the tracker; None ends it."""
        if self._left_out:
            return
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self._leave_out(f"it does not keep up: {MOST_WAITING:,} events wait for it")

    def end(self) -> None:
        """Tell the tracker, after all waiting events, that there are no more; it then ends."""
        self.send(None)

    def told(self, deadline: float) -> None:
        """Wait until the tracker has been sent everything, at most until the deadline, in monotonic time."""
        if not self._left_out:
            self._writer.join(max(0.0, deadline - time.monotonic()))

    def ended(self, deadline: float) -> None:
        """Wait until the tracker has ended; leave it out if it has not by the deadline, in monotonic time."""
        if self._left_out:
            return
        self._reader.join(min(2.0, deadline - time.monotonic()))
        if self._reader.is_alive():
            self._tell(f"waiting for {self._name} to write the rest")
            self._reader.join(max(0.0, deadline - time.monotonic()))
        if self._reader.is_alive():
            self._leave_out(f"it did not end within {PATIENCE:.0f} seconds")

    def _write(self) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):  # the process has ended, which its last word explains
            while event := self._waiting.get():
                self._process.stdin.write(json.dumps(to_json(event)).encode() + b"\n")
                if self._waiting.empty():
                    self._process.stdin.flush()
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout
        done = False
        with self._process.stdout as answers, self._said:
            for line in answers:
                if not line.endswith(b"\n"):  # it was killed in the middle
                    break
                try:
                    answer = json.loads(line)
                except ValueError:
                    self._leave_out(f"its answer is not valid: {one_line(line.decode(errors='replace'), 200)}")
                    break
                if "opened" in answer:
                    self._tell(f"tracked by {self._name}: {answer['opened']}")
                elif "failed" in answer:
                    self._leave_out(answer["failed"])
                done = done or "done" in answer
            code = self._process.wait()
            if not done:
                self._leave_out(f"its process ended with exit code {code}{self._last_words()}")

    def _last_words(self) -> str:
        """Return the last line that the process printed, if it printed any."""
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f" ({without_credentials(one_line(lines[-1], 500))})" if lines else ""

    def _leave_out(self, reason: str) -> None:
        with self._leaving_out:
            if self._left_out:
                return
            self._left_out = True
        self._tell(f"tracker {self._name} failed: {reason}. It is left out from here on; the runs are not affected.")
        if hasattr(self, "_process"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # also what it started itself
        with contextlib.suppress(queue.Full):  # so that the thread that writes ends
            self._waiting.put_nowait(None)
