"""Loads torch._dynamo, the front end of torch.compile, only when something is compiled.

Torch's optimizers and `torch.func.grad` import it although nothing is compiled, which takes a second, as long
as `import torch` does. All they use are `disable`, which keeps a function from being compiled, `graph_break`, which
interrupts a compilation, and `compiled_autograd._disable`, which suspends that of a backward pass. Until something is
compiled, none has anything to do, and a small module with these three takes its place.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from clbench.system import own_process

NAME = "torch._dynamo"


def put_off() -> None:
    """Put off loading torch._dynamo until it is needed, if this process is a command's and has not loaded it yet."""
    if own_process.claimed() and "torch" in sys.modules and NAME not in sys.modules:
        sys.modules[NAME] = sys.modules["torch"]._dynamo = _Placeholder()  # type: ignore[attr-defined]
        sys.meta_path.insert(0, _Finder())


class _Placeholder(ModuleType):
    def __init__(self) -> None:
        super().__init__(NAME)
        self.__path__: list[str] = []  # so that submodules are looked up, by _Finder
        self.compiled_autograd = _CompiledAutograd()

    @staticmethod
    def disable(fn: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Callable[..., Any]:
        return fn if fn else lambda function: function

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # attributes that are looked up on any module
            raise AttributeError(name)
        return getattr(_load(), name)


class _CompiledAutograd:
    _disable = contextlib.nullcontext

    def __getattr__(self, name: str) -> Any:
        return getattr(_load().compiled_autograd, name)


class _Finder(MetaPathFinder):
    """Loads all of torch._dynamo when one of its submodules is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{NAME}.") or not isinstance(sys.modules.get(NAME), _Placeholder):
            return None
        _load()
        return ModuleSpec(fullname, _Loaded(importlib.import_module(fullname)))


class _Loaded(Loader):
    """Returns a module that is already loaded."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


def _load() -> ModuleType:
    if isinstance(sys.modules.get(NAME), _Placeholder):
        del sys.modules[NAME]
    return importlib.import_module(NAME)
