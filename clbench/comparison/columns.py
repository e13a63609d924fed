"""The numeric columns of a comparison: their headings, and the value of a run in each."""

from __future__ import annotations

from clbench.comparison.statistics import Estimate
from clbench.results.run_facts import FINAL_WITHIN
from clbench.results.stored_run import StoredRun

COLUMNS = {
    "final_accuracy": "final accuracy",
    "final_accuracy_macro": "macro accuracy",
    "average_incremental_accuracy": "average incremental",
    "old_accuracy": "old classes",
    "new_accuracy": "new classes",
    "forgetting": "forgetting",
    "anytime_accuracy": "anytime",
    "minimum_accuracy": "minimum",
    "worst_case_accuracy": "worst case",
    "stability_gap": "stability gap",
    "forward_transfer": "forward transfer",
    "task_incremental_accuracy": "task-incremental (masked)",
    "seconds": "seconds",
    "samples_seen": "samples seen",
    "tuning_samples": "samples seen in tuning",
    "exemplars": "exemplars",
    "stored_bytes": "stored bytes",
}
_AMOUNTS = ("seconds", "samples_seen", "tuning_samples", "exemplars", "stored_bytes")
SHARES = tuple(column for column in COLUMNS if column not in _AMOUNTS)
"""Columns that are shares between 0 and 1 (forgetting, stability gap and forward transfer: -1 to 1)."""

MEANINGS = {
    "strategy": "the method with its preset; below it the paper that its file names, or otherwise the variant",
    "final_accuracy": "after the last experience, over all test samples of all classes",
    "final_accuracy_macro": "the same as a mean over classes, each with equal weight",
    "average_incremental_accuracy": "mean over the experiences of the accuracy on the classes seen so far",
    "old_accuracy": "after the last experience, on the classes of all earlier experiences",
    "new_accuracy": "after the last experience, on the classes that it introduced",
    "forgetting": "best accuracy ever on an earlier experience minus that at the end: mean over these, in points",
    "anytime_accuracy": "mean over all evaluations, also within experiences, of accuracy on the classes seen so far",
    "minimum_accuracy": "the lowest accuracy ever on each earlier experience, also within later ones: mean over these",
    "worst_case_accuracy": "mean of that and accuracy on the last experience, weighted by the number of experiences",
    "stability_gap": "how far the accuracy on old classes falls within an experience below its value before: mean "
    "over the experiences, in points",
    "forward_transfer": "accuracy on each domain just before its experience minus that with the initial weights: mean "
    "over all domains but the first, in points",
    "task_incremental_accuracy": "final accuracy of the same runs if the experience of each sample is given and the "
    "classes of all others are masked",
    "seconds": "time of a run, with evaluation",
    "samples_seen": "training samples passed through the network, counting repetitions",
    "tuning_samples": "the same in the runs that chose the hyper-parameters",
    "exemplars": "training samples stored from earlier experiences",
    "stored_bytes": "what the strategy carries from one experience to the next: exemplars, weights, statistics",
    "to_lower": "final accuracy minus that of the lower reference, paired by seed, in points",
    "intransigence": "accuracy of the upper reference on each experience just after it, minus that of the strategy "
    "with the same seed: mean over the experiences, in points",
    "p_holm": "exact sign-flip test of that difference, corrected for the number of rows (Holm)",
    "tuned": "how the hyper-parameters were chosen",
    "audit": "whether the strategy read what it must not: other experiences, test data, task labels",
    "n": "number of seeds",
}
"""The meaning of each column of the table, and of those next to them; accuracies are in percent."""


def lowest(column: str) -> float:
    """Return the lowest value that a share can have."""
    return -1.0 if column in ("forgetting", "stability_gap", "forward_transfer", "intransigence") else 0.0


def uninformative(value: Estimate, low: float = 0.0) -> bool:
    """Whether the interval covers all values that a share can have, from `low` to 1."""
    return value.half_width is not None and value.mean - value.half_width <= low and value.mean + value.half_width >= 1


def percent(value: Estimate | None, low: float = 0.0, form: str = ".1f") -> str:
    """Return a share in percent with its interval, cut off at the limits of a share.

    `54.6 ±14.0`; `94.0 (≥76.8)` if the interval exceeds 100; `46.8 ±?` if it is uninformative; `54.6` without one.
    """
    if value is None:
        return "–"
    mean = f"{100 * value.mean:{form}}"
    if value.half_width is None:
        return mean
    if uninformative(value, low):
        return f"{mean} ±?"
    below, above = value.mean - value.half_width, value.mean + value.half_width
    if (low <= below and above <= 1) or value.half_width < 0.0005:
        return f"{mean} ±{100 * value.half_width:.1f}"
    return f"{mean} (≤{100 * above:{form}})" if below < low else f"{mean} (≥{100 * below:{form}})"


def summary(run: StoredRun) -> dict[str, float | None]:
    """Return a run's value in each column; old and new classes after the last experience."""
    totals = run.facts.totals
    return {
        "final_accuracy": run.final("final_accuracy"),
        "final_accuracy_macro": run.final("final_accuracy_macro"),
        "average_incremental_accuracy": run.final("average_incremental_accuracy"),
        "old_accuracy": run.final("old_accuracy"),
        "new_accuracy": run.final("new_accuracy"),
        "forgetting": run.final("forgetting"),
        **{name: run.final(name) for name in FINAL_WITHIN},
        "forward_transfer": run.facts.forward_transfer,
        "task_incremental_accuracy": (
            run.final("final_accuracy", "task_incremental") if len(run.spec.scenario.readings) > 1 else None
        ),
        "seconds": run.facts.seconds,
        "samples_seen": totals.samples_seen,
        "tuning_samples": totals.tuning_samples_seen,
        "exemplars": totals.exemplars or None,
        "stored_bytes": totals.stored_bytes,
    }
