"""Follows the losses of an experience: their mean, whether one is NaN or infinite, and the progress."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from clbench.base.events import Listener, Note, TrainingProgress
from clbench.errors import Divergence
from clbench.system.output import duration
from clbench.training.costs import Costs

# Losses are checked in batches, because reading each would synchronize with the GPU at every step.
_CHECKED_AT_ONCE = 50
_SECONDS_BETWEEN_REPORTS = 0.2

_FIRST_SECONDS = 5.0
"""Of training, from which the time of the run is estimated."""

_LONG = 60.0
"""Seconds; what takes longer is announced."""


class LossWatch:
    """Averages losses by epoch, checks them, and reports progress."""

    def __init__(self, run: str, notify: Listener) -> None:
        self._run, self._notify = run, notify
        self._estimated = False

    def begin(self, experience: int, steps: int, ahead: float = 1.0) -> None:
        """Start an experience of `steps` gradient steps; it and those after it take `ahead` times as many."""
        self._ahead = ahead
        self._experience, self._steps = experience, steps
        self._unchecked: list[Tensor] = []
        self.begin_epoch(0)
        self._reported = self._began = time.perf_counter()

    def begin_epoch(self, epoch: int) -> None:
        """Start epoch number `epoch`."""
        self._epoch = epoch
        self._losses: list[float] = []

    def mean(self, steps: int) -> float | None:
        """Return the mean loss of the epoch's steps, the last of which is step `steps`; None if there were none."""
        self.check(steps)
        return math.fsum(self._losses) / len(self._losses) if self._losses else None

    def note(self, loss: Tensor, costs: Costs) -> None:
        """Record the loss of the last step that `costs` counts. Raises Divergence, some steps late."""
        self._unchecked.append(loss)
        if len(self._unchecked) >= _CHECKED_AT_ONCE:
            self.check(costs.gradient_steps)
        now = time.perf_counter()
        if now - self._reported > _SECONDS_BETWEEN_REPORTS:
            self._reported = now
            speed = costs.samples_seen / (now - self._began)
            fraction = costs.gradient_steps / self._steps
            self._notify(TrainingProgress(self._run, self._experience, self._epoch, fraction, speed))
            if not self._estimated and now - self._began > _FIRST_SECONDS:
                self._estimated = True
                expected = (now - self._began) / fraction * self._ahead
                if expected > _LONG:
                    self._notify(Note(f"{self._run}: training takes about {duration(expected)}, {speed:,.0f} images/s"))

    def check(self, steps: int) -> None:
        """Raise Divergence if an unchecked loss is not finite; the last one is that of step `steps`."""
        if not self._unchecked:
            return
        losses = torch.stack([loss.reshape(()) for loss in self._unchecked]).tolist()
        for step, loss in enumerate(losses, steps - len(losses)):
            if not math.isfinite(loss):
                raise Divergence(f"in experience {self._experience}, step {step}: the loss became {loss}")
        self._losses += losses
        self._unchecked.clear()
