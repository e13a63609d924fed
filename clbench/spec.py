"""What a run is: every choice that its numbers depend on, as canonical JSON, and the hash of that as its name.

Paths, host, time, verbosity and the number of runs at once are not in it, for no number depends on them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clbench.datasets import DatasetInfo
from clbench.errors import UsageError
from clbench.hyperparameters import configure, plain
from clbench.plugins import Plugin
from clbench.recipe import Recipe
from clbench.scenario import Scenario
from clbench.seeds import LARGEST, run_seeds
from clbench.splits import class_order, parse_split
from clbench.strategy import Strategy, config_class
from clbench.suggest import did_you_mean

SCHEMA = 1

ENGINE = 1
"""Raised whenever a change to the harness changes the numbers of a run."""

Spec = dict[str, Any]


@dataclass(frozen=True)
class Protocol:
    """A scenario under one recipe, with what the user asked to be different: what all strategies are compared on."""

    plugin: Plugin
    scenario: type[Scenario]
    recipe_name: str
    recipe: Recipe
    split: str
    class_order: str


def protocol(
    plugin: Plugin,
    scenario: type[Scenario],
    recipe: str | None = None,
    epochs: int | None = None,
    split: str | None = None,
    order: str | None = None,
) -> Protocol:
    """Resolve a scenario's recipe (its first by default) with the overrides. Raises UsageError for what it lacks."""
    names = list(scenario.recipes)
    name = recipe or names[0]
    if name not in names:
        raise UsageError(
            f"scenario {plugin.name} has no recipe '{name}'{did_you_mean(name, names)} (known: {', '.join(names)})"
        )
    chosen = scenario.recipes[name]
    if epochs is not None and epochs != chosen.epochs:
        chosen = configure(Recipe, {**vars(chosen), "epochs": epochs}, f"recipe {name}")
        name = f"{name}-epochs{epochs}"
    return Protocol(plugin, scenario, name, chosen, split or scenario.split, order or scenario.class_order)


@dataclass(frozen=True)
class Method:
    """A strategy with its hyper-parameters."""

    plugin: Plugin
    config: Any
    values: dict[str, Any] = field(default_factory=dict)
    """The hyper-parameters fully resolved, as JSON."""


def method(plugin: Plugin, strategy: type[Strategy[Any]], values: Mapping[str, Any]) -> Method:
    """Check the hyper-parameters of a strategy. Raises UsageError for an unknown one and for a value out of range."""
    config = configure(config_class(strategy), dict(values), plugin.name)
    return Method(plugin, config, plain(config))


@dataclass(frozen=True)
class Machine:
    """What a run's arithmetic depends on beside the choices of the experiment."""

    device: str
    """`cpu` or `cuda`."""

    threads: int
    """Threads that torch computes with."""


def build(what: Protocol, how: Method, seed: int, data: DatasetInfo, machine: Machine) -> Spec:
    """Return the spec of one run. Raises UsageError for a split, class order or seed that cannot be."""
    if not 0 <= seed <= LARGEST:
        raise UsageError(f"seed {seed} is not between 0 and {LARGEST}")
    seeds = run_seeds(seed)
    classes = len(data.classes)
    return {
        "schema": SCHEMA,
        "engine": ENGINE,
        "scenario": {
            "name": what.plugin.name,
            "version": what.scenario.version,
            "setting": "class_incremental",
            "dataset": data.name,
            "dataset_sha256": data.sha256,
            "classes_per_experience": list(parse_split(what.split, classes)),
            "class_order_from": what.class_order if what.class_order in ("seed", "natural") else "list",
            "class_order": list(class_order(what.class_order, classes, seeds["class_order"])),
        },
        "recipe": {"name": what.recipe_name, **plain(what.recipe)},
        "strategy": {"name": how.plugin.name, "sha256": how.plugin.sha256, "config": how.values},
        "head": "one head that grows by a row per new class",
        "seeds": seeds,
        "device": machine.device,
        "threads": machine.threads,
    }


def canonical(spec: Spec) -> bytes:
    """Return the spec as the one sequence of bytes that stands for it."""
    return json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def run_id(spec: Spec) -> str:
    """Return the SHA-256 of the canonical spec, in hexadecimal."""
    return hashlib.sha256(canonical(spec)).hexdigest()


def folder_name(spec: Spec) -> str:
    """Return where a run lies in a results folder: `<scenario>/<strategy>/<recipe>-seed<k>-<run_id[:8]>`."""
    parts = (spec["scenario"]["name"], spec["strategy"]["name"], spec["recipe"]["name"])
    scenario, strategy, recipe = (re.sub(r"[^A-Za-z0-9_-]", "_", part)[:64] or "_" for part in parts)
    return f"{scenario}/{strategy}/{recipe}-seed{spec['seeds']['run']}-{run_id(spec)[:8]}"


def experience_classes(spec: Spec) -> list[list[int]]:
    """Return the dataset's class ids of each experience, in class order."""
    order, result = list(spec["scenario"]["class_order"]), []
    for size in spec["scenario"]["classes_per_experience"]:
        result.append(order[:size])
        order = order[size:]
    return result
