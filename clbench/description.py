"""A plug-in described in full, from its source text, without running it."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from clbench.errors import UsageError
from clbench.plugins import Kind, Plugin, describe, discover, select
from clbench.suggest import did_you_mean


def find(name: str) -> Plugin:
    """Return the strategy or scenario of this name or at this path. Raises UsageError where there is none."""
    kinds: tuple[Kind, ...] = ("strategy", "scenario")
    if name.endswith(".py") or "/" in name:
        is_scenario = describe("scenario", Path(name), "path").problem is None
        return select("scenario" if is_scenario else "strategy", name)
    known: list[str] = []
    for kind in kinds:
        for plugin in discover(kind):
            names = [plugin.name, *plugin.attributes.get("aliases", ())]
            known += names
            if name in names:
                return select(kind, name)
    raise UsageError(f"no strategy or scenario '{name}'{did_you_mean(name, known)}", "Known ones: clbench list")


def describe_in_full(plugin: Plugin) -> dict[str, Any]:
    """Return everything that is known of a plug-in, JSON-ready."""
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "path": str(plugin.path),
        "from": plugin.source,
        "sha256": plugin.sha256,
        "doc": plugin.doc,
        "hyper_parameters": [vars(field) for field in plugin.fields],
        "attributes": json.loads(json.dumps(plugin.attributes, default=repr)),
        "recipes": list(plugin.recipes),
    }


def print_in_full(plugin: Plugin) -> None:
    """Print a plug-in for a person: what it is, where it is from, and everything that can be set."""
    print(f"{plugin.kind} {plugin.name}   ({plugin.source}: {plugin.path})\n")
    print(plugin.doc or "It has no docstring.")
    if plugin.fields:
        print("\nHyper-parameters (--set NAME=VALUE):")
    for field in plugin.fields:
        print(f"\n  {plugin.name}.{field.name}: {field.type}, default {field.default}")
        for line in inspect.cleandoc(field.doc).splitlines():
            print(f"      {line}")
    if plugin.kind == "scenario":
        print(f"\ndataset {plugin.attributes.get('dataset', '?')}, split {plugin.attributes.get('split', '?')}")
        for name, value in plugin.recipes.items():
            print(f"\nrecipe {name}:\n  {value}")
