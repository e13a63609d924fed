"""Where plug-in files live once they are imported: as modules `clbench.plugins.importing.<stem>_<hash of the path>`.

A finder in this package maps such names to files. It reads the map from an environment variable, which child processes
inherit, so that an object made by a plug-in can be unpickled in any of them. Importing through the ordinary import
system registers the module before it executes, as dataclasses with postponed annotations need, and removes it where
executing fails.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType

from clbench.avalanche.importing import putting_off

VARIABLE = "CLBENCH_LOADED"


class _FileLoader(SourceLoader):
    """Compiles the file at every import: no byte code is left in a user's folder, and none that is stale is used."""

    def __init__(self, path: str) -> None:
        self.path = path

    def get_filename(self, fullname: str) -> str:
        return self.path

    def get_data(self, path: str | bytes) -> bytes:
        return Path(os.fsdecode(path)).read_bytes()


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{__name__}."):
            return None
        file = _known().get(fullname)
        return spec_from_loader(fullname, _FileLoader(file)) if file else None


def _known() -> dict[str, str]:
    known: dict[str, str] = json.loads(os.environ.get(VARIABLE, "{}"))
    return known


def module_name(path: Path) -> str:
    """Return the name under which the file at `path` is imported."""
    real = str(path.resolve())
    stem = re.sub(r"\W", "_", path.stem)
    return f"{__name__}.{stem}_{hashlib.sha256(real.encode()).hexdigest()[:12]}"


def import_file(path: Path) -> ModuleType:
    """Import the file at `path` as it is now; whatever executing it raises is raised here."""
    name = module_name(path)
    os.environ[VARIABLE] = json.dumps(_known() | {name: str(path.resolve())}, sort_keys=True)
    sys.modules.pop(name, None)
    with putting_off():  # it may be the first to import Avalanche
        return importlib.import_module(name)


sys.meta_path.append(_Finder())
