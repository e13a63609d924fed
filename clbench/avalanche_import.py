"""Importing Avalanche in silence, and without waiting for packages that nothing here uses.

Avalanche imports Weights & Biases for one of its loggers, and for two of its plug-ins a family of solvers of quadratic
programs, with all that these can work with. Together they take a fifth of the time that torch and Avalanche take. They
are loaded when something of them is used.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

PUT_OFF = ("qpsolvers", "wandb")


@contextmanager
def importing_avalanche() -> Iterator[None]:
    """Within, modules of Avalanche can be imported as usual."""
    with putting_off(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional packages warn of what else they could use
        yield


@contextmanager
def putting_off() -> Iterator[None]:
    """Within, whoever imports Avalanche does not wait for those packages either."""
    finder = _PutOff()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _PutOff(MetaPathFinder):
    """Finds some packages as Python does, but has each loaded only at the first look at one of its attributes."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in PUT_OFF else None
        if spec is None or spec.loader is None:
            return None  # Python goes on looking, and says what is missing
        spec.loader = LazyLoader(spec.loader)
        return spec
