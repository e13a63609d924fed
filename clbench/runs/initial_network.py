"""Builds the network that a run starts from, and the frozen trunk whose features can replace the images."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from clbench.data.weights import kept_weights
from clbench.errors import PluginError, UsageError
from clbench.networks.network import Network
from clbench.networks.trunk import Blocks
from clbench.plugins.networks import Initialization, network_source
from clbench.results.run_spec import NetworkSpec, RunSpec
from clbench.runs.chosen_network import Shape, input_shape


def initial_network(spec: RunSpec, shape: Shape, folder: Path, file: Path | None = None) -> Network:
    """Return the run's network with its initial weights, for images of `shape` (height, width, channels), padded.

    Given weights are read from the data `folder`; `file` defines the network if it is a user's. If only the head
    trains, the network has no blocks: its inputs are the features of `frozen_trunk`. Raises UsageError if the trunk has
    fewer blocks than are to train.
    """
    recipe = spec.recipe.config.for_strategy(spec.strategy.name)
    if spec.network.train == "head":
        network = Network([], features=_features(spec.network.model_dump_json(), shape, file))
    else:
        trunk, features = initial_trunk(spec.network, shape, spec.seeds.network, recipe.initialization, folder, file)
        network = Network(trunk, features).to(memory_format=torch.channels_last)
        if isinstance(spec.network.train, int):
            held = len(trunk) - spec.network.train
            if held < 0:
                raise UsageError(
                    f"network.train = {spec.network.train}: the trunk of {spec.network.name} has {len(trunk)} blocks"
                )
            network.hold(trunk[:held])
    network.head.fixed = recipe.head == "fixed"
    return network


def frozen_trunk(spec: RunSpec, shape: Shape, folder: Path, file: Path | None = None) -> Blocks:
    """Return the trunk with its initial weights, in evaluation mode, (n, channels, height, width) -> (n, features)."""
    recipe = spec.recipe.config.for_strategy(spec.strategy.name)
    trunk, _ = initial_trunk(spec.network, shape, spec.seeds.network, recipe.initialization, folder, file)
    return trunk.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def initial_trunk(
    spec: NetworkSpec, shape: Shape, seed: int, initialization: Initialization, folder: Path, file: Path | None
) -> tuple[Blocks, int]:
    """Return the trunk with its initial weights and the number of its features; arguments as in `initial_network`.

    Raises PluginError if its file, or the library that it comes from, is not the one in the spec.
    """
    source = network_source(spec.name, spec.weights, file)
    if (source.sha256, source.package) != (spec.sha256, spec.package):
        raise PluginError(f"network {spec.name} changed after the run was planned", "Start the command again.")
    trunk, features, _ = source.trunk(input_shape(spec, shape), spec.config, seed, initialization)
    if spec.weights_sha256 is not None:
        getattr(trunk, "module", trunk).load_state_dict(kept_weights(spec.weights_sha256, folder))
    return trunk, features


@lru_cache(maxsize=8)
def _features(spec: str, shape: Shape, file: Path | None) -> int:
    """Return the number of features of a network, given its spec as JSON."""
    drawn = NetworkSpec.model_validate_json(spec).model_copy(update={"weights_sha256": None})
    return initial_trunk(drawn, shape, 0, "architecture", Path(), file)[1]
