"""The figure of old-class and new-class accuracy after every experience, in which forgetting is seen."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence

from clbench.results import StoredRun


def old_and_new(runs: Sequence[StoredRun]) -> bytes:
    """Return a PNG: old classes left, new classes right, a thin line per run and a thick one for a strategy's mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    by_strategy: dict[str, list[StoredRun]] = defaultdict(list)
    for run in runs:
        by_strategy[f"{run.spec['strategy']['name']} ({run.spec['scenario']['name']})"].append(run)
    panels = (("old_accuracy", "classes of earlier experiences"), ("new_accuracy", "classes just learned"))
    for axis, (metric, title) in zip(axes, panels, strict=True):
        for number, (label, group) in enumerate(sorted(by_strategy.items())):
            curves = [[float("nan") if v is None else 100 * v for v in run.metric(metric)] for run in group]
            color = f"C{number % 10}"
            for curve in curves:
                axis.plot(curve, color=color, linewidth=0.6, alpha=0.5)
            longest = max(map(len, curves))
            whole = [curve for curve in curves if len(curve) == longest]
            mean = [sum(column) / len(whole) for column in zip(*whole, strict=True)]
            axis.plot(mean, color=color, linewidth=2, marker="o", markersize=4, label=label)
        axis.set(title=title, xlabel="after experience", ylim=(-3, 103))
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("accuracy, %")
    axes[1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
