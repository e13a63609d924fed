"""Scenarios whose images, classes and split come from an Avalanche benchmark, which is imported once."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from clbench.base.scenario import Scenario
from clbench.data.cache import Report
from clbench.data.dataset_info import DatasetInfo
from clbench.data.datasets import describe
from clbench.errors import ClbenchError, DataError
from clbench.plugins.discovery import Plugin, is_avalanches
from clbench.plugins.module_loading import memory_is_short
from clbench.system import memory
from clbench.system.global_state import GlobalState
from clbench.system.signals import Interrupted


def with_dataset(
    plugin: Plugin, scenario: type[Scenario], folder: Path, report: Report, build: bool = True
) -> type[Scenario] | None:
    """Return the scenario with the dataset and the split of its benchmark; itself if it has none.

    A benchmark that was never built is built now; without `build` it is not, and None is returned. Raises DataError if
    the benchmark cannot be built or clbench cannot run it, and what importing raises.
    """
    if scenario.benchmark is None:
        return scenario
    name = _dataset_name(plugin)
    info = describe(name, folder)
    if info is None:
        if not build:
            report(f"the benchmark {plugin.name} is built when it is first run; until then its runs cannot be listed")
            return None
        info = _imported(plugin, scenario, name, folder, report)
    own = vars(scenario)
    attributes = {
        "dataset": name,
        "split": own.get("split", info.split),
        "class_order": own.get("class_order", "natural"),
    }
    return type(scenario.__name__, (scenario,), attributes)


def _dataset_name(plugin: Plugin) -> str:
    """Return a name for the dataset that changes with the file: `avalanche-splitmnist-1a2b3c4d`."""
    stem = re.sub(r"[^a-z0-9_-]", "-", plugin.name.lower())[:55]
    return f"{stem}-{plugin.sha256[:8]}"


def _imported(plugin: Plugin, scenario: type[Scenario], name: str, folder: Path, report: Report) -> DatasetInfo:
    # These import torch and Avalanche, for which a scenario without a benchmark need not wait.
    from clbench.avalanche.benchmark_images import read
    from clbench.data.sample_import import Samples, import_samples
    from clbench.streams.splits import split_text

    report(f"building the benchmark {plugin.name}, once")
    benchmark = cast(Callable[..., Any], scenario.benchmark)
    wanted = inspect.signature(benchmark).parameters
    state = GlobalState()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            built = benchmark(dataset_root=folder) if "dataset_root" in wanted else benchmark()
        found = read(built, scenario.setting == "domain")
        parts = {
            part: Samples(samples.labels, samples.images)
            for part, samples in (("train", found.train), ("test", found.test))
        }
        split = split_text(found.classes_per_experience)
        source = f"benchmark {plugin.name}"
        return import_samples(name, parts, found.classes, split, source, folder, report, found.domains)
    except (ClbenchError, Interrupted, KeyboardInterrupt):
        raise
    except BaseException as error:  # also SystemExit: a plug-in may not end the program
        if memory.is_short(error):
            raise memory_is_short(f"benchmark {plugin.name}") from error
        hint = f"Avalanche looks for its files in {folder}." if is_avalanches(plugin.name) else f"See {plugin.path}."
        text = " ".join(str(error).split())
        raise DataError(f"benchmark {plugin.name}: {type(error).__name__}: {text}", hint) from error
    finally:
        state.restore()
