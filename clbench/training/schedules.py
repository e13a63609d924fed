"""Learning-rate schedules: how the rate changes within an experience.

Each rate is a closed formula of the step, so it can be computed without the steps before. The rates equal those of
torch.optim.lr_scheduler, as tests check.
"""

from __future__ import annotations

import copy
import math
from typing import Any

from torch import nn
from typing_extensions import assert_never

from clbench.base.recipe import Recipe


def changes_by_step(recipe: Recipe) -> bool:
    """Return whether `scheduled_rate` gives the rate; otherwise it is constant, or follows the validation loss."""
    return bool(recipe.warmup_epochs) or recipe.schedule not in ("constant", "plateau")


def scheduled_rate(recipe: Recipe, step: int, steps: int, steps_per_epoch: int) -> float:
    """Return the learning rate of gradient step `step` (from 0) of an experience's `steps`."""
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    match recipe.schedule:
        case "cosine":
            return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
        case "warm_restarts":
            return recipe.lr * 0.5 * (1 + math.cos(math.pi * _since_restart(recipe, (step - warmup) / steps_per_epoch)))
        case "milestones":
            passed = sum(step >= milestone * steps_per_epoch for milestone in recipe.milestones)
            return recipe.lr / recipe.divisor**passed
        case "constant" | "plateau":
            return recipe.lr
        case unknown:
            assert_never(unknown)


def _since_restart(recipe: Recipe, epochs: float) -> float:
    """Return the share of the current cosine that has passed after this many epochs."""
    length = recipe.restart_epochs
    while epochs >= length:
        epochs -= length
        length *= recipe.restart_factor
    return epochs / length


class Plateau:
    """The schedule that follows the validation loss, as in FACIL (Masana et al. 2020, arXiv 2010.15277).

    After `patience` epochs without a lower loss the rate is divided and the best weights so far are restored; the
    optimizer keeps its momentum.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.rate = recipe.lr
        self.left = recipe.patience
        self.lowest = math.inf
        self.best: dict[str, Any] = {}
        """State of the trained modules at the lowest loss so far."""

    def after_epoch(self, loss: float, model: nn.Module) -> float | None:
        """Record an epoch's validation loss; return the next epoch's rate, or None if the experience ends."""
        if loss < self.lowest or not self.best:
            self.lowest, self.left, self.best = loss, self.recipe.patience, copy.deepcopy(model.state_dict())
            return self.rate
        self.left -= 1
        if self.left <= 0:
            self.rate /= self.recipe.divisor
            if self.rate < self.recipe.lr_min:
                return None
            self.left = self.recipe.patience
            model.load_state_dict(self.best)
        return self.rate
