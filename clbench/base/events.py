"""Events that a run sends to its listeners. Listeners cannot change the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Track = Literal["sent", "kept"]
"""Whether the losses and metrics of a tracked run are sent to listeners, or also kept in a file of the run."""


@dataclass(frozen=True)
class RunStarted:
    """Training starts, or resumes after `resumed_after` finished experiences."""

    run: str
    experiences: int
    length: str
    """Length of training in each experience: `4 epochs` or `2000 steps`."""

    resumed_after: int
    step: int = 0
    """Gradient steps of the finished experiences."""

    run_id: str = ""
    """The run's id; empty if the run is not tracked."""

    spec: dict[str, Any] = field(default_factory=dict)
    """The run's spec as JSON-ready values; empty if the run is not tracked."""


@dataclass(frozen=True)
class TrainingProgress:
    """Sent a few times a second while an experience trains."""

    run: str
    experience: int
    epoch: int
    fraction: float
    """Share of the experience's batches that are done, from 0 to 1."""
    images_per_second: float


@dataclass(frozen=True)
class StepsTaken:
    """Consecutive gradient steps of an experience; sent only if the run is tracked."""

    run: str
    experience: int
    epoch: int
    step: int
    """Gradient steps of the run so far: the number of the last of these steps, counted from 1."""

    of: int
    """Gradient steps of the whole experience."""

    losses: list[float]
    """The strategy's loss in each of these steps."""

    learning_rates: list[float]
    """The recipe's learning rate in each."""

    images_per_second: float
    """Since the experience began."""


@dataclass(frozen=True)
class EvaluatedWithin:
    """The network was evaluated between two gradient steps of an experience; sent only if the run is tracked."""

    run: str
    experience: int
    step: int
    """Gradient steps of the run so far."""

    metrics: dict[str, float]
    """`accuracy_seen`, `old_accuracy` and `new_accuracy` as `setting/name`, without undefined values."""


@dataclass(frozen=True)
class ExperienceFinished:
    """An experience has been trained and evaluated; the accuracies are class-incremental, None if undefined."""

    run: str
    experience: int
    old_accuracy: float | None
    new_accuracy: float | None
    seconds: float
    step: int = 0
    """Gradient steps of the run so far."""

    metrics: dict[str, float] = field(default_factory=dict)
    """Every metric of the experiences so far as `setting/name`, without undefined values; empty if the run is not
    tracked."""


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint after `finished` experiences is in the work folder; a run that is stopped now resumes from it."""

    run: str
    finished: int


@dataclass(frozen=True)
class RunFinished:
    """The run is finished and stored in the results folder."""

    run: str
    path: str


@dataclass(frozen=True)
class RunSkipped:
    """The run was already in the results folder."""

    run: str
    path: str


@dataclass(frozen=True)
class RunFailed:
    """The run ended with an error and is stored apart from finished runs."""

    run: str
    message: str
    path: str


@dataclass(frozen=True)
class FeaturesProgress:
    """Sent a few times a second while a frozen network's features are extracted, and when all are done."""

    features: str
    """The network and the dataset."""

    done: int
    """Images processed so far."""

    total: int
    images_per_second: float


@dataclass(frozen=True)
class DecodingProgress:
    """Sent a few times a second while image files are decoded, and when all are done."""

    images: str
    """What the images are."""

    done: int
    total: int
    images_per_second: float


@dataclass(frozen=True)
class Note:
    """A message for the user."""

    text: str


Event = (
    RunStarted
    | TrainingProgress
    | StepsTaken
    | EvaluatedWithin
    | ExperienceFinished
    | CheckpointSaved
    | RunFinished
    | RunSkipped
    | RunFailed
    | FeaturesProgress
    | DecodingProgress
    | Note
)
Listener = Callable[[Event], None]

_KINDS = {cls.__name__: cls for cls in Event.__args__}


def to_json(event: Event) -> dict[str, Any]:
    """Return the event as JSON-ready values."""
    return {"event": type(event).__name__, **dataclasses.asdict(event)}


def from_json(values: dict[str, Any]) -> Event:
    """Return the event that `to_json` turned into these values."""
    fields = dict(values)
    event: Event = _KINDS[fields.pop("event")](**fields)
    return event
