"""Draws the heat maps, in percent on one scale from 0 to 100."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_matrix(axes: Axes, *, title: str, means: Sequence[Sequence[float | None]], names: Sequence[str]) -> None:
    """Draw accuracy on each experience (left to right, by name) after each experience (top to bottom)."""
    import numpy as np
    import seaborn

    cells = np.array([[np.nan if value is None else 100 * value for value in line] for line in means])
    count = len(cells)
    shown = [name if i % (1 + count // 11) == 0 else "" for i, name in enumerate(names)]
    seaborn.heatmap(
        cells,
        mask=np.isnan(cells),
        vmin=0,
        vmax=100,
        cmap="cividis",
        annot=count <= 25,  # in smaller cells the numbers would overlap
        fmt=".0f",
        annot_kws={"size": 8 if count <= 10 else 5},
        xticklabels=shown,
        yticklabels=shown,
        cbar_kws={"ticks": [0, 50, 100], "pad": 0.05, "aspect": 14},
        ax=axes,
    )
    axes.set_title(title)
    axes.set(xlabel="tested on experience", ylabel="after experience")
    axes.tick_params(length=0)
    if max(map(len, names)) > 2:
        axes.tick_params(axis="x", labelrotation=90)
        axes.tick_params(axis="y", labelrotation=0)


def draw_classes(
    axes: Axes,
    *,
    title: str,
    means: Sequence[Sequence[float | None]],
    strategies: Sequence[str],
    classes: Sequence[str],
    starts: Sequence[int],
    numbered: bool,
) -> None:
    """Draw a row per class, a column per strategy, and a line above each row in `starts`, where an experience begins.

    Either the cells show their numbers, or there is a colour bar.
    """
    import numpy as np
    import seaborn

    cells = np.array([[np.nan if value is None else 100 * value for value in line] for line in means], dtype=float)
    seaborn.heatmap(
        cells,
        mask=np.isnan(cells),
        vmin=0,
        vmax=100,
        cmap="cividis",
        annot=numbered,
        fmt=".0f",
        annot_kws={"size": 7},
        rasterized=not numbered,
        xticklabels=list(strategies),
        yticklabels=list(classes),
        cbar=not numbered,
        cbar_kws={"ticks": [0, 50, 100], "pad": 0.05, "aspect": 14},
        ax=axes,
    )
    axes.hlines(starts, 0, len(strategies), color=axes.xaxis.label.get_color(), linewidth=1.5)
    axes.set_title(title)
    axes.tick_params(length=0, labelsize=8)
    axes.tick_params(axis="x", labelrotation=90)
    axes.tick_params(axis="y", labelrotation=0)


def draw_confusion(
    axes: Axes,
    *,
    title: str,
    shares: Sequence[Sequence[float | None]],
    names: Sequence[str],
    answers: Sequence[str],
    unit: str,
    divided: tuple[int, int] | None = None,
) -> None:
    """Draw a row per true class or experience and a column per predicted one, as shares of the row.

    `divided` draws a line before that row and one before that column.
    """
    import numpy as np
    import seaborn

    cells = np.array([[np.nan if value is None else 100 * value for value in line] for line in shares], dtype=float)
    numbers = np.array([[f"{value:.0f}" if value >= 0.5 else "" for value in line] for line in cells])
    seaborn.heatmap(
        cells,
        mask=np.isnan(cells),
        vmin=0,
        vmax=100,
        cmap="cividis",
        annot=numbers if len(answers) <= 25 else None,  # in smaller cells the numbers would overlap
        fmt="",
        annot_kws={"size": 7 if len(answers) <= 12 else 5},
        xticklabels=list(answers),
        yticklabels=list(names),
        cbar_kws={"ticks": [0, 50, 100], "pad": 0.05, "aspect": 14},
        ax=axes,
    )
    if divided is not None:
        axes.axhline(divided[0], color="white", linewidth=2)
        axes.axvline(divided[1], color="white", linewidth=2)
    axes.set_title(title)
    axes.set(xlabel="predicted", ylabel=f"true {unit}")
    axes.tick_params(length=0, labelsize=8)
    axes.tick_params(axis="x", labelrotation=90)
    axes.tick_params(axis="y", labelrotation=0)
