"""The trackers that are available: clbench's own, and those that other packages provide through an entry point.

    [project.entry-points."clbench.trackers"]
    mine = "mypackage.tracking:Mine"        # a subclass of clbench.Tracker

No tracker is imported until it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version

from clbench.base.events import Track
from clbench.errors import MachineError, UsageError
from clbench.system.suggestions import did_you_mean
from clbench.trackers.tracker import Tracker

GROUP = "clbench.trackers"

EVENTS = "events"
"""Instead of a tracker: the run stores its events in a file."""

_BUILTIN = {
    "tensorboard": ("clbench.trackers.tensorboard:TensorBoard", ["tensorboard"]),
    "wandb": ("clbench.trackers.wandb:WeightsAndBiases", ["wandb"]),
    "mlflow": ("clbench.trackers.mlflow:MLflow", ["mlflow-skinny", "sqlalchemy", "alembic"]),
}
"""Class and distributions by name."""


def names() -> list[str]:
    """Return the names that `--track` accepts."""
    return [EVENTS, *_BUILTIN, *sorted({each.name for each in entry_points(group=GROUP)} - {EVENTS, *_BUILTIN})]


def tracked(wanted: Sequence[str]) -> Track | None:
    """Return what runs have to do for these trackers. Raises UsageError for an unknown one, MachineError for one
    that is not installed."""
    for name in wanted:
        if name not in (known := names()):
            raise UsageError(f"no tracker '{name}'{did_you_mean(name, known)}", f"Known: {', '.join(known)}")
        if name in _BUILTIN:
            _require(name, _BUILTIN[name][1])
        elif name != EVENTS:
            _the_one(name)
    if EVENTS in wanted:
        return "kept"
    return "sent" if wanted else None


def _require(name: str, distributions: Iterable[str]) -> None:
    for distribution in distributions:
        try:  # to `find_spec`, a folder `wandb`, which wandb makes, looks like a package
            version(distribution)
        except PackageNotFoundError:
            raise MachineError(f"{distribution} is not installed", f"pip install 'clbench[{name}]'") from None


def _the_one(name: str) -> EntryPoint:
    found = {each.value: each for each in entry_points(group=GROUP, name=name)}
    if len(found) != 1:
        raise UsageError(f"several packages have a tracker '{name}': {', '.join(sorted(found))}", "Uninstall one.")
    return next(iter(found.values()))


def load(name: str) -> type[Tracker]:
    """Import a tracker's class. Raises whatever its module raises."""
    if name in _BUILTIN:
        module, _, attribute = _BUILTIN[name][0].partition(":")
        found = getattr(import_module(module), attribute)
    else:
        found = _the_one(name).load()
    if not (isinstance(found, type) and issubclass(found, Tracker)):
        raise TypeError(f"{found!r} is not a subclass of clbench.Tracker")
    return found
