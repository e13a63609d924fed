"""Writes events.jsonl: what happened in a run, one event per line, kept with the run.

It is written in the run's work folder while the run trains, so that a run that is killed loses none of it. When the run
resumes, it is cut back to the checkpoint, so that no step is in it twice.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from datetime import datetime, timezone
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
    RunStarted,
    StepsTaken,
    to_json,
)

NAME = "events.jsonl"
_KEPT = (RunStarted, StepsTaken, EvaluatedWithin, ExperienceFinished)


class EventFile:
    """A listener that keeps a run's events in its `work` folder and passes them on.

    If they cannot be written, that is reported once, the file is removed, and the run continues.
    """

    def __init__(self, work: Path, finished: int, notify: Listener) -> None:
        """Continue after that number of finished experiences."""
        self._path, self._notify = work / NAME, notify
        self._descriptor: int | None = None
        with self._reporting():
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_APPEND, 0o644)
            os.truncate(self._descriptor, _length(self._path, finished))

    def __enter__(self) -> EventFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, event: Event) -> None:
        """Keep the event, if it is one of the run, and pass it on."""
        if self._descriptor is not None and isinstance(event, _KEPT):
            with self._reporting():
                _append(self._descriptor, event)
                if isinstance(event, ExperienceFinished):  # the checkpoint that follows relies on it
                    os.fsync(self._descriptor)
        self._notify(event)

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._close()
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._notify(Note(f"{NAME} cannot be written ({error.strerror}): the run continues without it"))

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def with_end(work: Path, end: RunFinished | RunFailed) -> dict[str, Path]:
    """Return the file of a run's events as one of the run's files, with its `end`; nothing if it could not be kept."""
    path = work / NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_APPEND)
        try:
            _append(descriptor, end)
        finally:
            os.close(descriptor)
    except OSError:
        return {}
    return {NAME: path}


def _append(descriptor: int, event: Event) -> None:
    time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    line = memoryview((json.dumps({"time": time, **to_json(event)}) + "\n").encode())
    while line:
        line = line[os.write(descriptor, line) :]


def _length(path: Path, finished: int) -> int:
    """Return how many bytes of the file belong to the experiences that are finished."""
    length = 0
    with path.open("rb") as lines:
        for line in lines if finished else ():
            length += len(line)
            with contextlib.suppress(ValueError):  # a line that was cut off, or lost with the power
                event = json.loads(line)
                if (event["event"], event.get("experience")) == (ExperienceFinished.__name__, finished - 1):
                    return length
    return 0
