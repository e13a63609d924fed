"""Find Avalanche's own strategies by name, and describe them from their source files without importing Avalanche.

A strategy's hyper-parameters are the parameters of its constructor, except those that the harness sets. For some that
have no default there, clbench has one: see DEFAULTS.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Optional, Union

from clbench.errors import MachineError, PluginError, UsageError
from clbench.system.suggestions import did_you_mean

PREFIX = "avalanche:"
PACKAGE = "avalanche-lib"

GIVEN_BY_HARNESS = {
    "self",
    "model",
    "optimizer",
    "criterion",
    "train_mb_size",
    "train_epochs",
    "eval_mb_size",
    "device",
    "plugins",
    "evaluator",
    "eval_every",
    "peval_mode",
    "feature_extractor",
    "classifier",
    "buffer_transform",
}
"""Constructor parameters that come from the recipe, or that concern evaluation, which is clbench's own."""

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "LwF": {"alpha": 1.0, "temperature": 2.0},
    "EWC": {"ewc_lambda": 1.0},
    "SynapticIntelligence": {"si_lambda": 0.1},
    "GEM": {"patterns_per_exp": 256},
    "AGEM": {"patterns_per_exp": 256},
    "ICaRL": {"memory_size": 2000, "fixed_memory": True},
}
"""clbench's defaults, for parameters that have none in Avalanche."""

_TYPES: Mapping[str, Any] = {
    "Optional": Optional,
    "Union": Union,
    "Sequence": Sequence,
    "List": list,
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
}


@dataclass(frozen=True)
class Parameter:
    """A hyper-parameter of one of Avalanche's strategies."""

    name: str
    annotation: str
    """Its type as written in the source, or the type of its default."""

    default: Any
    required: bool
    """Whether it has no default, neither Avalanche's nor clbench's; `default` is then None."""

    doc: str


@dataclass(frozen=True)
class Described:
    """One of Avalanche's strategies, as its source text describes it."""

    name: str
    doc: str
    parameters: tuple[Parameter, ...]
    out_of_reach: tuple[str, ...]
    """Parameters without a default that are not plain values, so that the strategy cannot be used by name."""


def package_version() -> str:
    """Return the version of the package. Raises MachineError if it is not installed."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        raise MachineError(f"{PACKAGE} is not installed", f"pip install {PACKAGE}") from None


def source_file(name: str) -> Path:
    """Return Avalanche's file that defines the strategy `name`. Raises UsageError if there is none."""
    found = _files()
    if name not in found:
        raise UsageError(
            f"Avalanche {package_version()} has no strategy '{name}'{did_you_mean(name, found)}",
            f"Known: {', '.join(sorted(found))}",
        )
    return found[name]


@lru_cache(maxsize=1)
def _files() -> dict[str, Path]:
    package_version()
    spec = find_spec("avalanche")
    folders = spec.submodule_search_locations if spec else None
    found: dict[str, Path] = {}
    for folder in folders or ():
        for path in sorted(Path(folder, "training", "supervised").glob("*.py")):
            for node in ast.parse(path.read_bytes()).body:
                if isinstance(node, ast.ClassDef) and any("Template" in ast.unparse(base) for base in node.bases):
                    found.setdefault(node.name, path)
    return found


def described(name: str, content: bytes) -> Described:
    """Describe the strategy `name` from the bytes of its file. Raises PluginError if the file does not define it."""
    for node in ast.parse(content).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            break
    else:
        raise PluginError(f"the file defines no class {name}")
    constructor = next(
        (item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None
    )
    doc = ast.get_docstring(node) or ""
    if constructor is None:
        return Described(name, doc, (), ())
    documented = _documented(ast.get_docstring(constructor) or "")
    parameters, out_of_reach = [], []
    for argument, default in _arguments(constructor.args):
        if argument.arg in GIVEN_BY_HARNESS:
            continue
        parameter = _parameter(name, argument, default, documented.get(argument.arg, ""))
        if parameter is not None:
            parameters.append(parameter)
        elif default is None:
            out_of_reach.append(argument.arg)
    return Described(name, doc, tuple(parameters), tuple(out_of_reach))


def _arguments(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    yield from zip(positional, [*defaults, *arguments.defaults], strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)


def _parameter(strategy: str, argument: ast.arg, default: ast.expr | None, doc: str) -> Parameter | None:
    """Return a parameter that is a plain value; None for any other, which keeps its default if it has one."""
    ours = DEFAULTS.get(strategy, {})
    value = ours.get(argument.arg)
    if default is not None:
        try:
            value = ast.literal_eval(default)
        except ValueError:
            return None
    required = default is None and argument.arg not in ours
    if argument.annotation is not None:
        annotation = ast.unparse(argument.annotation)
        if annotation == "int" and isinstance(value, float):
            annotation = "float"  # as for SCR's temperature
    else:
        number = isinstance(value, int) and not isinstance(value, bool)
        annotation = "Union[int, float]" if number else type(value).__name__
    if value_type(annotation) is None:
        return None
    if argument.arg in ours and default is None:
        doc = _with(doc, "Avalanche has no default for it; this is clbench's.")
    if required:
        doc = _with(doc, "Must be given: Avalanche has no default for it.")
    return Parameter(argument.arg, annotation, value, required, doc)


def _with(doc: str, sentence: str) -> str:
    return f"{doc.rstrip('.')}. {sentence}" if doc else sentence


def value_type(annotation: str) -> Any:
    """Return the type that an annotation of plain values stands for; None for a type of anything else."""
    try:
        return _type(ast.parse(annotation, mode="eval").body)
    except (LookupError, TypeError):
        return None


def _type(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return _TYPES[node.id]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return _TYPES[node.value.id][tuple(_type(each) for each in inner) if len(inner) > 1 else _type(inner[0])]
    raise TypeError(ast.unparse(node))


def _documented(docstring: str) -> dict[str, str]:
    """Return what a constructor's docstring says about each parameter."""
    found = re.findall(r"^:param (\w+)\s*:\s*(.*?)(?=^:|\Z)", inspect.cleandoc(docstring), re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()) for name, text in found}
