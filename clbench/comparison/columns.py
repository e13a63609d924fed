"""The numeric columns of a comparison: their headings, and the value of a run in each."""

from __future__ import annotations

from clbench.results.stored_runs import StoredRun

COLUMNS = {
    "final_accuracy": "final accuracy",
    "final_accuracy_macro": "macro accuracy",
    "average_incremental_accuracy": "average incremental",
    "old_accuracy": "old classes",
    "new_accuracy": "new classes",
    "forgetting": "forgetting",
    "task_incremental_accuracy": "task-incremental (masked)",
    "seconds": "seconds",
    "samples_seen": "samples seen",
    "tuning_samples": "samples seen in tuning",
    "exemplars": "exemplars",
    "stored_bytes": "stored bytes",
}
SHARES = tuple(COLUMNS)[:7]
"""Columns that are shares between 0 and 1 (forgetting: -1 to 1)."""


def summary(run: StoredRun) -> dict[str, float | None]:
    """Return a run's value in each column; old and new classes after the last experience."""
    totals = run.result.totals
    return {
        "final_accuracy": run.metric("final_accuracy"),
        "final_accuracy_macro": run.metric("final_accuracy_macro"),
        "average_incremental_accuracy": run.metric("average_incremental_accuracy"),
        "old_accuracy": run.metric("old_accuracy")[-1],
        "new_accuracy": run.metric("new_accuracy")[-1],
        "forgetting": run.metric("forgetting"),
        "task_incremental_accuracy": (
            run.metric("final_accuracy", "task_incremental") if run.setting == "class_incremental" else None
        ),
        "seconds": run.costs.totals.seconds,
        "samples_seen": totals.samples_seen,
        "tuning_samples": totals.tuning_samples_seen,
        "exemplars": totals.exemplars or None,
        "stored_bytes": totals.stored_bytes,
    }
