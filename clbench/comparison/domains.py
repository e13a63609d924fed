"""The results of a comparison for single domains, after the last experience.

Domains are identified by their names, so that runs whose seeds give different orders can be averaged.
"""

from __future__ import annotations

from clbench.comparison.rows import Comparison, Row
from clbench.comparison.statistics import Estimate, estimate


def domain_names(comparison: Comparison) -> tuple[str, ...]:
    """Return the domains in the order in which they came, or by name if the order is not the same in all runs.

    Empty if the runs have no domains, or if each seed has others, such as its own angles.
    """
    streams = {run.spec.scenario.domains or () for row in comparison.rows for run in row.runs}
    first = next(iter(streams))
    if len(streams) == 1:
        return first
    return tuple(sorted(first)) if len({frozenset(each) for each in streams}) == 1 else ()


def one_domain_order(comparison: Comparison) -> bool:
    """Whether the domains came in the same order in all runs."""
    return len({run.spec.scenario.domains for row in comparison.rows for run in row.runs}) == 1


def domain_accuracies(row: Row) -> dict[str, Estimate | None]:
    """Return the accuracy on each domain over the seeds; None if it was not evaluated."""
    of_seeds = [
        dict(zip(run.spec.scenario.domains or (), run.metric("accuracy_matrix")[-1], strict=True)) for run in row.runs
    ]
    return {name: estimate([values[name] for values in of_seeds]) for name in of_seeds[0]}
