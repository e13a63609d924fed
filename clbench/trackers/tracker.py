"""The base class of trackers, which pass what happens in runs on to another program, such as TensorBoard."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Status = Literal["finished", "failed", "interrupted"]
"""How a run ended; an interrupted one can be resumed later."""

Value = str | int | float | bool


@dataclass(frozen=True)
class TrackedRun:
    """A run that starts, or resumes after an interruption."""

    name: str
    """Its folder in the results: `splitdigits/lwf/quick-seed0-1cc8f1cc`."""

    run_id: str
    """Hash of its spec: the same run has the same id in every command, and two runs never do."""

    experiment: str
    """A name that the runs of a command have in common; repeating the command gives the same name."""

    spec: Mapping[str, Any]
    """Every choice that its numbers depend on, as in spec.json."""

    step: int
    """Gradient steps after which it resumes; 0 if it starts."""

    @property
    def config(self) -> dict[str, Value]:
        """The spec with one entry per value, by path: `strategy.config.alpha`. Lists are written as JSON."""
        return dict(_flat("", self.spec))

    @property
    def tags(self) -> dict[str, str]:
        """Properties by which users select runs."""
        return {
            "scenario": str(self.spec["scenario"]["name"]),
            "strategy": str(self.spec["strategy"]["name"]),
            "seed": str(self.spec["seeds"]["run"]),
        }


class Tracker(ABC):
    """Passes what happens in the runs of one command on to another program.

    It is called in a process of its own: it may be slow, raise or hang, and no run waits for it or changes. If it
    raises, that is reported once and nothing more is tracked. Several runs may be under way at once.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` is where it may write: `tracking/NAME` in the working folder. Before a run, only `where` is used."""
        self.folder = folder

    @abstractmethod
    def where(self) -> str:
        """Return the command or the address that shows what is tracked, in one line."""

    @abstractmethod
    def begin(self, run: TrackedRun) -> None:
        """Start a run; or resume one after `run.step` steps, of which later steps may have been logged already."""

    @abstractmethod
    def log(self, run: TrackedRun, step: int, values: Mapping[str, float]) -> None:
        """Log values of a run that has taken `step` gradient steps; the step never decreases."""

    @abstractmethod
    def end(self, run: TrackedRun, status: Status) -> None:
        """End a run."""

    def close(self) -> None:  # noqa: B027 (a tracker need not do anything here)
        """Finish whatever concerns all runs; none is under way any more."""


def _flat(path: str, value: Any) -> list[tuple[str, Value]]:
    if isinstance(value, Mapping):
        return [pair for name, each in value.items() for pair in _flat(f"{path}.{name}" if path else name, each)]
    if value is None:
        return []
    return [(path, value if isinstance(value, Value) else json.dumps(value))]
