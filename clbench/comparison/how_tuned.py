"""Labels how the hyper-parameters of a run were chosen."""

from __future__ import annotations

from clbench.results.run_spec import GridTuning
from clbench.results.stored_run import StoredRun


def how_tuned(run: StoredRun) -> str:
    """Return `default`, `preset`, `by hand`, `chf` or `grid (n trials)`."""
    tuning = run.spec.tuning
    if tuning is None:
        return run.facts.strategy.chosen
    return f"grid ({tuning.trials} trials)" if isinstance(tuning, GridTuning) else tuning.how
