"""Determines, before any image is read, whether a strategy can extend a network, and what it will use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from clbench.base.experience import Experience
from clbench.base.strategy import Strategy
from clbench.data.import_checks import few
from clbench.deployment.strategy_states import StrategyState
from clbench.deployment.trained_network import TrainedNetwork
from clbench.errors import PluginError, UsageError
from clbench.extension.brought_along import CannotExtend, check
from clbench.extension.explaining import explaining
from clbench.extension.given import as_network, rows_of
from clbench.networks.network import Network
from clbench.results.run_spec import StrategySpec
from clbench.results.spec_building import Method
from clbench.runs.preflight import cross_entropy_over, over_all_classes
from clbench.system.global_state import GlobalState
from clbench.system.randomness import randomness_untouched


@dataclass(frozen=True)
class Prospect:
    """Whether and how a strategy can extend the network."""

    refusal: str | None
    """Why it cannot, as far as is known without training; None if it can."""

    takes_steps: bool
    """Whether it trains by gradient steps."""

    trains_trunk: bool
    """Whether these steps change more than the head."""

    uses_old_images: bool
    """Whether images of old classes, if there are any, make a difference."""


@dataclass(frozen=True)
class Situation:
    """The circumstances, which are the same for every strategy."""

    parent: TrainedNetwork
    sizes: tuple[int, int]
    """Number of old and of new classes."""

    train: int | Literal["all", "head"]
    old_images: bool
    also_old: bool
    without_images: tuple[str, ...] = ()
    """The old classes without any old images."""


def prospect(method: Method, spec: StrategySpec, state: StrategyState | None, situation: Situation) -> Prospect:
    """Return what is known about a strategy, given the `state` that it kept about the old classes, if any."""
    refusal, steps, trunk, uses = _of_its_classes(method, spec, situation), True, True, False
    globally = GlobalState()
    try:
        with randomness_untouched(), explaining(spec.name):
            strategy = method.instance(spec.config)
            network = as_network(situation.parent, situation.train)
            strategy.start(network)
            lacking = _lacks(strategy, network, situation.sizes, False) if state is None else None
            uses = lacking is not None
            if lacking is not None and situation.old_images:
                lacking = _lacks(strategy, network, situation.sizes, True) or _misses(strategy, situation)
            refusal = refusal or lacking
            if refusal is None:
                experience = Experience(1, situation.sizes)
                steps = strategy.training_data(experience) != "read"
                trunk = steps and not _freezes_trunk(strategy, network, experience)
    except (UsageError, PluginError) as error:
        refusal = refusal or error.message
    finally:
        globally.restore()
    return Prospect(refusal, steps, trunk, uses)


def _freezes_trunk(strategy: Strategy[Any], network: Network, experience: Experience) -> bool:
    try:
        return set(network.blocks) <= set(strategy.frozen(network, experience, 0))
    except Exception:  # the hook may need what before_experience sets; it is called again, in training
        return False


def _misses(strategy: Strategy[Any], situation: Situation) -> str | None:
    """Return why images of some old classes do not suffice; they do if it replays them and predicts by the head."""
    if not situation.without_images or (strategy.memory and _answers_by_the_head(type(strategy))):
        return None
    return f"it needs images of each old class, and --old-images has none of {few(situation.without_images)}"


def needs_nothing(method: Method, config: Mapping[str, Any], network: Network, classes: int) -> str | None:
    """Return why nothing can be kept for a strategy that may extend a network of `classes` classes later.

    None if it keeps something that can be stored without images.
    """
    globally, sizes = GlobalState(), (classes, 1)
    try:
        with randomness_untouched(), explaining(method.plugin.name):
            strategy = method.instance(config)
            if strategy.memory:
                return "it keeps images"
            network.head.grow(classes, 0)
            strategy.start(network)
            without = _lacks(strategy, network, sizes, False)
            if without is None:
                return "it needs nothing of the old classes"
            return _lacks(strategy, network, sizes, True)
    finally:
        globally.restore()


def check_options(
    prospects: Mapping[str, Prospect], old_images: bool, epochs: int | None, settings: Sequence[str]
) -> None:
    """Raise UsageError for options that have no effect with any of the strategies, which are given by name.

    `settings` lists what the user set of the recipe and of how much of the network is trained: `recipe.lr`.
    """
    usable = {name: each for name, each in prospects.items() if each.refusal is None}
    if not usable:
        return
    names, one = ", ".join(usable), len(usable) == 1
    if old_images and not any(each.uses_old_images for each in usable.values()):
        raise UsageError(
            f"--old-images has no effect here: {names} use{'s' if one else ''} none",
            "-s all tries every strategy, also those that use them.",
        )
    if any(each.takes_steps for each in usable.values()):
        return
    given = ["--epochs"] if epochs is not None else settings
    if given:
        takes = "takes" if one else "take"
        raise UsageError(f"{given[0]} has no effect here: {names} {takes} no gradient steps")


def _of_its_classes(method: Method, spec: StrategySpec, situation: Situation) -> str | None:
    strategy, new = method.strategy, situation.sizes[1]
    over = cross_entropy_over(spec, situation.sizes, strategy, 1)
    if over == "current" and new == 1:
        ways = over_all_classes(spec, method.plugin)
        works = f"; what ranges over all: {', '.join(ways)}" if ways else ""
        return f"its cross-entropy ranges over the new classes alone, and over one class it is always 0{works}"
    if over == "current" and situation.also_old:
        return "its cross-entropy ranges over the new classes alone, and --also-old has images of others"
    if situation.also_old and strategy.only_new_classes:
        return "it learns from images of new classes alone, and --also-old has images of others"
    if rows_of(situation.parent) is None and uses_the_head(strategy):
        name = situation.parent.record.classifier.name
        return (
            f"the network classifies by {name}, which has no weights to train; it can extend the network that this one "
            "was made from"
        )
    return None


def uses_the_head(strategy: type[Strategy[Any]]) -> bool:
    """Return whether a strategy trains the head or predicts with it, so that the old classes must have rows in it."""
    return strategy.loss is not Strategy.loss or _answers_by_the_head(strategy)


def _answers_by_the_head(strategy: type[Strategy[Any]]) -> bool:
    return strategy.classifier is Strategy.classifier and strategy.predict is Strategy.predict


def _lacks(strategy: Strategy[Any], network: Network, sizes: tuple[int, int], old_images: bool) -> str | None:
    try:
        check(strategy, network, sizes, old_images)
    except CannotExtend as lacking:
        return str(lacking)
    return None
