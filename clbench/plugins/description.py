"""Describes a plug-in in full, from its source text, without running it."""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clbench.avalanche.catalogue import PREFIX
from clbench.errors import UsageError
from clbench.networks.libraries import is_librarys, package, traits
from clbench.plugins.discovery import FOLDERS, Kind, Plugin, describe, discover, is_avalanches, select
from clbench.plugins.syntax import Field
from clbench.system.output import say, say_prose
from clbench.system.suggestions import did_you_mean


def find(name: str) -> Plugin:
    """Return the strategy, scenario or network of this name or at this path. Raises UsageError if there is none."""
    kinds: tuple[Kind, ...] = ("strategy", "scenario", "network")
    if is_avalanches(name):
        return select("scenario" if name.removeprefix(PREFIX).startswith("Split") else "strategy", name)
    if is_librarys(name):
        return _librarys(name)
    name, _, preset = name.partition(":") if not name.endswith(".py") else (name, "", "")
    if preset:
        return _preset(select("strategy", name, preset), preset)
    if name.endswith(".py") or "/" in name:
        # A network's file may define any class, so a file counts as a network only if it is nothing else.
        possible = (kind for kind in kinds if describe(kind, Path(name), "path").problem is None)
        meant = (kind for kind in kinds if Path(name).resolve().parent.name == FOLDERS[kind])
        return select(next(itertools.chain(possible, meant), "strategy"), name)
    known: list[str] = []
    for kind in kinds:
        for plugin in discover(kind):
            names = [plugin.name, *plugin.attributes.get("aliases", ())]
            known += names
            if name in names:
                return select(kind, name)
    raise UsageError(
        f"no strategy, scenario or network '{name}'{did_you_mean(name, known)}", "Known ones: clbench list"
    )


def _librarys(name: str) -> Plugin:
    """Return a description of a network of a library."""
    library = package(name)
    own = traits(name, "none")
    size = f"images of {own.size}×{own.size} px" if own.size else "images of any size"
    pretrained = "--weights pretrained fetches its weights" if own.pretrained else "it has no pretrained weights"
    doc = f"A network of {library.partition(' ')[0]}, for {size}; {pretrained}."
    return Plugin("network", name, Path(), library, "", doc=doc)


def _preset(plugin: Plugin, preset: str) -> Plugin:
    """Return the strategy with the preset's values as defaults, and without its other presets."""
    presets = plugin.presets
    if preset not in presets:
        known = f"known: {', '.join(presets)}" if presets else "it has none"
        raise UsageError(f"strategy {plugin.name} has no preset '{preset}'{did_you_mean(preset, presets)} ({known})")
    values = presets[preset].get("set", {})
    fields = tuple(
        replace(field, default=repr(values.get(field.name, field.default))) if field.name in values else field
        for field in plugin.fields
    )
    return replace(plugin, fields=fields, attributes={**plugin.attributes, "presets": {preset: presets[preset]}})


def describe_in_full(plugin: Plugin) -> dict[str, Any]:
    """Return everything that is known about a plug-in, JSON-ready."""
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
        **({"dialects": [describe_in_full(dialect) for dialect in plugin.dialects]} if plugin.dialects else {}),
    }


def print_in_full(plugin: Plugin) -> None:
    """Print a plug-in for people to read: what it is, where it is from, and everything that can be set."""
    where = plugin.source if plugin.path == Path() else f"{plugin.source}: {plugin.path}"
    say(f"{plugin.kind} {plugin.name}   ({where})\n")
    say_prose(plugin.doc or "It has no docstring.")
    _print_presets(plugin, plugin.presets)
    if plugin.fields:
        say(f"\nHyper-parameters (--set {'network.' if plugin.kind == 'network' else ''}NAME=VALUE):")
        _print_fields(plugin.kind if plugin.kind == "network" else plugin.name, plugin.fields)
    for recipe, values in plugin.attributes.get("in_recipe", {}).items():
        say(f"\nUnder recipe {recipe}: {', '.join(f'{name}={value}' for name, value in values.items())}")
    for dialect in plugin.dialects:
        say()
        say_prose(dialect.summary)
        say(f"({dialect.source}: {dialect.path})")
        _print_presets(plugin, dialect.presets)
        say(
            "\nHyper-parameters that only these presets have, or that have other defaults in them "
            f"(--set {plugin.name}:PRESET.NAME=VALUE):"
        )
        own = {field.name: field.default for field in plugin.fields}
        _print_fields(plugin.name, [field for field in dialect.fields if own.get(field.name) != field.default])
    if plugin.kind == "scenario":
        say(f"\ndataset {plugin.attributes.get('dataset', 'of its benchmark')}, {_stream(plugin)}")
        for name, value in plugin.recipes.items():
            say(f"\nrecipe {name}:")
            say_prose(value, "  ", "  ")


def _stream(plugin: Plugin) -> str:
    """Return how a scenario's experiences are made: `split 5`, or `stream permuted, setting domain`."""
    stream, setting = plugin.attributes.get("stream", "class"), plugin.attributes.get("setting", "class")
    if stream == "class":
        made = f"split {plugin.attributes.get('split', 'of the dataset')}"
    else:
        given = ", ".join(f"{name}={value}" for name, value in plugin.attributes.get("stream_options", {}).items())
        made = f"stream {stream}{f' ({given})' if given else ''}"
    return made if setting == "class" else f"{made}, setting {setting}"


def _print_presets(plugin: Plugin, presets: Mapping[str, Mapping[str, Any]]) -> None:
    for name, preset in presets.items():
        say(f"\npreset {plugin.name}:{name}")
        say_prose(f"L = {preset.get('loss', 'not stated')}", "  ", "  ")
        say_prose(str(preset.get("source", "")), "  ", "  ")
        for setting, values in {"": preset.get("set", {}), **preset.get("in_setting", {})}.items():
            where = f" ({setting.replace('_', '-')})" if setting else ""
            if values:
                sets = ", ".join(f"{key}={value}" for key, value in values.items())
                say_prose(f"sets {sets}{where}", "  ", "  ")


def _print_fields(owner: str, fields: Sequence[Field]) -> None:
    for field in fields:
        say()
        say_prose(f"{owner}.{field.name}: {field.type}, default {field.default}", "  ", "    ")
        say_prose(inspect.cleandoc(field.doc), "      ")
