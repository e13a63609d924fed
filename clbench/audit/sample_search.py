"""Search for training samples, and for open files, in everything that a strategy can keep between two steps."""

from __future__ import annotations

import array
import builtins
import contextvars
import gc
import hashlib
import io
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clbench.data.batches import Scaling
from clbench.plugins import module_loading

Leaf = Tensor | np.ndarray[Any, Any] | bytes | bytearray | io.IOBase

_BUILTINS = vars(builtins).copy()

_OF_PLUGINS = f"{module_loading.__name__}."
"""How the names of plug-ins' modules begin."""

_ATOMS = (int, float, complex, str, type(None))
_NOT_KEPT = (type, types.ModuleType, types.CodeType, types.FrameType)
"""What belongs to the process: from there the walk would reach everything."""

_EXAMINED = 8
"""Samples of a float tensor that are examined; the others are assumed to be alike."""


@dataclass(frozen=True)
class SampleShape:
    """Shape and scaling of a sample, by which stored pixels are recognized."""

    height: int
    width: int
    channels: int
    scaling: Scaling
    features: frozenset[bytes] | None = None
    """If samples are features of a frozen trunk, of shape (1, 1, f): the `hashes` of all of them."""

    @property
    def values(self) -> int:
        """Number of values in a sample."""
        return self.height * self.width * self.channels


# -- where a strategy can keep something ------------------------------------------------------------------------------


def places(state: dict[str, Any], module: types.ModuleType | None, model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the places where a strategy can keep something, with what is there."""
    for part in model.modules():
        for name, value in {**vars(part), **part._parameters, **part._buffers}.items():
            if name not in ("_modules", "_parameters", "_buffers"):
                yield f"the network's {name}", value
    yield "itself", state
    if module is not None:
        for name, value in _globals(module):
            yield f"the module's global {name}", value
    for name, value in added_to_builtins().items():
        yield f"builtins.{name}", value


def added_to_builtins() -> dict[str, Any]:
    """Return the names that Python's builtins lacked, or that had other values, when clbench was imported."""
    now = {name: value for name, value in vars(builtins).items() if name != "_"}  # the last value at Python's prompt
    return {name: value for name, value in now.items() if value is not _BUILTINS.get(name, now)}


def _globals(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield what a plug-in's file keeps at module level and on its classes."""
    for name, value in vars(module).items():
        if name == "__builtins__":
            continue
        if not isinstance(value, type):
            yield name, value
        elif value.__module__ == module.__name__:
            yield from ((f"{name}.{key}", item) for key, item in vars(value).items())


def leaves(value: Any, visited: set[int]) -> Iterator[Leaf]:
    """Yield the tensors, arrays, byte strings and open files reachable from `value`, each once.

    The search goes through containers, queues, attributes, the classes of plug-ins' files, and what a function has
    besides the globals of its module. It skips objects whose ids are in `visited`, and adds those that it finds.
    """
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, _ATOMS) or id(item) in visited:
            continue
        visited.add(id(item))
        if isinstance(item, _NOT_KEPT):
            if isinstance(item, type) and item.__module__.startswith(_OF_PLUGINS):
                waiting.extend(vars(item).values())
        elif isinstance(item, (bytes, bytearray)):
            yield item
        elif isinstance(item, Tensor):
            yield item
            waiting.extend(gc.get_referents(item))  # its hooks and attributes
        elif isinstance(item, np.ndarray):
            if item.dtype.names:
                yield from (item[name] for name in item.dtype.names)
            elif item.dtype == object:
                waiting.extend(item.flat)
            else:
                yield item
        elif isinstance(item, array.array) or hasattr(type(item), "__array_interface__"):  # Pillow's images have it
            yield np.asarray(item)
        elif isinstance(item, io.BytesIO):
            yield item.getvalue()
        elif isinstance(item, io.IOBase):
            yield item
            waiting.extend(gc.get_referents(item))  # one of Python's own may keep bytes in memory
        elif isinstance(item, contextvars.ContextVar):
            waiting.append(item.get(None))
        elif isinstance(item, types.FunctionType):
            elsewhere = {id(item.__globals__), id(vars(builtins))}
            waiting += [each for each in gc.get_referents(item) if id(each) not in elsewhere]
        elif isinstance(item, dict):  # from Python 3.13 on, that of an object's attributes does not refer to its values
            waiting += [*dict.keys(item), *dict.values(item), *gc.get_referents(item)]
        # What trains the strategy has the data and is reachable from every batch.
        elif not type(item).__module__.startswith("clbench.training."):
            waiting.extend(gc.get_referents(item))


# -- what a sample looks like -----------------------------------------------------------------------------------------


def samples_in(leaf: Leaf, shape: SampleShape) -> set[bytes]:
    """Return a hash of each different sample in a value: stored pixels, or floats that stand for pixels.

    A one-dimensional array of numbers other than bytes is assumed to hold labels or counts, unless it is scaled as for
    the network.
    """
    if isinstance(leaf, io.IOBase):
        return set()
    if isinstance(leaf, (bytes, bytearray)):
        whole = len(leaf) - len(leaf) % shape.values
        rows = np.frombuffer(leaf[:whole], dtype=np.uint8).reshape(-1, shape.values)
    else:
        tensor = _plain(leaf.detach()) if isinstance(leaf, Tensor) else _as_tensor(leaf)
        if tensor is not None and tensor.is_complex():
            return samples_in(tensor.real, shape) | samples_in(tensor.imag, shape)
        if tensor is not None and shape.features is not None:
            return _features_in(tensor, shape.values, shape.features)
        if tensor is None or tensor.numel() < shape.values or tensor.numel() % shape.values:
            return set()
        pixels = _pixels(tensor.cpu(), shape)
        if pixels is None:
            return set()
        rows = pixels.contiguous().view(torch.uint8).numpy()
    return {hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows}


def hashes(rows: Tensor) -> frozenset[bytes]:
    """Return a hash of each row of (n, values)."""
    values = rows.detach().cpu().contiguous().numpy()
    return frozenset(hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in values)


def _features_in(tensor: Tensor, values: int, known: frozenset[bytes]) -> set[bytes]:
    """Return the hashes of the known rows in a tensor, which distinguishes features from means and weights."""
    if not tensor.is_floating_point() or tensor.numel() % values:
        return set()
    return set(hashes(tensor.float().reshape(-1, values)) & known)


def _plain(tensor: Tensor) -> Tensor:
    """Return a tensor in the usual layout; the parts of a nested one are joined into one vector."""
    if tensor.is_nested:
        return torch.cat([part.reshape(1, -1) for part in tensor.unbind()], dim=1).squeeze(0)
    return tensor.dequantize() if tensor.is_quantized else tensor.to_dense()


def _as_tensor(values: np.ndarray[Any, Any]) -> Tensor | None:
    try:
        return torch.from_numpy(np.require(values, requirements=["C", "W"]))
    except TypeError:
        return None


def _pixels(tensor: Tensor, shape: SampleShape) -> Tensor | None:
    """Return the samples in a tensor, (n, values), as stored if that can be told; None if it holds something else."""
    channels_first = (shape.channels, shape.height, shape.width)
    if tensor.shape[-3:] == channels_first:
        tensor = tensor.movedim(-3, -1)
    rows = tensor.reshape(-1, shape.values)
    if tensor.dtype == torch.uint8:
        return rows
    if not tensor.is_floating_point():
        in_range = tensor.dim() > 1 and bool(((rows >= 0) & (rows <= 255)).all())
        if in_range and rows.unique().numel() > 2:
            return rows.to(torch.uint8)
    else:
        rounding = 255 * torch.finfo(tensor.dtype).eps / 2
        for read in _readings(shape, labels=tensor.dim() == 1):
            if rounding < 0.25 and _on_grid(read(rows[:_EXAMINED].float()), 0.02 + rounding):
                return read(rows.float()).round().clamp(0, 255).to(torch.uint8).flatten(1)
    if tensor.dim() == 1 or tensor.element_size() == 1:  # a byte has few values, whatever it stands for
        return None
    return rows if _few_values(rows[:_EXAMINED].float(), shape.channels) else None


def _readings(shape: SampleShape, labels: bool) -> Sequence[Callable[[Tensor], Tensor]]:
    """Return the ways to read floats, (n, values), as pixels in 0..255; not unchanged if they may be `labels`."""
    factor, offset = shape.scaling.factor.cpu(), shape.scaling.offset.cpu()
    image = (shape.height, shape.width, shape.channels)

    def channels_last(rows: Tensor) -> Tensor:
        return (rows.view(-1, *image) - offset) / factor

    def channels_first(rows: Tensor) -> Tensor:
        return (rows.view(-1, shape.channels, *image[:2]).permute(0, 2, 3, 1) - offset) / factor

    def unit(rows: Tensor) -> Tensor:
        return rows * 255

    def as_they_are(rows: Tensor) -> Tensor:
        return rows

    scaled = [channels_last, channels_first, unit]
    return scaled if labels else [*scaled, as_they_are]


def _on_grid(pixels: Tensor, tolerance: float) -> bool:
    """Whether all values are on the grid of 256 pixel values."""
    near = (pixels - pixels.round()).abs() < tolerance
    within = (pixels > -0.5) & (pixels < 255.5)
    return bool((near & within).all()) and bool(pixels.round().unique().numel() > 2)


def _few_values(rows: Tensor, channels: int) -> bool:
    """Whether numbers, (n, values), have so few different values that they must come from pixels, however changed.

    That holds for pixels in another scaling, at half precision, or out of order. Weights, gradients and features hardly
    ever have the same value twice, except for zeros and rows that are copies.
    """
    most = 256 * channels
    if len(rows[0].unique()) > most:
        return False
    rows = rows.unique(dim=0)
    values, counts = rows.unique(return_counts=True)
    repeated = int(counts.sum() - counts.max()) >= 2 * (len(values) - 1)
    return len(values) <= most and repeated and all(len(row.unique()) >= 8 for row in rows)
