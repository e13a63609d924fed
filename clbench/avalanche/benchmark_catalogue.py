"""Find Avalanche's own class-incremental benchmarks by name, and describe them without importing Avalanche."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from clbench.avalanche.catalogue import package_version
from clbench.errors import PluginError, UsageError
from clbench.system.suggestions import did_you_mean

EXPERIENCES: Mapping[str, int] = {
    "SplitMNIST": 5,
    "SplitFMNIST": 5,
    "SplitCIFAR10": 5,
    "SplitCIFAR100": 10,
    "SplitCIFAR110": 11,
    "SplitOmniglot": 4,
    "SplitAlphabetOmniglot": 5,
}
"""Number of experiences of the benchmarks for which Avalanche has no default; clbench's choice."""

GROUPED = ("SplitAlphabetOmniglot", "SplitCIFAR110", "SplitCUB200", "SplitInaturalist")
"""Benchmarks whose experiences are groups of classes that belong together, so that their class order is kept."""


@dataclass(frozen=True)
class DescribedBenchmark:
    """One of Avalanche's benchmarks, as its source text describes it."""

    name: str
    doc: str
    experiences: int | None
    """How many there are by default; None if the function has no such parameter."""


def source_file(name: str) -> Path:
    """Return Avalanche's file that defines the benchmark `name`. Raises UsageError if there is none."""
    found = _files()
    if name not in found:
        raise UsageError(
            f"Avalanche {package_version()} has no class-incremental benchmark '{name}'{did_you_mean(name, found)}",
            f"Known: {', '.join(sorted(found))}. For any other, write a scenario file whose benchmark() builds it.",
        )
    return found[name]


@lru_cache(maxsize=1)
def _files() -> dict[str, Path]:
    package_version()
    spec = find_spec("avalanche")
    found: dict[str, Path] = {}
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for path in sorted(Path(folder, "benchmarks", "classic").glob("*.py")):
            for node in ast.parse(path.read_bytes()).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("Split"):
                    found.setdefault(node.name, path)
    return found


def described(name: str, content: bytes) -> DescribedBenchmark:
    """Describe the benchmark `name` from the bytes of its file. Raises PluginError if the file does not define it."""
    for node in ast.parse(content).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return DescribedBenchmark(name, ast.get_docstring(node) or "", _experiences(node))
    raise PluginError(f"the file defines no function {name}")


def _experiences(function: ast.FunctionDef) -> int | None:
    if function.name in EXPERIENCES:
        return EXPERIENCES[function.name]
    arguments = function.args
    positional = zip(reversed(arguments.args), reversed(arguments.defaults), strict=False)
    for argument, default in [*positional, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]:
        if argument.arg == "n_experiences" and isinstance(default, ast.Constant) and isinstance(default.value, int):
            return default.value
    return None
