"""The results of a comparison for single classes, after the last experience.

Classes are identified by the dataset's ids, so that runs whose seeds give different class orders can be averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from clbench.comparison.rows import Comparison, Row
from clbench.comparison.statistics import Estimate, estimate
from clbench.results.run_spec import experience_classes
from clbench.results.stored_run import StoredRun
from clbench.system.output import legible

if TYPE_CHECKING:
    from numpy.typing import NDArray


def one_order(comparison: Comparison) -> bool:
    """Whether the classes came in the same order in all runs."""
    return len({run.spec.scenario.class_order for row in comparison.rows for run in row.runs}) == 1


def class_ids(comparison: Comparison) -> list[int]:
    """Return the classes in the order in which they came, or by their ids if the order is not the same in all runs."""
    learned = [each for classes in experience_classes(comparison.spec) for each in classes]
    if one_order(comparison):
        return learned
    return sorted({each for row in comparison.rows for run in row.runs for each in _learned(run)})


def learned_in(comparison: Comparison) -> dict[int, int]:
    """Return the experience, from 0, that introduced each class; empty if that is not the same in all runs."""
    if not one_order(comparison):
        return {}
    return {each: i for i, classes in enumerate(experience_classes(comparison.spec)) for each in classes}


def class_name(comparison: Comparison, class_id: int) -> str:
    """Return the name of a class, fit for printing; for a domain that each seed draws, only with its number."""
    scenario = comparison.spec.scenario
    name = scenario.class_name(class_id)
    if scenario.domains and any(
        run.spec.scenario.class_name(class_id) != name for row in comparison.rows for run in row.runs
    ):
        domain = class_id // scenario.classes_per_experience[0]
        name = f"domain {domain + 1}/{name.partition('/')[2]}"
    return legible(name)


def class_accuracies(row: Row) -> dict[int, Estimate | None]:
    """Return the accuracy on each class over the seeds; None if it was not evaluated or has no test samples.

    A class that the stream of some seed does not have is missing.
    """
    of_seeds = [_final_by_class(run) for run in row.runs]
    return {each: estimate([values[each] for values in of_seeds]) for each in set.intersection(*map(set, of_seeds))}


@dataclass(frozen=True)
class Frequency:
    """A class by its rank among those of its stream, from most to fewest training images."""

    class_id: int | None
    """None if the class with this rank differs between seeds."""

    images: float
    """Training images, the mean over the seeds."""

    accuracy: Estimate | None
    """After the last experience."""


def by_frequency(row: Row) -> list[Frequency]:
    """Return the classes of a row whose runs record their training images, from the most frequent to the rarest.

    Of equally frequent classes, the one that was learned earlier comes first.
    """
    ranked = []
    for run in row.runs:
        images, final = run.facts.training_images, _final_by_class(run)
        assert images is not None
        of_classes = zip(images, final.items(), strict=True)
        ranked.append(sorted(((count, *each) for count, each in of_classes), key=lambda each: -each[0]))
    found = []
    for at_rank in zip(*ranked, strict=True):
        images, ids, accuracies = zip(*at_rank, strict=True)
        found.append(Frequency(ids[0] if len(set(ids)) == 1 else None, fmean(images), estimate(accuracies)))
    if any(each.class_id is None for each in found):
        return [replace(each, class_id=None) for each in found]
    return found


def class_confusion(comparison: Comparison, row: Row) -> NDArray[Any]:
    """Return how many test samples of each class (rows) were predicted as each (columns), summed over the seeds.

    In the order of `class_ids`. Every run must have been evaluated after the last experience.
    """
    places = {each: place for place, each in enumerate(class_ids(comparison))}
    return _confusion(row, len(places), lambda _: places)


def experience_confusion(row: Row) -> NDArray[Any]:
    """Return the same by the experiences that introduced the classes; they are other classes if the orders differ."""

    def places(run: StoredRun) -> Mapping[int, int]:
        return {each: i for i, classes in enumerate(experience_classes(run.spec)) for each in classes}

    return _confusion(row, len(row.runs[0].spec.scenario.classes_per_experience), places)


def _confusion(row: Row, size: int, places: Callable[[StoredRun], Mapping[int, int]]) -> NDArray[Any]:
    import numpy as np

    counts = np.zeros((size, size), dtype=np.int64)
    for run in row.runs:
        labels, predictions = run.final_predictions()
        ids, place_of = map(np.array, zip(*sorted(places(run).items()), strict=True))
        true, said = (place_of[np.searchsorted(ids, each)] for each in (labels, predictions))
        np.add.at(counts, (true, said), 1)
    return counts


def _learned(run: StoredRun) -> list[int]:
    return [each for classes in experience_classes(run.spec) for each in classes]


def _final_by_class(run: StoredRun) -> dict[int, float | None]:
    learned = _learned(run)
    final = run.metric("per_class_accuracy")[-1] or [None] * len(learned)
    return dict(zip(learned, final, strict=True))
