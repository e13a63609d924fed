"""The costs of an experience: samples, gradient steps, bytes, and seconds by phase."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

PHASES = {
    "data": "choosing, gathering, augmenting and scaling batches",
    "forward": "the network's forward pass",
    "backward": "gradients",
    "optimizer": "updates of the weights",
    "replayed": "whole steps, replayed as a CUDA graph",
    "strategy": "the strategy's loss and other hooks, including teacher outputs",
    "tuning": "choosing hyper-parameters",
    "evaluation": "predicting the test set, and the audit's checks of the predictions",
    "bookkeeping": "counts, hashes, audit and checkpoint",
}
"""What a run spends its time on; each second counts towards exactly one phase."""


class PhaseTimer:
    """Adds up seconds by phase. It is always in exactly one phase, so that every second counts once."""

    def __init__(self, wait: Callable[[], None] | None = None) -> None:
        """`wait` is called at every change of phase, to synchronize an asynchronous device."""
        self._wait = wait
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._phase = "bookkeeping"
        self._since = time.perf_counter()

    def enter(self, phase: str) -> str:
        """Start `phase`; return the phase that has ended."""
        if self._wait is not None:
            self._wait()
        now = time.perf_counter()
        ended = self._phase
        self._seconds[ended] += now - self._since
        self._phase, self._since = phase, now
        return ended

    def skip(self) -> None:
        """Discard the time since the last change of phase."""
        self._since = time.perf_counter()

    def so_far(self) -> dict[str, float]:
        """Return the seconds by phase since the last `read`."""
        self.enter(self._phase)
        return dict(self._seconds)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add seconds by phase that were spent elsewhere."""
        for phase, value in seconds.items():
            self._seconds[phase] += value

    def read(self) -> dict[str, float]:
        """Return the seconds by phase since the last call, and reset them."""
        seconds, self._seconds = self.so_far(), dict.fromkeys(PHASES, 0.0)
        return seconds


@dataclass(frozen=True)
class Epoch:
    """The loss and the learning rate of one epoch."""

    loss: float
    """Mean of the strategy's loss over the gradient steps."""

    learning_rate: float
    """Learning rate of the last gradient step."""


@dataclass
class Costs:
    """The costs of one experience, and the losses and learning rates of its epochs."""

    samples_seen: int = 0
    gradient_steps: int = 0
    epochs: list[Epoch] = field(default_factory=list)
    replayed_steps: int = 0
    """Gradient steps that were replayed as a CUDA graph; see training/cuda_graphs.py."""

    not_replayed: str | None = None
    """Why steps were not replayed, on a device that can replay them."""

    teacher: Literal["recorded", "online"] | None = None
    """When teacher outputs are computed: `recorded` before training, `online` at every step; None without a teacher."""
    teacher_bytes: int = 0
    features_cached: bool = False
    training_seconds: float = 0.0
    teacher_seconds: float = 0.0
    trained: bool = False
    """Whether the strategy trained in the experience at all."""

    informative_cross_entropy: bool | None = None
    """Whether any cross-entropy of the batches ranged over more than one output; None if none was computed."""

    past_data_bytes: int = 0
    """Size of the training data that this experience read from earlier ones."""

    shared: bool = False
    """Whether the experience was trained once for several strategies; the costs are those of that training."""
