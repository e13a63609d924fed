"""Builds the spec of a run from what was requested: protocol, strategy, seed and machine, each checked."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from clbench.base.config import configure, plain
from clbench.base.continual_tuning import ContinualTuning
from clbench.base.incremental_setting import Setting
from clbench.base.recipe_changes import named
from clbench.base.strategy import Strategy, config_class
from clbench.data.dataset_info import DatasetInfo
from clbench.errors import UsageError
from clbench.plugins.discovery import Plugin
from clbench.plugins.foreign_code import calling
from clbench.results.protocol_building import Protocol
from clbench.results.record_model import to_json
from clbench.results.run_spec import (
    GridTuning,
    NetworkSpec,
    RecipeSpec,
    RunSpec,
    ScenarioSpec,
    Seeds,
    StrategySpec,
    StreamSpec,
)
from clbench.streams.image_domains import Domains
from clbench.streams.kinds import name_of
from clbench.streams.splits import class_order, domain_order, parse_split
from clbench.streams.stream_kind import StreamKind
from clbench.system.seeds import LARGEST
from clbench.system.suggestions import did_you_mean
from clbench.system.tables import listed

ENGINE = 1
"""Raised whenever a change to the harness changes the numbers of a run."""


_ORDERS: dict[str, Literal["seed", "natural"]] = {"seed": "seed", "natural": "natural"}


def _recipe_spec(what: Protocol) -> RecipeSpec:
    changes = {**what.stream_changes, **what.changes, **what.network_changes}
    if not changes:
        return RecipeSpec(name=what.recipe_name, config=what.recipe)
    name = named(what.recipe_name, changes)
    return RecipeSpec(name=name, base=what.recipe_name, changes=changes, config=what.recipe)


@dataclass(frozen=True)
class Method:
    """A strategy with its hyper-parameters."""

    plugin: Plugin
    preset: str | None
    """The published variant that it starts from, if any."""

    strategy: type[Strategy[Any]]
    given: Mapping[str, Any]
    """The hyper-parameters that the user set, on top of the preset's."""

    @property
    def selector(self) -> str:
        """`lwf`, or `lwf:pycil` with a preset that differs from the strategy's defaults."""
        differs = self.preset and (self.strategy.dialects_of or self.strategy.presets[self.preset].get("set"))
        return f"{self.plugin.name}:{self.preset}" if differs else self.plugin.name

    def values(self, setting: Setting, recipe: str = "") -> dict[str, Any]:
        """Return the hyper-parameters fully resolved, as JSON, under the recipe of this name.

        Raises UsageError for an invalid one.
        """
        preset = self.strategy.presets[self.preset] if self.preset else {}
        in_setting = preset.get("in_setting", {}).get(setting, {})
        own = self.strategy.in_recipe.get(recipe, {})
        values = {**own, **preset.get("set", {}), **in_setting, **self.given}
        return plain(configure(config_class(self.strategy), values, self.plugin.name))

    def instance(self, config: Mapping[str, Any]) -> Strategy[Any]:
        """Return the strategy with these hyper-parameters, not started."""
        return self.strategy(configure(config_class(self.strategy), dict(config), self.plugin.name))

    def search(self) -> ContinualTuning:
        """Return how the continual search tunes this method: starting from the user's value, if one is set."""
        weight, start = self.strategy.stability or (None, None)
        if weight and weight in self.given:
            start = float(self.values("class_incremental")[weight])
        return ContinualTuning(weight=weight, start=start)


def method(
    plugin: Plugin, strategy: type[Strategy[Any]], given: Mapping[str, Any], preset: str | None = None
) -> Method:
    """Check the hyper-parameters of a strategy, and its preset. Raises UsageError for what it does not have or accept.

    Without a preset, it is the one that sets nothing, if there is one: the variant that the defaults stand for.
    """
    if preset is None:
        preset = next((name for name, values in strategy.presets.items() if not values.get("set")), None)
    elif preset not in strategy.presets:
        known = ", ".join(strategy.presets) or "it has none"
        raise UsageError(
            f"strategy {plugin.name} has no preset '{preset}'{did_you_mean(preset, strategy.presets)} (known: {known})"
        )
    made = Method(plugin, preset, strategy, dict(given))
    made.values("class_incremental")
    return made


@dataclass(frozen=True)
class Machine:
    """What a run's arithmetic depends on besides the choices of the experiment."""

    device: Literal["cpu", "cuda"]
    """`cpu` or `cuda`."""

    threads: int
    """Number of threads that torch uses."""


def _check_stream(how: Method, config: Any, what: Protocol) -> None:
    """Raise UsageError if the strategy needs what the stream does not provide."""
    name, stream = how.selector, what.stream
    if not stream.boundaries and how.strategy.reference != "upper" and (needs := how.strategy.boundary_hooks(config)):
        raise UsageError(
            f"{name} needs to know where an experience begins and ends, for its {listed(needs)}, but the stream "
            f"{name_of(stream)} does not reveal it",
            "docs/strategies.md lists the strategies that do not need to know.",
        )
    if stream.classes_return and how.strategy.package and how.strategy.only_new_classes:
        raise UsageError(
            f"{name} cannot learn on the stream {name_of(stream)}, where old classes return: it does not use the "
            "labels of earlier classes"
        )
    if stream.classes_return and not how.strategy.package:  # Avalanche's have only one setting for another reason
        recipe = what.recipe.for_strategy(how.plugin.name)
        try:
            how.strategy.check_protocol(config, recipe, "domain_incremental")
        except UsageError as error:
            raise UsageError(
                f"{name} cannot learn on the stream {name_of(stream)}, where old classes return as in the "
                f"domain-incremental setting: {error.message}",
                error.hint,
            ) from None
    if stream.passes is not None and how.strategy.needs_passes(config):
        raise UsageError(
            f"{name} needs several passes over its training data, but the stream {name_of(stream)} gives "
            f"{stream.passes}",
            "docs/strategies.md lists the strategies that can learn on it.",
        )


def _check_memory(how: Method, config: Any, classes: int) -> None:
    """Raise UsageError if there are fewer exemplars than classes, so that a class's share rounds to none."""
    field = how.strategy.memory_field
    memory = getattr(config, field, None) or 0
    if 0 < memory < classes:
        owner = f"{how.plugin.name}.{field}"
        raise UsageError(
            f"{owner} = {memory} exemplars are fewer than the {classes} classes of the stream, so a "
            "class would have none",
            f"At least {classes} are needed: --set {owner}={classes}",
        )


class SpecBuilder:
    """Builds the specs of the runs under one protocol, which share what they have in common."""

    def __init__(
        self,
        what: Protocol,
        data: DatasetInfo,
        machine: Machine,
        held_out: float = 0.0,
        network: NetworkSpec | None = None,
    ) -> None:
        """`held_out` is the share of the training data that replaces the test set.

        Without a `network`, the recipe's is used as is.
        """
        self._what, self._data, self._machine, self._held_out = what, data, machine, held_out
        self._network = network or NetworkSpec(name=what.recipe.network)
        if data.domains and isinstance(what.stream, Domains):
            raise UsageError(
                f"{data.name} has domains of its own, which the stream {name_of(what.stream)} would not keep apart"
            )
        if self._network.weights is not None and "initialization" in what.changes:
            raise UsageError(
                f"recipe.initialization has no effect here: {self._network.name} has its weights already",
                "Add --weights none.",
            )
        self._recipe = _recipe_spec(what)
        self._strategies: dict[int, tuple[Method, StrategySpec]] = {}
        self._scenarios: dict[int, tuple[ScenarioSpec, Seeds]] = {}

    def build(self, how: Method, seed: int, tuned: ContinualTuning | GridTuning | None = None) -> RunSpec:
        """Return the spec of one run. Raises UsageError for an invalid split, class order or seed.

        `tuned` says how the hyper-parameters are or were chosen.
        """
        if not 0 <= seed <= LARGEST:
            raise UsageError(f"seed {seed} is not between 0 and {LARGEST}")
        if id(how) not in self._strategies:
            self._strategies[id(how)] = how, self._strategy(how)
        if seed not in self._scenarios:
            self._scenarios[seed] = self._scenario(seed)
        scenario, seeds = self._scenarios[seed]
        return RunSpec(
            engine=ENGINE,
            scenario=scenario,
            network=self._network,
            recipe=self._recipe,
            strategy=self._strategies[id(how)][1],
            tuning=tuned,
            seeds=seeds,
            device=self._machine.device,
            threads=self._machine.threads,
        )

    @functools.cached_property
    def _split(self) -> tuple[int, ...]:
        """The number of classes in each experience that the kind of stream is given."""
        split = self._what.split if self._what.stream.takes_split else "1"
        return parse_split(split, len(self._data.classes))

    @functools.cached_property
    def _sizes(self) -> tuple[int, ...]:
        sizes = self._what.stream.new_classes(self._split)
        if 0 < (samples := self._what.stream.samples) < max(sizes):
            raise UsageError(
                f"stream.samples = {samples} is fewer than the {max(sizes)} classes of an experience, so that some "
                "would have no training image"
            )
        if self._what.setting == "domain_incremental" and len(set(sizes)) > 1:
            raise UsageError(
                f"split {self._what.split}: domain-incremental experiences share outputs, so all need the same number "
                "of classes"
            )
        if (domains := self._domains) and len(sizes) != len(domains):
            raise UsageError(
                f"split {self._what.split}: in the domain-incremental setting, each of the {len(domains)} domains of "
                f"{self._data.name} is an experience",
                "Leave out --split, or add --setting class.",
            )
        return sizes

    @property
    def _domains(self) -> tuple[str, ...]:
        """The dataset's domains, if they are the experiences."""
        own = self._what.setting == "domain_incremental" and self._what.stream.takes_split
        return (self._data.domains or ()) if own else ()

    def _class_order(self, seed: int) -> tuple[int, ...]:
        what, data = self._what, self._data
        if not data.domains:
            return class_order(what.class_order, data.classes, seed)
        order = domain_order(what.class_order, data.domains, data.classes, seed)
        size = self._sizes[0]
        # An output stands for the same class in every domain.
        if self._domains and any(each % size != at % size for at, each in enumerate(order)):
            raise UsageError(
                "a class order must keep domains together, and the order of the classes in each",
                f"List domains: --class-order {','.join(data.domains[::-1])}",
            )
        return order

    def _strategy(self, how: Method) -> StrategySpec:
        what, classes = self._what, sum(self._sizes)
        values = how.values(what.setting, what.base_recipe)
        config = configure(config_class(how.strategy), values, how.plugin.name)
        with calling(f"strategy {how.plugin.name}", "cannot be planned"):
            how.strategy.check_protocol(config, what.recipe.for_strategy(how.plugin.name), what.setting)
            _check_stream(how, config, what)
        _check_memory(how, config, classes)
        return StrategySpec(
            name=how.plugin.name,
            preset=how.preset,
            sha256=how.plugin.sha256,
            config=values,
            package=how.strategy.package,
        )

    @functools.cached_property
    def _stream(self) -> StreamSpec:
        kind = self._what.stream
        return StreamSpec(name=name_of(kind), options=to_json(kind), split=self._split)

    def _scenario(self, seed: int) -> tuple[ScenarioSpec, Seeds]:
        what, data, seeds = self._what, self._data, Seeds.of(seed)
        made = what.stream.domains(seeds.class_order)
        names = [f"{domain}/{each}" for domain in made for each in data.classes] if made else data.classes
        how = "natural" if made else what.class_order
        order = tuple(range(len(names))) if made else self._class_order(seeds.class_order)
        domains = made
        if self._domains:
            size = self._sizes[0]
            domains = tuple(self._domains[first // size] for first in order[::size])
        scenario = ScenarioSpec(
            name=what.plugin.name,
            version=what.scenario.version,
            setting=what.setting,
            dataset=data.name,
            dataset_sha256=data.sha256,
            classes_per_experience=self._sizes,
            class_order_from=_ORDERS.get(how, "list"),
            class_order=order,
            class_names=None if tuple(names) == tuple(map(str, range(len(names)))) else tuple(names),
            held_out=self._held_out,
            stream=None if what.stream == StreamKind() else self._stream,
            domains=domains or None,
        )
        return scenario, seeds
