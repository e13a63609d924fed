"""Find tensors that grow with the samples: values that a strategy keeps for each sample, even if not images."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor, nn

from clbench.audit.sample_search import leaves

Rows = Counter[tuple[int, ...]]
"""How many rows of each shape a strategy's tensors have."""


def kept_rows(state: dict[str, Any], model: nn.Module) -> Rows:
    """Count the rows of all tensors that a strategy keeps on itself, by the shape of a row.

    A vector is one row. Tensors of a network, and those with the shape of one of `model`'s, are not values of samples.
    """
    weights = {tensor.shape for tensor in _tensors(model)}
    networks = [value for value in (model, *state.values()) if isinstance(value, nn.Module)]
    visited = {id(tensor) for network in networks for tensor in _tensors(network)}
    rows = Rows()
    for leaf in leaves(state, visited):
        if isinstance(leaf, Tensor) and not leaf.is_nested and leaf.dim() and leaf.shape not in weights:
            count, row = (1, leaf.shape) if leaf.dim() == 1 else (leaf.shape[0], leaf.shape[1:])
            rows[tuple(row)] += count
    return rows


def grown_with_samples(before: Rows, after: Rows, samples: int) -> dict[tuple[int, ...], int]:
    """Return the rows whose number grew by a multiple of the number of samples, with the growth.

    Only those of which there were some before: in the first experience nothing has grown yet.
    """
    grown = {row: count - before[row] for row, count in after.items() if before[row]}
    return {row: more for row, more in grown.items() if samples and more > 0 and more % samples == 0}


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
