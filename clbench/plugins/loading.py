"""Runs a plug-in's file and returns the class or function that it defines."""

from __future__ import annotations

import shlex
import sys
import traceback
from pathlib import Path
from typing import Any

from clbench.errors import PluginError
from clbench.plugins.discovery import BASES, Kind, Plugin, describe, is_avalanches
from clbench.plugins.module_loading import import_file, memory_is_short, require_room_for_torch
from clbench.system import memory
from clbench.system.signals import Interrupted


def load(plugin: Plugin) -> Any:
    """Run the plug-in's file and return its Strategy or Scenario subclass, or the function or class of a network.

    Raises PluginError if it fails to run, is not what was described or has changed since, and MachineError if memory is
    short.
    """
    require_room_for_torch()
    if is_avalanches(plugin.name):
        if plugin.kind == "scenario":
            from clbench.avalanche.whole_benchmark import scenario_class

            return scenario_class(plugin.class_name)
        from clbench.avalanche.whole_strategy import strategy_class

        return strategy_class(plugin.class_name)
    if describe(plugin.kind, plugin.path, plugin.source).sha256 != plugin.sha256:
        raise PluginError(f"{plugin.path} changed after the run was planned", "Start the command again.")
    try:
        module = import_file(plugin.path)
    except (Interrupted, KeyboardInterrupt):
        raise
    except BaseException as error:  # including SystemExit: a plug-in may not end the program
        if memory.is_short(error):
            raise memory_is_short(f"{plugin.path} and what it imports") from error
        where = _line_in(plugin.path, error)
        raise PluginError(
            f"{plugin.path}{where} fails to load: {type(error).__name__}: {error}", _remedy(plugin.path, error)
        ) from error
    if plugin.kind == "network":
        return vars(module)[plugin.class_name]
    from clbench.plugins.class_attributes import check_class

    base = _base_class(plugin.kind)
    found = {
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    }
    if len(found) != 1:
        del sys.modules[module.__name__]
        raise PluginError(f"{plugin.path} defines {len(found)} subclasses of clbench.{BASES[plugin.kind][0]}, not one")
    (made,) = found
    check_class(plugin, made)
    return made


def _base_class(kind: Kind) -> type[Any]:
    from clbench.base.scenario import Scenario
    from clbench.base.strategy import Strategy

    return Strategy if kind == "strategy" else Scenario


def _remedy(path: Path, error: BaseException) -> str | None:
    """Return what to do about a module that is missing, but lies next to the plug-in's file; None otherwise."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    folder, name = path.resolve().parent, error.name.partition(".")[0]
    if not any((folder / found).exists() for found in (f"{name}.py", name)):
        return None
    return (
        f"A plug-in is one file, and {name} next to it is not searched for. Put both into one file, install {name} as "
        f"a package, or add its folder to the path: PYTHONPATH={shlex.quote(str(folder))}"
    )


def _line_in(path: Path, error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path.resolve()]
    line = lines[-1] if lines else getattr(error, "lineno", None)
    return f", line {line}," if line else ""
