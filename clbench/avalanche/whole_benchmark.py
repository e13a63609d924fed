"""One of Avalanche's own benchmarks as a scenario: `avalanche:SplitOmniglot`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from clbench.avalanche import benchmark_catalogue
from clbench.avalanche.quiet_import import importing_avalanche
from clbench.base.recipe import Recipe
from clbench.base.scenario import Scenario

RECIPES: Mapping[str, Recipe] = {
    "quick": Recipe(network="cnn", optimizer="adam", lr=1e-3, batch_size=64, epochs=5),
    "standard": Recipe(network="resnet18", optimizer="sgd", lr=0.05, momentum=0.9, epochs=50),
}
"""The recipes of a scenario that `clbench new scenario` writes."""


def scenario_class(name: str) -> type[Scenario]:
    """Return the benchmark `name` as a scenario. Raises UsageError if there is none."""
    path = benchmark_catalogue.source_file(name)
    found = benchmark_catalogue.described(name, path.read_bytes())

    class OfAvalanche(Scenario):
        class_order = "natural" if name in benchmark_catalogue.GROUPED else "seed"
        recipes: ClassVar[Mapping[str, Recipe]] = RECIPES

        @staticmethod
        def benchmark(dataset_root: Path) -> Any:
            return _built(name, found.experiences, dataset_root)

    OfAvalanche.__name__ = OfAvalanche.__qualname__ = name
    return OfAvalanche


def _built(name: str, experiences: int | None, root: Path) -> Any:
    """Build the benchmark with its images as they are: not shuffled, not transformed."""
    with importing_avalanche():
        from avalanche.benchmarks import classic
    function = getattr(classic, name)
    wanted: dict[str, Any] = {"shuffle": False, "train_transform": None, "eval_transform": None}
    if experiences is not None:
        wanted["n_experiences"] = experiences
    accepted = inspect.signature(function).parameters
    roots = {parameter: root for parameter in accepted if parameter.startswith("dataset_root")}
    return function(**roots, **{key: value for key, value in wanted.items() if key in accepted})
