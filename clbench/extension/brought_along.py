"""Gives a strategy what it needs of a given network's classes: its first experience, which was trained elsewhere.

The strategy's code needs no change. If its state was kept with the network, it is restored. If images of old classes
are given, they are shown to the strategy as the first experience's data, without training on them; it keeps those that
it stores. Otherwise its hooks are called without data, and a strategy that asks for data cannot extend the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor

from clbench.base.batch import Batch
from clbench.base.exemplars import ExemplarMemory
from clbench.base.experience import Experience
from clbench.base.strategy import Strategy
from clbench.data.batches import TrainingSet
from clbench.deployment.strategy_states import StrategyState
from clbench.networks.network import Network
from clbench.system.randomness import seed_everything
from clbench.system.seeds import derive
from clbench.training.loop import Trainer

OLD_IMAGES = "--old-images FOLDER, a few images of each old class"
_BATCH = 64
_FROM_NEW_WEIGHTS = "it starts from new weights, so nothing would remain of the network"


class CannotExtend(Exception):
    """A strategy cannot extend the network; the message says what it would need."""


class _NeedsData(Exception):
    """A hook asked for the data of the first experience."""


class _NoData:
    """Stands in for the first experience's data, which is not available."""

    def __len__(self) -> int:
        raise _NeedsData

    def batches(self, size: int, generator: torch.Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        raise _NeedsData

    def shuffled(self, size: int, augmented: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        raise _NeedsData

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        raise _NeedsData

    def scaled(self, images: Tensor) -> NoReturn:
        raise _NeedsData


def bring_along(
    strategy: Strategy[Any],
    model: Network,
    sizes: tuple[int, int],
    state: StrategyState | None,
    old: TrainingSet | None,
    trainer: Trainer,
) -> None:
    """Give a started strategy what is available of the old classes. Raises CannotExtend."""
    if state is not None:
        if strategy.reinitialize(Experience(1, sizes)):
            raise CannotExtend(_FROM_NEW_WEIGHTS)
        state.restore(strategy)
        return
    seed_everything(derive(trainer.seeds["training"], "global", 0))
    check(strategy, model, sizes, old is not None)
    if old is None:
        return
    if _follows_steps(strategy):
        _show(strategy, model, Experience(0, sizes), old, trainer)
    strategy.after_experience(model, Experience(0, sizes, samples=old))
    for value in vars(strategy).values():
        if isinstance(value, ExemplarMemory):
            value.hold()


def check(strategy: Strategy[Any], model: Network, sizes: tuple[int, int], old_images: bool) -> None:
    """Raise CannotExtend if a started strategy without kept state lacks something.

    Without images of old classes, its hooks are called, so that it then has what it needs.
    """
    first, second = Experience(0, sizes), Experience(1, sizes)
    if strategy.reinitialize(second):
        raise CannotExtend(_FROM_NEW_WEIGHTS)
    if _follows_steps(strategy) and not strategy.memory:
        raise CannotExtend("it measures during the training on the old classes how important each weight is")
    if strategy.memory and not old_images:
        raise CannotExtend(f"it replays images of the old classes; give some: {OLD_IMAGES}")
    if not old_images:
        _without_data(strategy, model, first, second)


def _follows_steps(strategy: Strategy[Any]) -> bool:
    return type(strategy).after_step is not Strategy.after_step


def _without_data(strategy: Strategy[Any], model: Network, first: Experience, second: Experience) -> None:
    try:
        strategy.after_experience(model, Experience(0, first.classes_per_experience, samples=_NoData()))
    except _NeedsData:
        raise CannotExtend(
            f"it needs data of the old classes: its kept statistics (clbench train --prepare), or {OLD_IMAGES}"
        ) from None
    if strategy.training_data(second) == "seen":
        raise CannotExtend(f"it trains on all data, old and new; give old images: {OLD_IMAGES}")


def _show(strategy: Strategy[Any], model: Network, first: Experience, old: TrainingSet, trainer: Trainer) -> None:
    """Show a strategy the old images batch by batch, as after training steps, so that it can fill a memory."""
    network = model.in_evaluation()
    with torch.no_grad():
        for x, y, rows, _ in old.in_order(_BATCH):
            strategy.after_step(Batch(x, y, rows, network(x).float(), None, model, first, trainer))
