"""What a run tells those who watch it. Watching changes nothing in the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunStarted:
    """Training begins, or goes on after `resumed_after` finished experiences."""

    run: str
    experiences: int
    length: str
    """How long each experience trains: `4 epochs` or `2000 steps`."""

    resumed_after: int


@dataclass(frozen=True)
class TrainingProgress:
    """Sent a few times a second while an experience trains."""

    run: str
    experience: int
    epoch: int
    fraction: float
    """Of the experience's batches, from 0 to 1."""
    images_per_second: float


@dataclass(frozen=True)
class ExperienceFinished:
    """An experience has been trained and evaluated; the accuracies are class-incremental, None where undefined."""

    run: str
    experience: int
    old_accuracy: float | None
    new_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class RunFinished:
    """The run is published in the results folder."""

    run: str
    path: str


@dataclass(frozen=True)
class RunSkipped:
    """The run was there already."""

    run: str
    path: str


@dataclass(frozen=True)
class RunFailed:
    """The run ended with an error and is kept apart."""

    run: str
    message: str
    path: str


@dataclass(frozen=True)
class Note:
    """Something that the user should know."""

    text: str


Event = RunStarted | TrainingProgress | ExperienceFinished | RunFinished | RunSkipped | RunFailed | Note
Listener = Callable[[Event], None]

_KINDS = {cls.__name__: cls for cls in Event.__args__}


def to_json(event: Event) -> dict[str, Any]:
    """Return the event as JSON-ready values."""
    return {"event": type(event).__name__, **dataclasses.asdict(event)}


def from_json(values: dict[str, Any]) -> Event:
    """Return the event that `to_json` was given."""
    fields = dict(values)
    event: Event = _KINDS[fields.pop("event")](**fields)
    return event
