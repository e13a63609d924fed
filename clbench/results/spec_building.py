"""Makes the spec of a run from what was asked for: scenario, recipe, strategy, seed and machine, each checked."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from clbench.base.config import configure, plain
from clbench.base.continual_tuning import ContinualTuning
from clbench.base.incremental_setting import READINGS, Setting
from clbench.base.recipe import Augmentation, Recipe
from clbench.base.recipe_changes import changed, named
from clbench.base.scenario import Scenario
from clbench.base.strategy import Strategy, config_class
from clbench.data.dataset_info import DatasetInfo
from clbench.errors import PluginError, UsageError
from clbench.plugins.discovery import Plugin
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
from clbench.streams.kinds import name_of, stream_kind
from clbench.streams.splits import as_text, class_order, domain_order, parse_split
from clbench.streams.stream_kind import StreamKind
from clbench.system.seeds import LARGEST, run_seeds
from clbench.system.suggestions import did_you_mean

ENGINE = 1
"""Raised whenever a change to the harness changes the numbers of a run."""


_ORDERS: dict[str, Literal["seed", "natural"]] = {"seed": "seed", "natural": "natural"}


@dataclass(frozen=True)
class Protocol:
    """A scenario under one recipe, with what the user asked to be different: what all strategies are compared on."""

    plugin: Plugin
    scenario: type[Scenario]
    base_recipe: str
    """The recipe's name in the scenario."""

    recipe_name: str
    """The same, with the number of epochs if the user set it."""

    recipe: Recipe
    changes: Mapping[str, Any]
    """Fields of the recipe that the user set to something else, by path."""

    network_changes: Mapping[str, Any]
    """What the user set of the network, by path."""

    augmentation_left_out: bool
    """Whether the recipe augments images, and the run does not since the head alone trains."""

    split: str
    class_order: str
    setting: Setting
    stream: StreamKind
    stream_changes: Mapping[str, Any]
    """What the user set of the stream, by path."""


def protocol(
    plugin: Plugin,
    scenario: type[Scenario],
    recipe: str | None = None,
    epochs: int | None = None,
    split: str | None = None,
    order: str | None = None,
    setting: str | None = None,
    recipe_values: Mapping[str, Any] | None = None,
    network_changes: Mapping[str, Any] | None = None,
    stream: tuple[str | None, Mapping[str, Any]] = (None, {}),
) -> Protocol:
    """Resolve a scenario's recipe (its first by default) with the overrides. Raises UsageError for what it lacks.

    `recipe_values` are fields of the recipe by path that the user set; see recipe_changes.py. `network_changes` are
    what the user set of the network, for the recipe's name; if the head alone trains, images are not augmented.
    `stream` is the kind of stream and its options that the user set.
    """
    names = list(scenario.recipes)
    name = recipe or names[0]
    if name not in names:
        raise UsageError(
            f"scenario {plugin.name} has no recipe '{name}'{did_you_mean(name, names)} (known: {', '.join(names)})"
        )
    chosen, base = scenario.recipes[name], name
    if epochs is not None:
        configure(Recipe, {"epochs": epochs}, f"recipe {name}")
        if (shortened := chosen.shortened(epochs)) != chosen:
            chosen, name = shortened, f"{name}-epochs{epochs}"
    kind, stream_changes = _stream(plugin, scenario, chosen.stream_options, *stream)
    if kind.passes is not None:
        _refuse_passes(name_of(kind), epochs, recipe_values or {})
        chosen = replace(chosen.shortened(kind.passes), batch_size=getattr(kind, "batch_size", chosen.batch_size))
    chosen, differing = changed(chosen, recipe_values or {})
    if not kind.boundaries and (chosen.optimizer, chosen.optimizer_state, chosen.momentum) != ("sgd", "fresh", 0.0):
        # A new optimizer would tell where an experience begins.
        chosen = replace(chosen, optimizer_state="carried", head="fixed")
    if chosen.network != scenario.recipes[base].network:
        chosen = replace(chosen, network_config={})  # which are those of the recipe's own network
    own_changes = dict(network_changes or {})
    left_out = own_changes.get("network.train") == "head" and chosen.augmentation.active
    if left_out:
        _refuse_augmentation(differing)
        chosen = replace(chosen, augmentation=Augmentation())
    if chosen.optimizer_state == "carried" and chosen.head != "fixed":
        raise UsageError(f"recipe {name} carries the optimizer's state, for which the head must be fixed")
    if chosen.schedule == "plateau" and not chosen.validation:
        raise UsageError(f"recipe {name} waits for plateaus of the validation loss, for which it needs validation > 0")
    trained_in = _setting(scenario.setting if setting is None else setting)
    if kind.classes_return and trained_in != "class_incremental":
        raise UsageError(f"in the stream {name_of(kind)} classes return, so that it can be class-incremental alone")
    if split is not None and not kind.takes_split:
        raise UsageError(f"--split has no effect on the stream {name_of(kind)}, which makes experiences of its own")
    if chosen.in_setting(trained_in) != chosen and "head_parameters" in differing:
        raise UsageError("recipe.head_parameters has no effect here: it needs setting task")
    own = {name: _as_text(plugin, scenario, name) for name in ("split", "class_order")}
    prescribed = own["class_order"] if chosen.class_order == "scenario" else chosen.class_order
    split, order = own["split"] if split is None else split, prescribed if order is None else order
    in_setting = chosen.in_setting(trained_in)
    return Protocol(
        plugin,
        scenario,
        base,
        name,
        in_setting,
        differing,
        own_changes,
        left_out,
        split,
        order,
        trained_in,
        kind,
        stream_changes,
    )


def _stream(
    plugin: Plugin,
    scenario: type[Scenario],
    prescribed: Mapping[str, Any],
    name: str | None,
    options: Mapping[str, Any],
) -> tuple[StreamKind, dict[str, Any]]:
    """Return the kind of stream with its options, and what the user made different by path, for the recipe's name.

    `prescribed` are options that the recipe gives the scenario's own kind of stream.
    """
    own = {**scenario.stream_options, **prescribed}
    usual = stream_kind(scenario.stream, own)
    kind = stream_kind(name or scenario.stream, {**({} if name else own), **options})
    if kind == usual:
        return kind, {}
    if isinstance(usual, Domains) and not isinstance(kind, type(usual)):
        raise UsageError(
            f"{plugin.name} is a stream of its own, {name_of(usual)}",
            "--stream takes a scenario that is a split of classes; this one's options are --set stream.NAME=VALUE.",
        )
    changes = {} if type(kind) is type(usual) else {"stream": name_of(kind)}
    before = plain(usual) if type(kind) is type(usual) else plain(type(kind)())
    return kind, changes | {f"stream.{key}": value for key, value in plain(kind).items() if value != before[key]}


def _refuse_passes(stream: str, epochs: int | None, recipe_values: Mapping[str, Any]) -> None:
    """Raise UsageError for what a stream decides that passes by once."""
    if epochs is not None or (given := {"epochs", "iterations", "first.epochs"} & set(recipe_values)):
        name = "--epochs" if epochs is not None else f"recipe.{min(given)}"
        raise UsageError(f"{name} has no effect on the stream {stream}, whose samples pass by once")
    if "batch_size" in recipe_values:
        raise UsageError(f"recipe.batch_size has no effect on the stream {stream}", "Use --set stream.batch_size=N.")


def _refuse_augmentation(values: Mapping[str, Any]) -> None:
    if given := [path for path, value in values.items() if path.startswith("augmentation.") and value]:
        raise UsageError(
            f"recipe.{given[0]} has no effect here: with "
            "network.train=head the features of each image are computed once"
        )


def _as_text(plugin: Plugin, scenario: type[Scenario], name: str) -> str:
    try:
        if (text := as_text(getattr(scenario, name, None))) is None:
            raise TypeError("given")
    except TypeError as error:
        raise PluginError(f"{plugin.path}: {name} must be {error}") from None
    return text


def _recipe_spec(what: Protocol) -> RecipeSpec:
    changes = {**what.stream_changes, **what.changes, **what.network_changes}
    if not changes:
        return RecipeSpec(name=what.recipe_name, config=what.recipe)
    name = named(what.recipe_name, changes)
    return RecipeSpec(name=name, base=what.recipe_name, changes=changes, config=what.recipe)


def _setting(wanted: str) -> Setting:
    """Return the setting that `class`, `task` or `domain` stands for."""
    names: dict[str, Setting] = {setting.partition("_")[0]: setting for setting in READINGS}
    short = wanted.lower().replace("-", "_").partition("_")[0]
    if short not in names:
        raise UsageError(f"no setting '{wanted}'{did_you_mean(wanted, names)} (known: {', '.join(names)})")
    return names[short]


@dataclass(frozen=True)
class Method:
    """A strategy with its hyper-parameters."""

    plugin: Plugin
    preset: str | None
    """The published variant that it starts from, if it is one."""

    strategy: type[Strategy[Any]]
    given: Mapping[str, Any]
    """The hyper-parameters that the user set, on top of the preset's."""

    def values(self, setting: Setting, recipe: str = "") -> dict[str, Any]:
        """Return the hyper-parameters fully resolved, as JSON, under the recipe of this name.

        Raises UsageError for one that cannot be.
        """
        preset = self.strategy.presets[self.preset] if self.preset else {}
        in_setting = preset.get("in_setting", {}).get(setting, {})
        own = self.strategy.in_recipe.get(recipe, {})
        values = {**own, **preset.get("set", {}), **in_setting, **self.given}
        return plain(configure(config_class(self.strategy), values, self.plugin.name))

    def search(self) -> ContinualTuning:
        """Return how continual search goes about this method: from the value that the user set, if one is set."""
        weight, start = self.strategy.stability or (None, None)
        if weight and weight in self.given:
            start = float(self.values("class_incremental")[weight])
        return ContinualTuning(weight=weight, start=start)


def method(
    plugin: Plugin, strategy: type[Strategy[Any]], given: Mapping[str, Any], preset: str | None = None
) -> Method:
    """Check the hyper-parameters of a strategy, and its preset. Raises UsageError for what it does not have or accept.

    Without one it is the preset that sets nothing, the variant that the defaults are, if there is one.
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
    """What a run's arithmetic depends on beside the choices of the experiment."""

    device: Literal["cpu", "cuda"]
    """`cpu` or `cuda`."""

    threads: int
    """Threads that torch computes with."""


def _check_stream(how: Method, config: Any, stream: StreamKind) -> None:
    """Raise UsageError if the strategy needs what the stream does not give."""
    name = how.plugin.name
    if not stream.boundaries and how.strategy.reference != "upper" and (needs := how.strategy.boundary_hooks(config)):
        raise UsageError(
            f"{name} needs to know where an experience begins and ends, for its {', '.join(needs)}, and the stream "
            f"{name_of(stream)} does not tell",
            "Strategies that do not: naive, er, derpp, er_ace, mir.",
        )
    if stream.passes is not None and how.strategy.needs_passes(config):
        raise UsageError(
            f"{name} needs several passes over the data of an experience, and the stream {name_of(stream)} gives "
            f"{stream.passes}"
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
    """Makes the specs of the runs under one protocol, which share what they have in common."""

    def __init__(
        self,
        what: Protocol,
        data: DatasetInfo,
        machine: Machine,
        held_out: float = 0.0,
        network: NetworkSpec | None = None,
    ) -> None:
        """With `held_out` this share of the training data takes the place of the test set.

        Without a `network` it is the recipe's, as it is.
        """
        self._what, self._data, self._machine, self._held_out = what, data, machine, held_out
        self._network = network or NetworkSpec(name=what.recipe.network)
        self._recipe = _recipe_spec(what)
        self._strategies: dict[int, tuple[Method, StrategySpec]] = {}
        self._scenarios: dict[int, tuple[ScenarioSpec, Seeds]] = {}

    def build(self, how: Method, seed: int, tuned: ContinualTuning | GridTuning | None = None) -> RunSpec:
        """Return the spec of one run. Raises UsageError for a split, class order or seed that cannot be.

        `tuned` says what chooses, or chose, the hyper-parameters.
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
        """The classes of each experience that the kind of stream is given."""
        split = self._what.split if self._what.stream.takes_split else "1"
        return parse_split(split, len(self._data.classes))

    @functools.cached_property
    def _sizes(self) -> tuple[int, ...]:
        sizes = self._what.stream.new_classes(self._split)
        if self._what.setting == "domain_incremental" and len(set(sizes)) > 1:
            raise UsageError(
                f"split {self._what.split}: domain-incremental experiences share outputs, so all need as many classes"
            )
        if (domains := self._domains) and len(sizes) != len(domains):
            raise UsageError(
                f"split {self._what.split}: domain-incrementally each of the {len(domains)} domains of "
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
                "a class order must keep domains whole, and the classes in each as they are",
                f"List domains: --class-order {','.join(data.domains[::-1])}",
            )
        return order

    def _strategy(self, how: Method) -> StrategySpec:
        what, classes = self._what, sum(self._sizes)
        values = how.values(what.setting, what.base_recipe)
        config = configure(config_class(how.strategy), values, how.plugin.name)
        how.strategy.check_protocol(config, what.recipe.for_strategy(how.plugin.name), what.setting)
        _check_stream(how, config, what.stream)
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
        return StreamSpec(name=name_of(kind), options=plain(kind), split=self._split)

    def _scenario(self, seed: int) -> tuple[ScenarioSpec, Seeds]:
        what, data, seeds = self._what, self._data, run_seeds(seed)
        made = what.stream.domains(seeds["class_order"])
        names = [f"{domain}/{each}" for domain in made for each in data.classes] if made else data.classes
        how = "natural" if made else what.class_order
        order = tuple(range(len(names))) if made else self._class_order(seeds["class_order"])
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
        drawing, network, training = seeds["class_order"], seeds["model"], seeds["training"]
        return scenario, Seeds(run=seed, class_order=drawing, network=network, training=training)
