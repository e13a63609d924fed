"""Import Avalanche without warnings, and without waiting for packages that nothing here uses.

Avalanche imports Weights & Biases for one of its metrics, and a family of quadratic-program solvers, with everything
that these can work with, for one of its plug-ins. Together they take a fifth of the time that torch and Avalanche take.
They are loaded only when something else imports or uses them.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import NoReturn

PUT_OFF = ("qpsolvers", "wandb")


@contextmanager
def importing_avalanche() -> Iterator[None]:
    """Within this context, modules of Avalanche can be imported as usual."""
    with putting_off(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional packages warn about what else they could use
        yield


@contextmanager
def putting_off() -> Iterator[None]:
    """Within this context, no import of Avalanche waits for those packages."""
    finder = _PutOff()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _PutOff(MetaPathFinder):
    """Finds these packages as Python does, but loads each only when one of its attributes is used."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in PUT_OFF else None
        if spec is None or spec.loader is None:
            return None  # Python continues to search, and reports what is missing
        spec.loader = LazyLoader(_Quietly(spec.loader))
        return spec


class _Quietly(Loader):
    """Loads a package at an unexpected moment: without warnings, and without losing an error."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        name, spec = module.__name__, module.__spec__
        module.__loader__ = self.loader
        if spec is not None:
            spec.loader = self.loader
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.loader.exec_module(module)
        except Exception as error:
            # An import statement looks into the module, too, and continues whatever happens then.
            sys.modules.pop(name, None)
            module.__getattr__ = partial(_fail, name, error)  # type: ignore[method-assign]
            raise


def _fail(package: str, cause: Exception, attribute: str) -> NoReturn:
    raise ImportError(f"{package} cannot be loaded: {type(cause).__name__}: {cause}") from cause
