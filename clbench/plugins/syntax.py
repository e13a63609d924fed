"""Reads hyper-parameters, plain attributes, recipes or the network from the syntax tree of a plug-in's file."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Field:
    """A hyper-parameter as its source text describes it."""

    name: str
    type: str
    default: str
    doc: str


def base_name(node: ast.expr) -> str:
    """Return `Strategy` for `Strategy`, `clbench.Strategy` and `clbench.Strategy[Config]`."""
    if isinstance(node, ast.Subscript):
        node = node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def hyper_parameters(config: ast.ClassDef) -> Iterator[Field]:
    """Yield the fields of a config class with the strings below them."""
    for position, node in enumerate(config.body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if base_name(node.annotation) == "ClassVar":
            continue
        after = config.body[position + 1] if position + 1 < len(config.body) else None
        documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        doc = inspect.cleandoc(str(after.value.value)) if documented else ""  # type: ignore[union-attr]
        default = ast.unparse(node.value) if node.value else ""
        yield Field(node.target.id, _type_text(node.annotation), default, doc)


_RELATIONS = {"Ge": "≥", "Gt": ">", "Le": "≤", "Lt": "<"}


def _type_text(node: ast.expr) -> str:
    """Return a type as people read it: `Annotated[float, Ge(0)]` as `float ≥ 0`, a Literal as its values."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return f"{_type_text(node.left)} | {_type_text(node.right)}"
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and base_name(node) == "Annotated":
        kind, *conditions = node.slice.elts
        bounds = [
            f"{_RELATIONS[base_name(call.func)]} {ast.unparse(call.args[0])}"
            for call in conditions
            if isinstance(call, ast.Call) and base_name(call.func) in _RELATIONS and call.args
        ]
        return " and ".join([f"{_type_text(kind)} {bounds[0]}", *bounds[1:]]) if bounds else _type_text(kind)
    if isinstance(node, ast.Subscript) and base_name(node) == "Literal":
        values = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return " | ".join(ast.unparse(value) for value in values)
    return ast.unparse(node)


def _assignments(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for item in node.body:
        if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
            yield item.targets[0].id, item.value
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value:
            yield item.target.id, item.value


def literals(node: ast.ClassDef) -> dict[str, Any]:
    """Return the attributes of a class whose values are plain literals."""
    found = {}
    for name, value in _assignments(node):
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue  # computed when the file runs; there is nothing to show before that
    return found


def recipes(node: ast.ClassDef) -> dict[str, str]:
    """Return the recipes of a scenario class as source text by name."""
    for name, value in _assignments(node):
        if name == "recipes" and isinstance(value, ast.Dict):
            named = [(key.value, recipe) for key, recipe in _entries(value) if isinstance(key, ast.Constant)]
            return {recipe_name: ast.unparse(recipe) for recipe_name, recipe in named if isinstance(recipe_name, str)}
    return {}


def _entries(node: ast.Dict) -> Iterator[tuple[ast.expr | None, ast.expr]]:
    return zip(node.keys, node.values, strict=True)


def network_in(tree: ast.Module, stem: str) -> str:
    """Return the name of the function or class that a network's file defines.

    It is the one with the decorator `clbench.network`, otherwise the one named after the file, otherwise the only
    subclass of nn.Module. Raises ValueError, with an explanation, if there is none or more than one.
    """
    made = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    called = [node.name for node in made if _letters(node.name) == _letters(stem)]
    modules = [
        node.name
        for node in made
        if isinstance(node, ast.ClassDef) and any(base_name(own) == "Module" for own in node.bases)
    ]
    marked = [
        node.name
        for node in made
        if any(base_name(own.func) == "network" for own in node.decorator_list if isinstance(own, ast.Call))
    ]
    found = next((names for names in (marked, called, modules) if names), [])
    if len(found) != 1:
        what = f"which of {', '.join(found)} is the network" if found else "no function or class that is a network"
        raise ValueError(
            f"it is not clear {what}: name it after the file, or decorate it with @clbench.network()"
            if found
            else f"defines {what}: name one after the file, or decorate it with @clbench.network()"
        )
    return found[0]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
