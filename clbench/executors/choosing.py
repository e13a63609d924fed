"""Chooses the executor for `--on NAME[:OPTIONS]`: local, ray, slurm, or a third party's by its entry point."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from clbench.errors import ClbenchError, MachineError, PluginError, UsageError
from clbench.executors.executor import Command, Executor
from clbench.runs.request import Request
from clbench.system.suggestions import did_you_mean

GROUP = "clbench.executors"
"""The entry points of third parties: a class or function that takes a Command and returns an Executor."""


def require_executor(request: Request) -> None:
    """Raise UsageError if there is no such executor, or if it does not take the options that are given."""
    name, _, options = request.on.partition(":")
    if name not in _OWN and name not in (theirs := _of_third_parties()):
        known = [*_OWN, *theirs]
        raise UsageError(f"there is no executor '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})")
    if name != "ray" and request.gpus_per_run is not None:
        raise UsageError("--gpus-per-run is for --on ray")
    if name == "local" and options:
        raise UsageError(f"--on local takes no options (got '{options}')")
    if name == "local" and request.allow_mixed:
        raise UsageError("--allow-mixed is for --on ray and --on slurm")


def open_executor(command: Command) -> Executor:
    """Return the executor that the command's request names.

    Raises UsageError for an unknown name or option, MachineError if what it needs is not installed, and PluginError
    for a third party's that fails.
    """
    require_executor(command.request)
    name, _, options = command.request.on.partition(":")
    command = dataclasses.replace(command, options=options)
    if name in _OWN:
        return _OWN[name](command)
    points = _of_third_parties()
    try:
        return points[name].load()(command)  # type: ignore[no-any-return]
    except ClbenchError:
        raise
    except Exception as error:
        raise PluginError(f"executor {name} ({points[name].value}): {type(error).__name__}: {error}") from error


def _of_third_parties() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _local(command: Command) -> Executor:
    from clbench.executors.local import Local

    return Local(command)


def _ray(command: Command) -> Executor:
    try:
        from clbench.executors.on_ray import RayExecutor
    except ImportError as error:
        raise MachineError("--on ray needs the package ray", "Install it: pip install 'clbench[ray]'") from error
    return RayExecutor(command)


def _slurm(command: Command) -> Executor:
    try:
        from clbench.executors.on_slurm import SlurmExecutor
    except ImportError as error:
        raise MachineError(
            "--on slurm needs the package submitit", "Install it: pip install 'clbench[slurm]'"
        ) from error
    return SlurmExecutor(command)


_OWN: dict[str, Callable[[Command], Executor]] = {"local": _local, "ray": _ray, "slurm": _slurm}
