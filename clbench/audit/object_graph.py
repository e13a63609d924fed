"""Everything that is reachable from a strategy's attributes: hashed, and its size measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

_PLAIN = frozenset({int, float, str, bool, bytes, bytearray, type(None)})


def kept_networks(state: dict[str, Any], model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return the copies of the network among a strategy's attributes, with the hashes of their weights."""
    networks = [value for value in state.values() if type(value) is type(model) and value is not model]
    return [(network, weights_sha256(network)) for network in networks]


def contents_sha256(state: Any, excluding: Iterable[Any] = ()) -> str:
    """Return a SHA-256 of all tensors, arrays, generators, byte strings and plain values reachable from `state`.

    In order, leaving out the objects in `excluding`.
    """
    digest, visited, waiting = hashlib.sha256(), {id(value) for value in excluding}, [state]
    while waiting:
        value = waiting.pop()
        if type(value) in _PLAIN:
            digest.update(repr(value).encode())
            continue
        if id(value) in visited:
            continue
        visited.add(id(value))
        if isinstance(value, (torch.Tensor, np.ndarray)):
            digest.update(
                _bytes_of(value) if isinstance(value, torch.Tensor) else np.ascontiguousarray(value).tobytes()
            )
        elif isinstance(value, torch.Generator):
            digest.update(value.get_state().numpy().tobytes())
        elif isinstance(value, (dict, list, tuple, set, frozenset)):
            items = [*value, *value.values()] if isinstance(value, dict) else list(value)
            if _PLAIN.issuperset(map(type, items)):  # at once, since there may be one for each sample
                digest.update(repr(items).encode())
            else:
                waiting.extend(items)
        elif isinstance(value, (int, float, str, bytes, bytearray)):  # a subclass of theirs
            digest.update(repr(value).encode())
        elif hasattr(value, "__dict__") and not isinstance(value, type):
            waiting.append(vars(value))
    return digest.hexdigest()


def carried_bytes(state: Any, model: nn.Module) -> int:
    """Return the bytes of all tensors, arrays and byte strings reachable from `state`, each storage counted once.

    Tensors of `model`, the network in training, are not counted, because every strategy has them.
    """
    visited = {id(part) for part in model.modules()} | {id(tensor) for tensor in _tensors(model)}
    storages = {tensor.untyped_storage().data_ptr() for tensor in _tensors(model)}
    total = 0
    waiting = [state]
    while waiting:
        value = waiting.pop()
        if id(value) in visited:
            continue
        visited.add(id(value))
        if isinstance(value, torch.Tensor):
            for storage in map(torch.Tensor.untyped_storage, _stored(value)):
                if storage.data_ptr() not in storages:
                    storages.add(storage.data_ptr())
                    total += storage.nbytes()
        elif isinstance(value, np.ndarray):
            total += value.nbytes
        elif isinstance(value, (bytes, bytearray)):
            total += len(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple, set, frozenset)):
            waiting.extend(value)
        elif hasattr(value, "__dict__") and not isinstance(value, type):
            waiting.extend(vars(value).values())
    return total


def _tensors(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]


def weights_sha256(model: nn.Module) -> str:
    """Return the SHA-256 of every parameter and buffer: names, shapes and bytes, in order."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def _bytes_of(tensor: torch.Tensor) -> Any:
    """Return the bytes of a tensor of any type, including those that NumPy lacks."""
    if tensor.is_nested:
        return b"".join(_bytes_of(part).tobytes() for part in tensor.unbind())
    plain = tensor.detach().to_dense() if tensor.layout is not torch.strided else tensor.detach()
    return plain.cpu().contiguous().flatten().view(torch.uint8).numpy()


def _stored(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensors in the usual layout that a tensor consists of: itself, if it is in the usual layout."""
    tensor = tensor.detach()
    if tensor.is_nested:
        return list(tensor.unbind())
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return [tensor]
