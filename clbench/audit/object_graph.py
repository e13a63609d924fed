"""Hash everything that is reachable from a strategy's attributes, and measure its size."""

from __future__ import annotations

import array
import contextlib
import hashlib
import random
from collections import deque
from collections.abc import Iterable
from pathlib import PurePath
from types import MemberDescriptorType
from typing import Any

import numpy as np
import torch
from torch import nn

_PLAIN = frozenset({int, float, str, bool, bytes, bytearray, type(None)})

_VALUES = (int, float, complex, str, bytes, bytearray, np.generic, array.array, PurePath)
"""Types, with their subclasses, whose `repr` shows all they hold. A path has slots in which it caches its parts."""


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
        if isinstance(value, torch.Tensor):
            digest.update(_bytes_of(value))
        elif isinstance(value, np.ndarray) and value.dtype != object:
            digest.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, _VALUES):
            digest.update(repr(value).encode())
        elif (drawn := _state_of_generator(value)) is not None:
            digest.update(contents_sha256(drawn).encode())
            waiting.extend(_attributes(value))
        else:
            items = _items(value)
            if _PLAIN.issuperset(map(type, items)):  # at once, since there may be one for each sample
                digest.update(repr(items).encode())
            else:
                waiting.extend(items)
            waiting.extend(_attributes(value))
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
        elif isinstance(value, np.ndarray) and value.dtype != object:
            total += value.nbytes
        elif isinstance(value, (bytes, bytearray, array.array)):
            total += memoryview(value).nbytes
        elif type(value) not in _PLAIN:
            waiting.extend(_items(value))
            waiting.extend(_attributes(value))
    return total


def _items(value: Any) -> list[Any]:
    """Return what a container holds, including the keys of a dictionary; nothing for other values."""
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return list(value)
    return list(value.flat) if isinstance(value, np.ndarray) else []


def _attributes(value: Any) -> list[Any]:
    """Return an object's `__dict__`, and the names and values in the `__slots__` of its classes.

    Nothing for a class, nor for what trains the strategy, which has the data and is reachable from every batch.
    """
    if isinstance(value, type) or type(value).__module__.startswith("clbench.training."):
        return []
    found = [vars(value)] if hasattr(value, "__dict__") else []
    for cls in type(value).__mro__:
        if "__slots__" in vars(cls):
            for name, slot in vars(cls).items():
                if isinstance(slot, MemberDescriptorType):
                    with contextlib.suppress(AttributeError):  # it has not been set
                        found += [name, slot.__get__(value)]
    return found


def _state_of_generator(value: Any) -> Any:
    """Return the state of a random number generator; None for anything else, and for the system's generator."""
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, np.random.BitGenerator):
        return value.state
    if isinstance(value, np.random.RandomState):
        return value.get_state(legacy=False)
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return value.getstate()
    return None


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
