"""Imports a plug-in's file as a private module, `clbench.plugins.module_loading.<stem>_<hash of the content>`.

The name is the same wherever the file is, so that a checkpoint can be read on another machine.

Every process that reads pickles of a plug-in's objects (a worker that resumes from a checkpoint) has imported the file
before. A process that a plug-in itself starts with multiprocessing's spawn has not: what it needs belongs in a
package.
"""

from __future__ import annotations

import hashlib
import re
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from clbench.avalanche.quiet_import import putting_off
from clbench.errors import MachineError
from clbench.system import memory


class _UncachedLoader(SourceFileLoader):
    """Compiles the file at every import: no byte code is left in the user's folder, and no stale byte code is used."""

    def path_stats(self, path: str) -> NoReturn:
        raise OSError


def module_name(path: Path) -> str:
    """Return the name under which the file at `path` is imported."""
    stem = re.sub(r"\W", "_", path.stem)
    return f"{__name__}.{stem}_{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def import_file(path: Path) -> ModuleType:
    """Import the file at `path` in its current state; whatever executing it raises is raised here."""
    name = module_name(path)
    loader = _UncachedLoader(name, str(path.resolve()))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    # Registered before it is executed, as dataclasses with postponed annotations need.
    module = sys.modules[name] = module_from_spec(spec)
    try:
        with putting_off():  # it may be the first to import Avalanche
            loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def require_room_for_torch() -> None:
    """Raise MachineError if torch, which every plug-in imports, does not fit into this process's memory."""
    if not memory.torch_fits():
        raise memory_is_short("torch")


def memory_is_short(what: str) -> MachineError:
    """Return the error for not having enough memory for `what`."""
    return MachineError(f"memory is short: not enough for {what}{memory.limit_in_words()}", memory.REMEDY)
