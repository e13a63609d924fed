"""The losses of an experience: that none is NaN or infinite, and how far training has come."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from clbench.base.events import Listener, TrainingProgress
from clbench.errors import Divergence
from clbench.training.costs import Costs

# Losses are looked at in bunches: reading each would make a GPU wait at every step.
_LOSSES_AT_ONCE = 50
_SECONDS_BETWEEN_REPORTS = 0.2


class LossWatch:
    """Checks losses and reports progress."""

    def __init__(self, run: str, notify: Listener) -> None:
        self._run, self._notify = run, notify
        self.epoch = 0

    def begin(self, experience: int, steps: int) -> None:
        """Start with an experience of so many gradient steps."""
        self._experience, self._steps = experience, steps
        self._unread: list[Tensor] = []
        self._reported = self._began = time.perf_counter()

    def note(self, loss: Tensor, costs: Costs) -> None:
        """Take in the loss of the last step, of all that `costs` counts. Raises Divergence, some steps late."""
        self._unread.append(loss)
        if len(self._unread) >= _LOSSES_AT_ONCE:
            self.check(costs.gradient_steps)
        now = time.perf_counter()
        if now - self._reported > _SECONDS_BETWEEN_REPORTS:
            self._reported = now
            speed = costs.samples_seen / (now - self._began)
            fraction = costs.gradient_steps / self._steps
            self._notify(TrainingProgress(self._run, self._experience, self.epoch, fraction, speed))

    def check(self, steps: int) -> None:
        """Raise Divergence if a loss that was not looked at yet is not finite; the last is that of step `steps`."""
        if not self._unread:
            return
        finite = torch.stack([loss.reshape(()) for loss in self._unread]).isfinite().tolist()
        if not all(finite):
            step = steps - len(finite) + finite.index(False)
            value = float(self._unread[finite.index(False)])
            raise Divergence(f"in experience {self._experience}, step {step}: the loss became {value}")
        self._unread.clear()
