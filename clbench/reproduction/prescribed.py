"""Tells whether a run has the unchanged stream that a scenario of clbench prescribes under a recipe."""

from __future__ import annotations

import functools

from clbench.base.incremental_setting import Setting
from clbench.errors import UsageError
from clbench.plugins.discovery import builtin_folder, select
from clbench.results.protocol_building import Protocol, protocol
from clbench.results.run_spec import RunSpec, ScenarioSpec
from clbench.runs.selection import load_class
from clbench.streams.image_domains import Domains
from clbench.streams.splits import class_order, parse_split


def has_prescribed_stream(spec: RunSpec) -> bool:
    """Whether the run's dataset, split and class order are those of clbench's scenario and recipe of these names.

    Everything else that can change a stream shows in the name of the recipe.
    """
    own, what = spec.scenario, _prescribed(spec.scenario.name, spec.recipe.name, spec.scenario.setting)
    if (own.version, own.dataset, own.held_out) != (what.scenario.version, what.scenario.dataset, 0):
        return False
    if isinstance(what.stream, Domains):  # they have a split and an order of their own, and refuse others
        return True
    try:
        return _has_sizes(own, what) and _has_order(own, what)
    except UsageError:  # another number of classes, which cannot be divided this way
        return False


@functools.lru_cache(maxsize=256)
def _prescribed(scenario: str, recipe: str, setting: Setting) -> Protocol:
    plugin = select("scenario", str(builtin_folder("scenario") / f"{scenario}.py"))
    return protocol(plugin, load_class(plugin), recipe, setting=setting)


def _has_sizes(own: ScenarioSpec, what: Protocol) -> bool:
    split = parse_split(what.split if what.stream.takes_split else "1", len(own.class_order))
    return own.classes_per_experience == what.stream.new_classes(split)


def _has_order(own: ScenarioSpec, what: Protocol) -> bool:
    if what.class_order == "seed":
        return own.class_order_from == "seed"
    names = [own.class_name(each) for each in range(len(own.class_order))]
    return own.class_order_from != "seed" and own.class_order == class_order(what.class_order, names, 0)
