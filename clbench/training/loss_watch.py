"""Monitor the losses of an experience: average them, stop at a NaN or infinite one, and report progress."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from clbench.base.events import Listener, Note, StepsTaken, TrainingProgress
from clbench.errors import Divergence
from clbench.system.output import duration
from clbench.training.costs import Costs

# Losses are checked in groups, because reading each one would synchronize with the GPU at every step.
_CHECKED_AT_ONCE = 50
_SECONDS_BETWEEN_REPORTS = 0.2

_FIRST_SECONDS = 5.0
"""Seconds of training from which the duration of the run is estimated."""

_LONG = 60.0
"""Seconds; longer durations are announced."""


class LossWatch:
    """Averages losses by epoch, checks them, and reports progress."""

    def __init__(self, run: str, notify: Listener) -> None:
        self._run, self._notify = run, notify
        self._estimated = False

    def begin(self, experience: int, steps: int, ahead: float = 1.0, before: int | None = None) -> None:
        """Start an experience of `steps` gradient steps; this and all later experiences take `ahead` times as many.

        If the run is tracked, `before` is the number of steps that it took in earlier experiences.
        """
        self._before = before
        self._ahead = ahead
        self._experience, self._steps = experience, steps
        self._unchecked: list[Tensor] = []
        self._rates: list[Tensor | float] = []
        self.sent: list[StepsTaken] = []
        """The events sent about the experience's steps, for runs that continue from its end."""

        self.begin_epoch(0)
        self._reported = self._began = time.perf_counter()

    def begin_epoch(self, epoch: int) -> None:
        """Start epoch number `epoch`."""
        self._epoch = epoch
        self._losses: list[float] = []

    def mean(self, costs: Costs) -> float | None:
        """Return the mean loss of the epoch's steps, up to the last that `costs` counts; None if there were none."""
        self.check(costs)
        return math.fsum(self._losses) / len(self._losses) if self._losses else None

    def note(self, loss: Tensor, costs: Costs, rate: Tensor | float | None = None) -> None:
        """Record loss and learning rate of the last step that `costs` counts. Raises Divergence, some steps late.

        The rate is needed only if the run is tracked.
        """
        self._unchecked.append(loss)
        if rate is not None:
            self._rates.append(rate)
        if len(self._unchecked) >= _CHECKED_AT_ONCE:
            self.check(costs)
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

    def check(self, costs: Costs) -> None:
        """Raise Divergence if an unchecked loss is not finite; the last one is from the last step in `costs`."""
        if not self._unchecked:
            return
        losses = _numbers(self._unchecked)
        finite = list(itertools.takewhile(math.isfinite, losses))
        first = costs.gradient_steps - len(losses)
        if self._before is not None and finite:
            self._send(finite, self._before + first + len(finite), costs)
        if len(finite) < len(losses):
            step, loss = first + len(finite), losses[len(finite)]
            raise Divergence(f"in experience {self._experience}, step {step}: the loss became {loss}")
        self._losses += losses
        self._unchecked.clear()
        self._rates.clear()

    def _send(self, losses: list[float], step: int, costs: Costs) -> None:
        speed = costs.samples_seen / (time.perf_counter() - self._began)
        rates = _numbers(self._rates)[: len(losses)]
        taken = StepsTaken(self._run, self._experience, self._epoch, step, self._steps, losses, rates, speed)
        self.sent.append(taken)
        self._notify(taken)

    def send_again(self, sent: Sequence[StepsTaken]) -> None:
        """Send the steps that another run took for this run."""
        for taken in sent:
            self._notify(replace(taken, run=self._run))


def _numbers(values: Sequence[Tensor | float]) -> list[float]:
    """Return the values as numbers; from a GPU, all are read at once."""
    if isinstance(values[0], Tensor):
        numbers: list[float] = torch.stack([torch.as_tensor(value).reshape(()) for value in values]).tolist()
        return numbers
    return [float(value) for value in values]
