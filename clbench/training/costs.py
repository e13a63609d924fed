"""What an experience costs: samples, steps, bytes, and seconds by what they were spent on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

PHASES = {
    "data": "choosing, gathering, augmenting and scaling batches",
    "forward": "the network's answers",
    "backward": "gradients",
    "optimizer": "updates of the weights",
    "replayed": "whole steps, replayed from a recorded CUDA graph",
    "strategy": "the strategy's loss and its other hooks, its recorded answers among them",
    "tuning": "choosing hyper-parameters",
    "evaluation": "predicting the test set, and the audit's questions to the network",
    "bookkeeping": "counts, hashes, audit and checkpoint",
}
"""What a run spends its time on, each second in one of them."""


class PhaseTimer:
    """Adds up seconds by phase. It is in one phase at any time, so that nothing is left over or counted twice."""

    def __init__(self, wait: Callable[[], None] | None = None) -> None:
        """`wait` is called at every change of phase; for a device that works behind the program's back."""
        self._wait = wait
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._phase = "bookkeeping"
        self._since = time.perf_counter()

    def enter(self, phase: str) -> str:
        """From here on the time belongs to `phase`; return the phase that ends here."""
        if self._wait is not None:
            self._wait()
        now = time.perf_counter()
        ended = self._phase
        self._seconds[ended] += now - self._since
        self._phase, self._since = phase, now
        return ended

    def skip(self) -> None:
        """What has passed since the last change of phase is not counted."""
        self._since = time.perf_counter()

    def so_far(self) -> dict[str, float]:
        """Return the seconds by phase since the last reading."""
        self.enter(self._phase)
        return dict(self._seconds)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count seconds by phase that were spent elsewhere."""
        for phase, value in seconds.items():
            self._seconds[phase] += value

    def read(self) -> dict[str, float]:
        """Return the seconds by phase since the last reading, and begin again."""
        seconds, self._seconds = self.so_far(), dict.fromkeys(PHASES, 0.0)
        return seconds


@dataclass
class Costs:
    """What one experience cost."""

    samples_seen: int = 0
    gradient_steps: int = 0
    replayed_steps: int = 0
    """Gradient steps that were replayed from a recorded CUDA graph; see training/cuda_graphs.py."""

    not_replayed: str | None = None
    """Why steps were not, on a device that can."""

    teacher: Literal["recorded", "online"] | None = None
    """How the old network answers: `recorded` once before training, `online` at every step, or not at all."""
    teacher_bytes: int = 0
    features_cached: bool = False
    training_seconds: float = 0.0
    teacher_seconds: float = 0.0
    trained: bool = False
    """Whether the strategy trained in the experience at all."""

    past_data_bytes: int = 0
    """Training data of earlier experiences that this one read again."""

    shared: bool = False
    """Whether it was trained once for several strategies; its costs are those of that training."""
