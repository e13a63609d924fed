"""Imports the images that a scenario names when it is first run."""

from __future__ import annotations

from pathlib import Path

from clbench.base.events import Listener, Note
from clbench.base.scenario import Scenario
from clbench.data.datasets import BUILTIN, describe
from clbench.data.importing import import_dataset
from clbench.data.unpacking import TORCHVISION
from clbench.errors import DataError


def with_images(scenario: type[Scenario], folder: Path, notify: Listener, build: bool = True) -> type[Scenario] | None:
    """Return the scenario, with its dataset imported, and with the dataset's own split if it has none.

    Without `build` nothing is imported, and None is returned if it would have to be. Raises DataError if there is
    nothing to import, and what importing raises.
    """
    if scenario.dataset in BUILTIN:
        return scenario
    info = describe(scenario.dataset, folder)
    if info is None:
        source = _source(scenario, folder)
        if not build:
            notify(Note(f"{scenario.dataset} is imported when it is first run; until then its runs cannot be listed"))
            return None
        info = import_dataset(
            scenario.dataset, source, folder, lambda text: notify(Note(text)), scenario.image_size, notify=notify
        )
    if info.split and not hasattr(scenario, "split"):
        return type(scenario.__name__, (scenario,), {"split": info.split})
    return scenario


def _source(scenario: type[Scenario], folder: Path) -> Path:
    """Return what to import. Raises DataError if it does not exist."""
    if scenario.images.startswith(TORCHVISION):
        return Path(scenario.images)
    source = folder / (scenario.images or f"images/{scenario.dataset}")
    if not source.exists():
        size = f" --size {scenario.image_size}" if scenario.image_size else ""
        raise DataError(
            f"there is no dataset '{scenario.dataset}' in {folder}, and no images in {source}.",
            f"Put them there, or import them: clbench data import {scenario.dataset} FOLDER{size}",
        )
    return source
