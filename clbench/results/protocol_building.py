"""Builds a protocol: a scenario under one recipe and on one stream, with the user's changes, all checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from clbench.base.config import configure, plain
from clbench.base.incremental_setting import READINGS, Setting
from clbench.base.recipe import Augmentation, Overrides, Recipe
from clbench.base.recipe_changes import changed
from clbench.base.scenario import Scenario
from clbench.errors import PluginError, UsageError
from clbench.plugins.discovery import Plugin
from clbench.streams.image_domains import Domains
from clbench.streams.kinds import name_of, replaced_by, stream_kind
from clbench.streams.splits import as_text
from clbench.streams.stream_kind import StreamKind
from clbench.system.suggestions import did_you_mean


@dataclass(frozen=True)
class Protocol:
    """A scenario under one recipe, with the user's changes: what all strategies are compared on."""

    plugin: Plugin
    scenario: type[Scenario]
    base_recipe: str
    """The recipe's name in the scenario."""

    recipe_name: str
    """The same, with the number of epochs if the user set it."""

    recipe: Recipe
    changes: Mapping[str, Any]
    """Fields of the recipe that the user changed, by path."""

    network_changes: Mapping[str, Any]
    """Network options that the user set, by path."""

    augmentation_left_out: bool
    """Whether the recipe augments images, but the run does not since only the head is trained."""

    split: str
    class_order: str
    setting: Setting
    stream: StreamKind
    stream_changes: Mapping[str, Any]
    """Stream options that the user set, by path."""


def protocol(
    plugin: Plugin,
    scenario: type[Scenario],
    recipe: str | None = None,
    epochs: int | None = None,
    split: str | None = None,
    order: str | None = None,
    setting: str | None = None,
    recipe_values: Mapping[str, Any] | None = None,
    network_changes: Callable[[Recipe], Mapping[str, Any]] = lambda recipe: {},
    stream: tuple[str | None, Mapping[str, Any]] = (None, {}),
) -> Protocol:
    """Resolve a scenario's recipe (its first by default) with the overrides. Raises UsageError for what it lacks.

    `recipe_values` are the fields of the recipe that the user set, by path; see recipe_changes.py. `network_changes`
    returns the user's options for the recipe's network, for the recipe's name; if only the head is trained, images are
    not augmented. `stream` is the kind of stream and the options that the user set for it.
    """
    base = _recipe_name(plugin, scenario, recipe)
    chosen, name = scenario.recipes[base], base
    if epochs is not None:
        configure(Recipe, {"epochs": epochs}, f"recipe {name}")
        if (shortened := chosen.shortened(epochs)) != chosen:
            chosen, name = shortened, f"{name}-epochs{epochs}"
    kind, stream_changes = _stream(plugin, scenario, chosen.stream_options, *stream)
    if kind.passes is not None:
        _refuse_passes(name_of(kind), epochs, recipe_values or {})
        chosen = replace(chosen.shortened(kind.passes), batch_size=getattr(kind, "batch_size", chosen.batch_size))
    chosen, differing = changed(chosen, recipe_values or {})
    if not kind.boundaries:
        _refuse_rates(name_of(kind), differing)
        asked, chosen = chosen, _without_boundaries(chosen)
        for field in ("optimizer_state", "head"):
            if field in (recipe_values or {}) and getattr(asked, field) != getattr(chosen, field):
                raise UsageError(
                    f"recipe.{field} = {getattr(asked, field)} has no effect on the stream {name_of(kind)}: it would "
                    "reveal where an experience begins",
                )
    if chosen.network != scenario.recipes[base].network:
        chosen = replace(chosen, network_config={})  # which are those of the recipe's own network
    own_changes = network_changes(chosen)
    left_out = own_changes.get("network.train") == "head" and chosen.augmentation.active
    if left_out:
        _refuse_augmentation(differing)
        chosen = replace(chosen, augmentation=Augmentation())
    _check_recipe(name, chosen)
    trained_in = _setting(scenario.setting if setting is None else setting)
    _check_what_suits(kind, trained_in, split, order)
    in_setting = chosen.in_setting(trained_in)
    if in_setting != chosen and "head_parameters" in differing:
        raise UsageError("recipe.head_parameters has no effect here: it needs setting task")
    own = {"split": "1"} | {
        name: _as_text(plugin, scenario, name)
        for name in ("split", "class_order")
        if kind.takes_split or name != "split"
    }
    prescribed = own["class_order"] if chosen.class_order == "scenario" else chosen.class_order
    return Protocol(
        plugin,
        scenario,
        base_recipe=base,
        recipe_name=name,
        recipe=in_setting,
        changes=differing,
        network_changes=own_changes,
        augmentation_left_out=left_out,
        split=own["split"] if split is None else split,
        class_order=prescribed if order is None else order,
        setting=trained_in,
        stream=kind,
        stream_changes=stream_changes,
    )


def _recipe_name(plugin: Plugin, scenario: type[Scenario], wanted: str | None) -> str:
    names = list(scenario.recipes)
    if wanted and wanted not in names:
        raise UsageError(
            f"scenario {plugin.name} has no recipe '{wanted}'{did_you_mean(wanted, names)} (known: {', '.join(names)})"
        )
    return wanted or names[0]


def _without_boundaries(recipe: Recipe) -> Recipe:
    """Return a recipe in which nothing reveals where an experience begins, as a new optimizer or rate would."""
    if (recipe.optimizer, recipe.optimizer_state, recipe.momentum) != ("sgd", "fresh", 0.0):
        recipe = replace(recipe, optimizer_state="carried", head="fixed")
    return replace(recipe, schedule="constant", warmup_epochs=0.0, first=Overrides())


def _check_recipe(name: str, recipe: Recipe) -> None:
    if recipe.optimizer_state == "carried" and recipe.head != "fixed":
        raise UsageError(
            f"recipe {name} carries the optimizer's state over, which requires a fixed head",
            "Add --set recipe.head=fixed, or recipe.optimizer_state=fresh.",
        )
    if recipe.schedule == "plateau" and not recipe.validation:
        raise UsageError(f"recipe {name} waits for plateaus of the validation loss, which requires validation > 0")
    if recipe.schedule == "plateau" and recipe.warmup_epochs:
        raise UsageError(
            f"recipe {name} waits for plateaus of the validation loss, which a warm-up of the learning rate prevents",
            "Add --set recipe.warmup_epochs=0.",
        )


def _check_what_suits(kind: StreamKind, setting: Setting, split: str | None, order: str | None) -> None:
    """Raise UsageError for a setting, a split or an order of classes that the stream cannot have."""
    if kind.classes_return and setting != "class_incremental":
        raise UsageError(
            f"classes return in the stream {name_of(kind)}, so it can only be class-incremental",
            "Add --setting class.",
        )
    if split is not None and not kind.takes_split:
        raise UsageError(f"--split has no effect on the stream {name_of(kind)}, which creates its own experiences")
    if order not in (None, "seed") and isinstance(kind, Domains):
        raise UsageError(
            f"--class-order has no effect on the stream {name_of(kind)}, whose experiences all have the same classes"
        )


def _stream(
    plugin: Plugin,
    scenario: type[Scenario],
    prescribed: Mapping[str, Any],
    name: str | None,
    options: Mapping[str, Any],
) -> tuple[StreamKind, dict[str, Any]]:
    """Return the kind of stream with its options, and the user's changes by path, for the recipe's name.

    `prescribed` are options that the recipe gives the scenario's own kind of stream.
    """
    own = {**scenario.stream_options, **prescribed}
    usual = stream_kind(scenario.stream, own)
    instead = {other: key for key in options for other in replaced_by(name or scenario.stream, key)}
    if given := sorted(instead.keys() & options.keys()):
        raise UsageError(f"stream.{given[0]} has no effect, since stream.{instead[given[0]]} is given")
    inherited = {} if name else {key: value for key, value in own.items() if key not in instead}
    kind = stream_kind(name or scenario.stream, {**inherited, **options})
    if kind == usual:
        return kind, {}
    if isinstance(usual, Domains) and not isinstance(kind, type(usual)):
        raise UsageError(
            f"{plugin.name} has its own stream, {name_of(usual)}",
            "--stream needs a scenario that is a split of classes; for this one, use --set stream.NAME=VALUE.",
        )
    changes = {} if type(kind) is type(usual) else {"stream": name_of(kind)}
    before = plain(usual) if type(kind) is type(usual) else plain(type(kind)())
    return kind, changes | {f"stream.{key}": value for key, value in plain(kind).items() if value != before[key]}


def _refuse_passes(stream: str, epochs: int | None, recipe_values: Mapping[str, Any]) -> None:
    """Raise UsageError for options that have no effect on a stream whose samples pass by once."""
    if epochs is not None or (given := {"epochs", "iterations", "first.epochs"} & set(recipe_values)):
        name = "--epochs" if epochs is not None else f"recipe.{min(given)}"
        raise UsageError(f"{name} has no effect on the stream {stream}, whose samples pass by once")
    if "batch_size" in recipe_values:
        raise UsageError(f"recipe.batch_size has no effect on the stream {stream}", "Use --set stream.batch_size=N.")


def _refuse_rates(stream: str, values: Mapping[str, Any]) -> None:
    """Raise UsageError for a learning rate that follows experiences in a stream that does not reveal them."""
    rates = ("schedule", "warmup_epochs", "first.lr", "first.weight_decay", "first.milestones")
    if given := [path for path in rates if values.get(path)]:
        raise UsageError(
            f"recipe.{given[0]} has no effect on the stream {stream}: it would reveal where an experience begins"
        )


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


def _setting(wanted: str) -> Setting:
    """Return the setting that `class`, `task` or `domain` stands for."""
    names: dict[str, Setting] = {setting.partition("_")[0]: setting for setting in READINGS}
    short = wanted.lower().replace("-", "_").partition("_")[0]
    if short not in names:
        raise UsageError(f"no setting '{wanted}'{did_you_mean(wanted, names)} (known: {', '.join(names)})")
    return names[short]
