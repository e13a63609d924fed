"""What a strategy reads and keeps: which training samples, which files, how many exemplars.

This catches mistakes and casual cheating. It cannot stop a determined author, whose code runs in the same process.
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

_BUFFERED_READS = 2**20
"""Rows whose reads are buffered before they are counted."""


@dataclass(frozen=True)
class Finding:
    """Something that a strategy did and must not do."""

    severity: Severity
    name: str
    """The kind of violation: `old data`, `memory`, …"""

    experience: int
    what: str


@dataclass
class Audit:
    """What one run read and kept, and the findings about it."""

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

    def begin_experience(self, experience: int) -> None:
        """Begin an experience: from now on its own samples may be read."""
        self._experience, self._whole_past = experience, False
        self._count()
        self._counts.zero_()

    def reads_so_far(self) -> Tensor:
        """Return how often each training row was read in this experience, (n,)."""
        self._count()
        return self._counts.clone()

    def add_reads(self, counts: Tensor) -> None:
        """Add the reads of each training row, (n,), by a training that this run continues from."""
        self._counts += counts

    def allow_past(self) -> None:
        """Allow reading earlier experiences: the strategy has declared that it trains on all data so far."""
        self._whole_past = True

    def read_training(self, rows: Tensor) -> None:
        """Note that training rows, (n,), were read."""
        self._pending.append(rows)
        self._pending_rows += len(rows)
        if self._pending_rows > _BUFFERED_READS:
            self._count()

    def _count(self) -> None:
        for device in {rows.device for rows in self._pending}:  # once per device: copying from a GPU waits for it
            rows = torch.cat([rows for rows in self._pending if rows.device == device]).cpu()
            self._counts += torch.bincount(rows, minlength=len(self._counts))
        self._pending.clear()
        self._pending_rows = 0

    def read_test(self, rows: Tensor) -> None:
        """Note that test rows, (n,), were read, which is allowed in an evaluation only."""
        if not self._evaluating:
            self.add("violation", "test data", f"read {len(rows)} test samples while it trained")

    def read_test_labels(self) -> None:
        """Note that the labels of the test samples were read while the strategy predicted."""
        self.add("violation", "task label", "read the test samples' labels while it predicted")

    def end_experience(self) -> dict[str, int]:
        """Judge what was read in this experience; return the number of reads of current, earlier and later samples."""
        self._count()
        past, future = self._owner < self._experience, self._owner > self._experience
        read = self._counts > 0
        if bool((read & future).any()):
            self.add("violation", "future data", f"read {int((read & future).sum())} samples of later experiences")
        if bool((read & past).any()) and not self._whole_past:
            self.add("violation", "old data", f"read {int((read & past).sum())} samples of earlier experiences")
        rows_by_age = {"current": self._owner == self._experience, "earlier": past, "later": future}
        return {name: int(self._counts[rows].sum()) for name, rows in rows_by_age.items()}

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within, the test set may be read."""
        self._evaluating = True
        try:
            yield
        finally:
            self._evaluating = False

    @contextmanager
    def watching_files(self) -> Iterator[None]:
        """Within, opening a file in the data folder is a finding."""
        _ACTIVE.append(self)
        if not _HOOK_INSTALLED:
            _HOOK_INSTALLED.append(True)
            sys.addaudithook(_on_audit_event)
        try:
            yield
        finally:
            _ACTIVE.remove(self)

    # -- memory -------------------------------------------------------------------------------------------------------

    def count_exemplars(
        self, state: dict[str, Any], module: types.ModuleType | None, model: nn.Module, allowed: int, shape: SampleShape
    ) -> int:
        """Count the training samples that a strategy keeps on itself, in its module's globals, and on the network.

        `allowed` is the number it declares. Returns the number kept.
        """
        parameters = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        kept, locations = 0, []
        extras = {f"the network's {name}": value for name, value in _extras(model)}
        places = [("itself", state), *extras.items()]
        if module is not None:
            places += [(f"the module's global {name}", value) for name, value in _globals(module)]
        for place, value in places:
            found = sum(_samples_in(leaf, shape) for leaf in _leaves(value, parameters))
            if found:
                kept += found
                locations.append(f"{found} on {place}" if place == "itself" else f"{found} in {place}")
        if kept > allowed:
            what = f"keeps {kept} training samples ({', '.join(locations)}) but declares {allowed}"
            self.add("violation", "memory", what)
        return kept

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def check_unchanged(self, before: str, after: str) -> None:
        """Compare the hashes of network and strategy before and after an evaluation."""
        if before != after:
            self.add("violation", "learning in evaluation", "its state changed while it was evaluated")

    # -- verdict ------------------------------------------------------------------------------------------------------

    def add(self, severity: Severity, name: str, what: str) -> None:
        """Add a finding, at most one of each name per experience."""
        if not any((each.name, each.experience) == (name, self._experience) for each in self.findings):
            self.findings.append(Finding(severity, name, self._experience, what))

    def verdict(self) -> str:
        """Return `pass`, `warn(names)` or `violation(names)`."""
        for severity in ("violation", "warn"):
            names = sorted({each.name for each in self.findings if each.severity == severity})
            if names:
                return f"{severity}({', '.join(names)})"
        return "pass"


_ACTIVE: list[Audit] = []
_HOOK_INSTALLED: list[bool] = []


def _on_audit_event(event: str, arguments: tuple[Any, ...]) -> None:
    """Python's audit hook. It cannot be removed, so there is one per process, and it usually returns at once."""
    if not _ACTIVE or event != "open" or not isinstance(arguments[0], (str, bytes, os.PathLike)):
        return
    path = Path.cwd() / os.fsdecode(arguments[0])
    for audit in list(_ACTIVE):
        if audit.data_folder in path.parents:
            audit.add("violation", "data files", f"opened {path.name} in the data folder")


@dataclass(frozen=True)
class SampleShape:
    """Shape and scaling of a sample, by which stored pixels are recognized."""

    height: int
    width: int
    channels: int
    scaling: Scaling

    @property
    def values(self) -> int:
        """Number of values in a sample."""
        return self.height * self.width * self.channels


def _extras(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a network's modules other than modules, parameters, buffers and torch's own."""
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
    """Yield the tensors, arrays, byte strings and exemplar memories reachable from `value`, each once."""
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


def _samples_in(leaf: Any, shape: SampleShape) -> int:
    """Return how many samples a value holds, as stored pixels, in 0..1, or scaled as for the network.

    A one-dimensional array other than bytes is assumed to hold labels or counts.
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


def _is_pixels(tensor: Tensor, shape: SampleShape) -> bool:
    """Whether all values are on the grid of 256 pixel values, in any scaling."""
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
