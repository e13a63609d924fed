"""`--tune chf`: choose learning rate and stability weight in every experience, from its own training data alone.

The continual hyper-parameter framework of Masana et al. 2020 (arXiv 2010.15277, after De Lange et al. 2019, arXiv
1909.08383), with FACIL's values. First plasticity: the network is fine-tuned on the experience with several learning
rates, and the one with the best accuracy on held-out data of the same experience is kept. Then stability: the method
itself is trained with a large weight of its stability term, which is halved until its accuracy on the held-out data is
at most a fifth below that of fine-tuning. No earlier, later, or test data are read.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from clbench.base.config import configure, plain
from clbench.base.continual_tuning import ContinualTuning
from clbench.base.recipe import Recipe
from clbench.base.strategy import Strategy, config_class
from clbench.errors import Divergence
from clbench.networks.network import Network
from clbench.training.fine_tuning import FineTuning
from clbench.training.loop import Trainer


@dataclass
class Search:
    """The trials in one experience, the choice, and the cost of the search."""

    lr: float
    weight: float | None = None
    trials: list[dict[str, Any]] = field(default_factory=list)
    """For each trial `lr`, `weight` (None for fine-tuning) and `validation_accuracy` (None if it diverged)."""

    samples_seen: int = 0
    gradient_steps: int = 0
    seconds: float = 0.0


MakeTrainer = Callable[[Network, Strategy[Any], Recipe], Trainer]


def search(
    index: int,
    trainer: Trainer,
    make_trainer: MakeTrainer,
    recipe: Recipe,
    tuning: ContinualTuning,
    first_rate: float | None,
) -> Search:
    """Search for experience `index`, which `trainer` is about to train; its network and strategy are not changed.

    `make_trainer` makes the trainer of a trial from copies; `recipe` is the strategy's, before any choice; `first_rate`
    is the rate chosen in experience 0, None in experience 0.
    """
    began = time.perf_counter()
    with_validation = replace(recipe, validation=recipe.validation or tuning.validation)
    found = Search(lr=recipe.at(index).lr)

    def attempt(network: Network, strategy: Strategy[Any], rate: float, weight: float | None) -> float:
        trial = make_trainer(network, strategy, with_rate(with_validation, rate))
        trial.optimizer_state = copy.deepcopy(trainer.optimizer_state)
        accuracy = None
        try:
            if trial.fit(index):
                accuracy = trial.validation_accuracy()
        except Divergence:
            pass
        found.samples_seen += trial.costs.samples_seen
        found.gradient_steps += trial.costs.gradient_steps
        found.trials.append({"lr": rate, "weight": weight, "validation_accuracy": accuracy})
        return accuracy or 0.0

    plasticity = -1.0
    for rate in _rates(recipe.at(index).lr, first_rate, tuning):
        accuracy = attempt(copy.deepcopy(trainer.model), FineTuning("current"), rate, None)
        if accuracy > plasticity:
            plasticity, found.lr = accuracy, rate
    if index > 0 and tuning.weight and tuning.start is not None:
        found.weight = tuning.start
        for _ in range(tuning.searches):
            network, strategy = copy.deepcopy((trainer.model, trainer.strategy))
            strategy.config = with_weight(strategy, tuning.weight, found.weight)
            if attempt(network, strategy, found.lr, found.weight) >= (1 - tuning.tolerance) * plasticity:
                break
            found.weight *= tuning.decay
    found.seconds = time.perf_counter() - began
    return found


def _rates(lr: float, first_rate: float | None, tuning: ContinualTuning) -> Iterator[float]:
    if first_rate is None:
        yield from (lr * factor for factor in tuning.first_rates)
        return
    below = [lr * factor for factor in tuning.rates if lr * factor < first_rate]
    yield from below[: tuning.rate_searches]


def with_rate(recipe: Recipe, rate: float) -> Recipe:
    """Return the recipe with this learning rate in every experience."""
    return replace(recipe, lr=rate, first=replace(recipe.first, lr=None))


def with_weight(strategy: Strategy[Any], name: str, weight: float) -> Any:
    """Return the strategy's config with a new value of its stability weight."""
    return configure(config_class(type(strategy)), {**plain(strategy.config), name: weight}, name)
