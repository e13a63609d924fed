"""Looks up and checks everything that `clbench train` needs, before any image is read."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clbench.base.events import Listener, Note
from clbench.data.datasets import data_folder
from clbench.data.image_folders import ImageFolder, find_images, hold_out
from clbench.errors import UsageError
from clbench.extension.checks import (
    check_held_out,
    check_names,
    check_values,
    say_what_is_skipped,
    say_which_are_classes,
)
from clbench.extension.prospects import needs_nothing
from clbench.extension.recipes import TRAINING, check_own_values, chosen_recipe
from clbench.extension.requests import TrainRequest
from clbench.networks.network import Network
from clbench.plugins.discovery import discover, without_dialects
from clbench.plugins.networks import network_source
from clbench.results.network_record import ImageShape
from clbench.results.run_spec import NetworkSpec, RecipeSpec, Seeds
from clbench.results.spec_building import Machine, Method
from clbench.runs.chosen_network import NetworkUse, asked, choose_network
from clbench.runs.initial_network import initial_trunk
from clbench.runs.planned_runs import divided, machine_for, methods_of
from clbench.runs.selection import choose_strategies

_DEFAULT_SIZE = 64
"""Height and width of images for a network that does not state a size."""


@dataclass(frozen=True)
class Plan:
    """A checked plan of a first network, made before any image is read."""

    request: TrainRequest
    images: ImageFolder
    network: NetworkSpec
    file: Path | None
    """The network's file, if it is the user's own."""

    shape: ImageShape
    recipe: RecipeSpec
    use: NetworkUse
    seeds: Seeds
    machine: Machine
    method: Method
    prepared: Sequence[Method]
    """Strategies whose statistics are kept."""


def plan(request: TrainRequest, strategy: str, notify: Listener) -> Plan:
    """Look up and check everything; `strategy` is the one that trains. Raises UsageError, DataError and PluginError."""
    check_values(request, (request.images,))
    values = divided(request.set)
    wanted = asked(values.network, request.weights)
    prepared = _prepared(request, values.strategies, notify)
    (method,) = methods_of(choose_strategies((strategy,), notify), {})
    recipe = chosen_recipe("train", TRAINING, values.recipe, request.epochs, wanted.use.train, extends=False)
    check_own_values(values.recipe, [method.plugin.name])
    found = find_images(request.images)
    check_held_out(request, found)
    say_what_is_skipped(found, notify)
    say_which_are_classes(found, notify)
    check_names(found.classes)
    images = hold_out(found, request.share_held_out, request.seed)
    if len(images.classes) < 2:
        raise UsageError(
            f"{request.images} has one class, {images.classes[0]}, and a network needs at least two to tell apart",
            "Give a folder with at least two classes. To add a class to a network: clbench extend",
        )
    size = request.size or wanted.use.size or network_source(request.network).traits.size or _DEFAULT_SIZE
    shape = ImageShape(height=size, width=size, channels=3, fit=request.fit)
    machine = machine_for(request.device, request.threads_at(size))
    network, file = choose_network(request.network, wanted, (size, size, 3), data_folder(request.data))
    if network.size is not None and network.size > size:
        notify(
            Note(
                f"images become {size} px, and the network enlarges them to {network.size} px, at which it works "
                f"(--set network.size={size} has it work at {size} px)"
            )
        )
    seeds = Seeds.of(request.seed)
    asked_for = [each for each in prepared if each.strategy.statistics is None]
    if asked_for:
        features = initial_trunk(
            network, (size, size, 3), seeds.network, "architecture", data_folder(request.data), file
        )
        _check_prepared(asked_for, Network(*features), len(images.classes))
    return Plan(
        request,
        images,
        network,
        file,
        shape,
        recipe,
        wanted.use,
        seeds,
        machine,
        method,
        prepared,
    )


def _prepared(request: TrainRequest, values: Mapping[str, Any], notify: Listener) -> list[Method]:
    names = request.prepare
    if names is None:
        found = without_dialects(discover("strategy"))
        names = [each.name for each in found if each.attributes.get("statistics") == "small"]
    elif list(names) == ["none"]:
        if values:
            raise UsageError(f"--set {next(iter(values))} has no effect here: no strategy is prepared")
        return []
    return methods_of(choose_strategies(names, notify), values)


def _check_prepared(methods: Sequence[Method], network: Network, classes: int) -> None:
    """Raise UsageError for a strategy of which nothing is kept; those that declare `statistics` need no check."""
    for method in methods:
        config = method.values("class_incremental", "train")
        if (why := needs_nothing(method, config, copy.deepcopy(network), classes)) is not None:
            raise UsageError(f"--prepare {method.plugin.name}: {why}", "Leave it out.")
