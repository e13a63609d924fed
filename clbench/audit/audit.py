"""Audit what a strategy reads and keeps: which training samples, which files, how many exemplars.

This catches mistakes and casual cheating. It cannot stop a determined author, whose code runs in the same process.
"""

from __future__ import annotations

import io
import os
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from clbench.audit.per_sample_values import Rows, grown_with_samples, kept_rows
from clbench.audit.sample_search import SampleShape, added_to_builtins, leaves, places, samples_in

Severity = Literal["violation", "warn"]

_BUFFERED_READS = 2**20
"""Rows whose reads are buffered before they are counted."""

_NOT_THE_STRATEGY = {"clbench", "torch._dynamo", "torch._inductor", "triton", "linecache"}
_NOT_THE_STRATEGY |= {"importlib._bootstrap", "importlib._bootstrap_external", "importlib.metadata"}
"""Packages that open files themselves when a strategy calls them or imports something."""

_CODE = {".py", ".pyc", ".so", ".pyd", ".dylib", ".dll"}
_DEVICES = {Path("/dev"), Path("/proc"), Path("/sys")}
_FILES_AMONG_DEVICES = Path("/dev/shm")

_STARTING = {"subprocess.Popen", "os.system", "os.posix_spawn", "os.spawn", "os.fork"}
"""Python's audit events for the start of another process."""


@dataclass(frozen=True)
class Finding:
    """Something that a strategy did but must not do."""

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
    _module: types.ModuleType | None = None
    """The strategy's file, while the files that it opens are watched."""

    def __post_init__(self) -> None:
        size = 1 + max(int(rows.max()) for rows in self.rows_of)
        self._enter(0, size)
        self._counts = torch.zeros(size, dtype=torch.int64)
        """Reads of each training row in the current experience."""

        self._left_over = {id(leaf) for leaf in leaves(added_to_builtins(), set())}
        """What other runs in this process have left in Python's builtins."""

    # -- reads --------------------------------------------------------------------------------------------------------

    def begin_experience(self, experience: int) -> None:
        """Begin an experience: from now on its own samples may be read."""
        self._experience, self._whole_past = experience, False
        self._count()
        self._counts.zero_()
        self._enter(experience, len(self._counts))

    def _enter(self, experience: int, size: int) -> None:
        """Mark the training rows of an experience, (size,), and those that came before it and are not among them."""
        self._current, self._past = torch.zeros(2, size, dtype=torch.bool)
        for rows in self.rows_of[:experience]:
            self._past[rows] = True
        self._current[self.rows_of[experience]] = True
        self._past &= ~self._current

    def reads_so_far(self) -> Tensor:
        """Return how often each training row was read in this experience, (n,)."""
        self._count()
        return self._counts.clone()

    def add_reads(self, counts: Tensor) -> None:
        """Add the reads of each training row, (n,), in the training that this run continues."""
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
        """Note that test rows, (n,), were read, which is allowed only in an evaluation."""
        if not self._evaluating:
            self.add("violation", "test data", f"read {len(rows)} test samples while it trained")

    def read_test_labels(self) -> None:
        """Note that the labels of the test samples were read while the strategy predicted."""
        self.add("violation", "task label", "read the test samples' labels while it predicted")

    def end_experience(self) -> dict[str, int]:
        """Judge what was read in this experience; return the number of reads of current, earlier and later samples."""
        self._count()
        past, future = self._past, ~(self._past | self._current)
        read = self._counts > 0
        if bool((read & future).any()):
            self.add("violation", "future data", f"read {int((read & future).sum())} samples of later experiences")
        if bool((read & past).any()) and not self._whole_past:
            self.add("violation", "old data", f"read {int((read & past).sum())} samples of earlier experiences")
        rows_by_age = {"current": self._current, "earlier": past, "later": future}
        return {name: int(self._counts[rows].sum()) for name, rows in rows_by_age.items()}

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Allow the test set to be read within this context."""
        self._evaluating = True
        try:
            yield
        finally:
            self._evaluating = False

    @contextmanager
    def watching_files(self, module: types.ModuleType) -> Iterator[None]:
        """Add a finding if a file in the data folder is opened, or any other than code by `module`."""
        _ACTIVE.append(self)
        self._module = module
        if not _HOOK_INSTALLED:
            _HOOK_INSTALLED.append(True)
            sys.addaudithook(_on_audit_event)
        try:
            yield
        finally:
            _ACTIVE.remove(self)

    def file_opened(self, path: Path) -> None:
        """Note that a file was opened while files are watched; links in `path` are resolved."""
        around = {path, *path.parents}
        if self.data_folder in around:
            self.add("violation", "data files", f"opened {path.name} in the data folder")
        elif path.suffix in _CODE or (not _DEVICES.isdisjoint(around) and _FILES_AMONG_DEVICES not in around):
            return
        elif self._strategy_is_running():
            self.add("warn", "files", f"opened {path.name}")

    def process_started(self) -> None:
        """Note that a process was started while files are watched."""
        if self._strategy_is_running():
            self.add("warn", "processes", "started another process")

    def _strategy_is_running(self) -> bool:
        """Whether the strategy's code opens a file, rather than the harness, an import or a compiler on its behalf."""
        frame: types.FrameType | None = sys._getframe(3)  # of what raised the audit event
        while frame is not None and self._module is not None:
            if frame.f_globals is vars(self._module):
                return True
            name = str(frame.f_globals.get("__name__"))
            if any(f"{name}.".startswith(f"{package}.") for package in _NOT_THE_STRATEGY):
                return False
            frame = frame.f_back
        return False

    # -- memory -------------------------------------------------------------------------------------------------------

    def count_exemplars(
        self, state: dict[str, Any], module: types.ModuleType | None, model: nn.Module, allowed: int, shape: SampleShape
    ) -> int:
        """Count the different training samples that a strategy keeps, wherever they are (see sample_search.py).

        `allowed` is the number it declares. Returns the number kept.
        """
        kept: set[bytes] = set()
        visited = set(self._left_over)
        locations = []
        for place, value in places(state, module, model):
            before = len(kept)
            for leaf in leaves(value, visited):
                kept |= samples_in(leaf, shape)
                if isinstance(leaf, io.IOBase):
                    self._note_open_file(leaf)
            if found := len(kept) - before:
                locations.append(f"{found} on {place}" if place == "itself" else f"{found} in {place}")
        if len(kept) > allowed:
            what = f"keeps {len(kept)} training samples ({', '.join(locations)}) but declares {allowed}"
            self.add("violation", "memory", what)
        return len(kept)

    def _note_open_file(self, file: io.IOBase) -> None:
        name = getattr(file, "name", None)
        if isinstance(name, str) and not file.closed and file.readable() and file not in (sys.stdin, sys.__stdin__):
            self.add("warn", "files", f"keeps {Path(name).name} open")

    def check_growth(self, before: Rows, state: dict[str, Any], model: nn.Module, allowed: int) -> None:
        """Find values that a strategy which declares no exemplars keeps for every sample.

        `before` is what `kept_rows` returned before the experience.
        """
        if allowed:
            return
        samples = int(((self._counts > 0) & self._current).sum())
        for row, more in grown_with_samples(before, kept_rows(state, model), samples).items():
            what = f"declares no exemplars, but keeps {more} rows of shape {row} more, for {samples} samples"
            self.add("warn", "per-sample values", what)

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
    if not _ACTIVE:
        return
    if event in _STARTING:
        for audit in list(_ACTIVE):
            audit.process_started()
    elif event in ("open", "sqlite3.connect") and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = Path(os.path.realpath(os.fsdecode(arguments[0])))
        for audit in list(_ACTIVE):
            audit.file_opened(path)
