"""What a strategy reads and keeps, watched from outside: which training samples, which files, how many exemplars.

It catches mistakes and casual cheating. It does not catch a determined author, who runs in the same process.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from clbench.base.exemplars import ExemplarMemory
from clbench.data.batches import Scaling

Severity = Literal["violation", "warn"]

_PENDING = 2**20
"""Rows whose reads are noted before they are counted."""


@dataclass(frozen=True)
class Finding:
    """One thing that a strategy did and may not do."""

    severity: Severity
    name: str
    """Short and always the same for the same misdeed: `old data`, `memory`, …"""

    experience: int
    what: str


@dataclass
class Audit:
    """The costs of one run."""

    rows_of: Sequence[Tensor]
    """Training rows of each experience."""

    data_folder: Path
    findings: list[Finding] = field(default_factory=list)
    _pending: list[Tensor] = field(default_factory=list)
    _pending_rows: int = 0
    _experience: int = 0
    _evaluating: bool = False
    _whole_past: bool = False

    def __post_init__(self) -> None:
        size = 1 + max(int(rows.max()) for rows in self.rows_of)
        self._owner = torch.full((size,), -1)
        """The experience of each training row."""

        for index, rows in enumerate(self.rows_of):
            self._owner[rows] = index
        self._counts = torch.zeros(size, dtype=torch.int64)
        """Reads of each training row in the current experience."""

    # -- reads --------------------------------------------------------------------------------------------------------

    def begin(self, experience: int) -> None:
        """An experience begins: from here on its own samples may be read."""
        self._experience, self._whole_past = experience, False
        self._count()
        self._counts.zero_()

    def reads_so_far(self) -> Tensor:
        """Return how often each training row was read in this experience, (n,)."""
        self._count()
        return self._counts.clone()

    def read_elsewhere(self, counts: Tensor) -> None:
        """Training rows were read so often, (n,), in a training that this run goes on from."""
        self._counts += counts

    def allow_past(self) -> None:
        """The strategy has declared that it trains on all data so far."""
        self._whole_past = True

    def read_training(self, rows: Tensor) -> None:
        """Training rows were read, (n,)."""
        self._pending.append(rows)
        self._pending_rows += len(rows)
        if self._pending_rows > _PENDING:
            self._count()

    def _count(self) -> None:
        for device in {rows.device for rows in self._pending}:  # all of a GPU at once, which must be waited for
            rows = torch.cat([rows for rows in self._pending if rows.device == device]).cpu()
            self._counts += torch.bincount(rows, minlength=len(self._counts))
        self._pending.clear()
        self._pending_rows = 0

    def read_test(self, rows: Tensor) -> None:
        """Test rows were read, (n,), which only an evaluation may do."""
        if not self._evaluating:
            self.find("violation", "test data", f"read {len(rows)} test samples while it trained")

    def read_test_labels(self) -> None:
        """The classes of the test samples were read while the strategy predicted."""
        self.find("violation", "task label", "read the test samples' labels while it predicted")

    def close(self) -> dict[str, int]:
        """The experience ends: judge what was read of it, and return the numbers of reads by where they belong."""
        self._count()
        past, future = self._owner < self._experience, self._owner > self._experience
        read = self._counts > 0
        if bool((read & future).any()):
            self.find("violation", "future data", f"read {int((read & future).sum())} samples of later experiences")
        if bool((read & past).any()) and not self._whole_past:
            self.find("violation", "old data", f"read {int((read & past).sum())} samples of earlier experiences")
        of = {"current": self._owner == self._experience, "earlier": past, "later": future}
        return {name: int(self._counts[rows].sum()) for name, rows in of.items()}

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Within, the test set may be read."""
        self._evaluating = True
        try:
            yield
        finally:
            self._evaluating = False

    @contextmanager
    def files(self) -> Iterator[None]:
        """Within, opening a file of the data folder is found."""
        _WATCHING.append(self)
        if not _HOOKED:
            _HOOKED.append(True)
            sys.addaudithook(_opened)
        try:
            yield
        finally:
            _WATCHING.remove(self)

    # -- memory -------------------------------------------------------------------------------------------------------

    def weigh(
        self, state: dict[str, Any], module: types.ModuleType | None, model: nn.Module, allowed: int, shape: Shape
    ) -> int:
        """Count the samples that a strategy keeps, on itself, in its file's globals, and on the network.

        `allowed` is how many it declares; `shape` says what a sample looks like. Returns the number kept.
        """
        parameters = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        kept, where = 0, []
        extras = {f"the network's {name}": value for name, value in _extras(model)}
        places = [("itself", state), *extras.items()]
        if module is not None:
            places += [(f"the file's global {name}", value) for name, value in _globals(module)]
        for place, value in places:
            found = sum(_samples_in(leaf, shape) for leaf in _leaves(value, parameters))
            if found:
                kept += found
                where.append(f"{found} on {place}" if place == "itself" else f"{found} in {place}")
        if kept > allowed:
            what = f"keeps {kept} training samples ({', '.join(where)}) and declares {allowed}"
            self.find("violation", "memory", what)
        return kept

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def compare(self, before: str, after: str) -> None:
        """`before` and `after` are hashes of network and strategy around an evaluation."""
        if before != after:
            self.find("violation", "learning in evaluation", "its state changed while it was evaluated")

    # -- verdict ------------------------------------------------------------------------------------------------------

    def find(self, severity: Severity, name: str, what: str) -> None:
        """Note a finding; of one name once an experience."""
        if not any((each.name, each.experience) == (name, self._experience) for each in self.findings):
            self.findings.append(Finding(severity, name, self._experience, what))

    def verdict(self) -> str:
        """Return `pass`, `warn(names)` or `violation(names)`."""
        for severity in ("violation", "warn"):
            names = sorted({each.name for each in self.findings if each.severity == severity})
            if names:
                return f"{severity}({', '.join(names)})"
        return "pass"


_WATCHING: list[Audit] = []
_HOOKED: list[bool] = []


def _opened(event: str, arguments: tuple[Any, ...]) -> None:
    """Python's audit hook: it cannot be taken away again, so it is one for the process and mostly returns at once."""
    if not _WATCHING or event != "open" or not isinstance(arguments[0], (str, bytes, os.PathLike)):
        return
    path = Path.cwd() / os.fsdecode(arguments[0])
    for audit in list(_WATCHING):
        if audit.data_folder in path.parents:
            audit.find("violation", "data files", f"opened {path.name} in the data folder")


@dataclass(frozen=True)
class Shape:
    """What a sample looks like, as it is stored and as the network gets it."""

    height: int
    width: int
    channels: int
    scaling: Scaling

    @property
    def values(self) -> int:
        """Numbers in a sample."""
        return self.height * self.width * self.channels


def _extras(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield what is set on a network's modules beside modules, parameters, buffers and torch's own attributes."""
    usual = set(vars(nn.Linear(1, 1))) | set(vars(nn.BatchNorm2d(1))) | set(vars(nn.Conv2d(1, 1, 1)))
    for module in model.modules():
        for name, value in vars(module).items():
            if name not in usual and not isinstance(value, (int, float, str, bool)):
                yield name, value


def _globals(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield what a plug-in's file keeps at module level and on its classes."""
    for name, value in vars(module).items():
        if name.startswith("__") or isinstance(value, (types.ModuleType, types.FunctionType)):
            continue
        if not isinstance(value, type):
            yield name, value
        elif value.__module__ == module.__name__:
            yield from ((f"{name}.{key}", item) for key, item in vars(value).items() if not key.startswith("__"))


def _leaves(value: Any, parameters: set[int]) -> Iterator[Any]:
    """Yield the tensors, arrays, byte strings and exemplar memories that can be reached from `value`, each once."""
    waiting, visited = [value], set(parameters)
    while waiting:
        item = waiting.pop()
        if id(item) in visited:
            continue
        visited.add(id(item))
        if isinstance(item, (Tensor, np.ndarray, bytes, bytearray, ExemplarMemory)):
            yield item
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            waiting.extend(item)
        elif isinstance(item, nn.Module):
            visited.update(id(tensor) for tensor in (*item.parameters(), *item.buffers()))
            waiting.extend(extra for _, extra in _extras(item))
        elif hasattr(item, "__dict__") and not isinstance(item, (type, types.ModuleType, types.FunctionType)):
            waiting.extend(vars(item).values())


def _samples_in(leaf: Any, shape: Shape) -> int:
    """Return how many samples a value holds: pixels as they are stored, in 0..1, or scaled as for the network.

    A plain row of numbers other than bytes is taken for labels or counts, not for pixels.
    """
    if isinstance(leaf, ExemplarMemory):
        return len(leaf)
    if isinstance(leaf, (bytes, bytearray)):
        return len(leaf) // shape.values
    tensor = leaf.detach().cpu() if isinstance(leaf, Tensor) else _as_tensor(leaf)
    if tensor is None or tensor.numel() < shape.values or tensor.numel() % shape.values:
        return 0
    count = tensor.numel() // shape.values
    if tensor.dtype == torch.uint8:
        return count
    if tensor.dim() < 2:
        return 0
    if not tensor.is_floating_point():
        return count if bool(((tensor >= 0) & (tensor <= 255)).all()) and tensor.unique().numel() > 2 else 0
    return count if _is_pixels(tensor.float(), shape) else 0


def _as_tensor(array: Any) -> Tensor | None:
    try:
        return torch.from_numpy(np.ascontiguousarray(array))
    except TypeError:
        return None


def _is_pixels(tensor: Tensor, shape: Shape) -> bool:
    """Whether all values lie on the grid of 256 pixel values, however scaled."""
    flat = tensor.reshape(-1, shape.values)[:8]
    factor, offset = shape.scaling.factor.cpu(), shape.scaling.offset.cpu()
    first = flat.view(-1, shape.channels, shape.height, shape.width).permute(0, 2, 3, 1)
    last = flat.view(-1, shape.height, shape.width, shape.channels)
    candidates = [(first - offset) / factor, (last - offset) / factor, flat * 255, flat]
    return any(_on_grid(values) for values in candidates)


def _on_grid(pixels: Tensor) -> bool:
    near = (pixels - pixels.round()).abs() < 0.02
    within = (pixels > -0.5) & (pixels < 255.5)
    return bool((near & within).all()) and bool(pixels.round().unique().numel() > 2)
