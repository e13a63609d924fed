"""The counts of stored runs as a tidy pandas frame."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from clbench.results.stored_run import StoredRun
from clbench.streams.splits import describe_split

if TYPE_CHECKING:
    import pandas as pd


def frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """Return the counts as a tidy frame, a row per run, setting, `after` (experience trained) and `on` (tested).

    Columns: run (its id), scenario, split, class_order (seed, natural or list), trained (the setting), strategy,
    preset, config (JSON), recipe, seed, setting (in which it is read), after, on, correct, total, accuracy.
    There are no rows after experiences that were not evaluated, and none on experiences without a new class.
    """
    import pandas as pd

    rows = []
    for run in runs:
        spec = run.spec
        fixed = (
            run.run_id,
            spec.scenario.name,
            describe_split(spec.scenario.classes_per_experience),
            spec.scenario.class_order_from,
            run.setting,
            spec.strategy.name,
            spec.strategy.preset,
            json.dumps(spec.strategy.config, sort_keys=True),
            spec.recipe.name,
            spec.seeds.run,
        )
        for setting in run.spec.scenario.readings:
            counts = run.counts(setting)
            for after, row in enumerate(counts.correct):
                for on, (correct, total) in enumerate(zip(row or (), counts.total, strict=False)):
                    if total:
                        rows.append((*fixed, setting, after, on, correct, total))
    names = ["run", "scenario", "split", "class_order", "trained", "strategy", "preset", "config", "recipe", "seed"]
    table = pd.DataFrame(rows, columns=[*names, "setting", "after", "on", "correct", "total"])
    table["accuracy"] = table["correct"] / table["total"]
    return table
