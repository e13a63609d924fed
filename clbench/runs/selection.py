"""Finds and loads the strategies and scenarios that a request names."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clbench.base.events import Listener, Note
from clbench.errors import UsageError
from clbench.plugins import discovery
from clbench.plugins.discovery import Kind, Plugin
from clbench.plugins.loading import load
from clbench.system.global_state import GlobalState

ALL = "all"


@dataclass(frozen=True)
class Chosen:
    """A strategy as the user named it."""

    plugin: Plugin
    preset: str | None = None

    @property
    def name(self) -> str:
        """`lwf`, or with a preset `lwf:pycil`."""
        return f"{self.plugin.name}:{self.preset}" if self.preset else self.plugin.name

    @property
    def owners(self) -> set[str]:
        """What may stand before the dot in `--set` for its hyper-parameters."""
        family = {"avalanche"} if discovery.is_avalanches(self.plugin.name) else set()
        return {self.name, self.plugin.name, *family}

    @property
    def typed(self) -> str:
        """What selects it again, wherever it comes from."""
        if discovery.is_avalanches(self.plugin.name):
            return self.plugin.name
        return f"{self.plugin.path}:{self.preset}" if self.preset else str(self.plugin.path)


def choose_strategies(wanted: Sequence[str], notify: Listener) -> list[Chosen]:
    """Return the strategies of these names, files and presets, or all. Raises UsageError and PluginError."""
    if list(wanted) == [ALL]:
        found = discovery.without_dialects(discovery.discover("strategy"))
        for plugin in found:
            if plugin.problem:
                notify(Note(f"strategy {plugin.name} ({plugin.path}) is broken and left out: {plugin.problem}"))
        return [Chosen(discovery.select("strategy", plugin.name)) for plugin in found if not plugin.problem]
    chosen = []
    for name in _distinct(wanted, "strategy"):
        if discovery.is_avalanches(name):
            chosen.append(Chosen(discovery.select("strategy", name)))
            continue
        file, colon, preset = name.rpartition(":")
        if not colon or "/" in preset or preset.endswith(".py"):
            file, preset = name, ""
        elif not preset:
            raise UsageError(f"strategy {name}: name the preset after the colon; see: clbench show {file}")
        chosen.append(Chosen(discovery.select("strategy", file, preset), preset or None))
    for one in chosen:
        if [other.name for other in chosen].count(one.name) > 1:
            raise UsageError(f"strategy {one.name} is named twice: {', '.join(wanted)}")
    return chosen


def _distinct(names: Sequence[str], kind: Kind) -> Sequence[str]:
    if not any(names):
        raise UsageError(f"no {kind} is named", f"Known ones: clbench list {discovery.FOLDERS[kind]}")
    if "" in names:
        raise UsageError(f"{','.join(names)}: a {kind} is missing next to a comma", "Name it, or leave the comma out.")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{kind} {name} is named twice")
    return names


def select_scenarios(names: Sequence[str]) -> list[Plugin]:
    """Return the scenarios of these names and files. Raises UsageError and PluginError."""
    chosen: dict[str, Plugin] = {}
    for name in _distinct(names, "scenario"):
        plugin = discovery.select("scenario", name)
        if plugin.name in chosen:
            raise UsageError(f"scenario {plugin.name} is named twice: {', '.join(names)}")
        chosen[plugin.name] = plugin
    return list(chosen.values())


def load_class(plugin: Plugin) -> Any:
    """Load a plug-in for planning: what it prints goes to standard error, and global state that it changes is
    restored."""
    state = GlobalState()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return load(plugin)
    finally:
        state.restore()
