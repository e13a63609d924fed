"""The network that a run starts from."""

from __future__ import annotations

from clbench.networks.architectures import build
from clbench.networks.network import Network
from clbench.results.run_spec import RunSpec


def initial_network(spec: RunSpec, shape: tuple[int, int, int]) -> Network:
    """Return the run's network in its initial weights, for images of `shape` (height, width, channels), padded."""
    recipe = spec.recipe.config.for_strategy(spec.strategy.name)
    network = build(spec.network.name, shape, spec.seeds.network, recipe.initialization)
    network.head.fixed = recipe.head == "fixed"
    return network
