"""Checks the losses of an experience for NaN and infinity, and reports progress."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from clbench.base.events import Listener, TrainingProgress
from clbench.errors import Divergence
from clbench.training.costs import Costs

# Losses are checked in batches, because reading each would synchronize with the GPU at every step.
_CHECKED_AT_ONCE = 50
_SECONDS_BETWEEN_REPORTS = 0.2


class LossWatch:
    """Checks losses and reports progress."""

    def __init__(self, run: str, notify: Listener) -> None:
        self._run, self._notify = run, notify
        self.epoch = 0

    def begin(self, experience: int, steps: int) -> None:
        """Start an experience of `steps` gradient steps."""
        self._experience, self._steps = experience, steps
        self._unchecked: list[Tensor] = []
        self._reported = self._began = time.perf_counter()

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
            self._notify(TrainingProgress(self._run, self._experience, self.epoch, fraction, speed))

    def check(self, steps: int) -> None:
        """Raise Divergence if an unchecked loss is not finite; the last one is that of step `steps`."""
        if not self._unchecked:
            return
        finite = torch.stack([loss.reshape(()) for loss in self._unchecked]).isfinite().tolist()
        if not all(finite):
            step = steps - len(finite) + finite.index(False)
            value = float(self._unchecked[finite.index(False)])
            raise Divergence(f"in experience {self._experience}, step {step}: the loss became {value}")
        self._unchecked.clear()
