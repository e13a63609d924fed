"""Published and measured cells side by side: for people, and as CSV."""

from __future__ import annotations

from collections.abc import Sequence

from clbench.reproduction.targets import Cell
from clbench.system import output

HEADINGS = (
    "method",
    "setting",
    "published",
    "measured",
    "n",
    "difference",
    "in standard errors",
    "agrees",
    "if not, why",
)


def rows(cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    """Return the cells as text under `HEADINGS`; numbers in percent, ± standard deviations unless stated otherwise."""
    return [_row(cell) for cell in cells]


def _row(cell: Cell) -> tuple[str, ...]:
    target, mean, z = cell.target, cell.mean, cell.z
    deviation = "" if cell.deviation is None else f" ±{cell.deviation:.2f}"
    return (
        target.method,
        target.setting.replace("_", "-"),
        target.published,
        "–" if mean is None else f"{mean:.2f}{deviation}",
        str(len(cell.values)),
        "–" if mean is None else f"{mean - target.mean:+.2f}",
        "–" if z is None else f"{z:+.1f}",
        {True: "✓", False: "✗", None: "–" if cell.judged else "unverified"}[cell.agrees],
        target.finding if cell.agrees is False else "",
    )


def as_csv(cells: Sequence[Cell]) -> str:
    """Return the cells with full numbers and their sources."""
    names = ["protocol", "method", "setting", "strategy", "scenario", "recipe", "metric", "published", "spread"]
    names += ["spread_is", "published_n", "measured", "deviation", "n", "z", "agrees", "source", "read", "finding"]
    lines: list[list[object]] = [[*names]]
    for cell in cells:
        t = cell.target
        values: list[object] = [
            t.protocol,
            t.method,
            t.setting,
            t.strategy,
            t.scenario,
            t.recipe,
            t.metric,
            t.mean,
            t.spread,
        ]
        values += [
            t.spread_is,
            t.n,
            cell.mean,
            cell.deviation,
            len(cell.values),
            cell.z,
            cell.agrees,
            t.source,
            t.read,
            t.finding,
        ]
        lines.append(values)
    return output.as_csv(lines)
