"""Places labels in a drawing: shortens them to fit, and writes them next to their points without overlaps."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABEL_GAP = 0.052
"""Distance between two labels at line ends, in heights of the axes."""

_IN_SENTENCE = 24.0
"""Room for a name in a sentence, in em."""

_AT_THE_LEFT = {"relpos": (0, 0.5)}
"""Where a leader line meets its label, so that it does not cross other labels."""


def short(label: str, room: float) -> str:
    """Return a label at most `room` em wide, with an ellipsis for what is cut from its middle."""
    label = "".join(character if character.isprintable() else "�" for character in label)
    if sum(map(_em, label)) <= room:
        return label
    tail = _beginning(label[::-1], 0.4 * (room - _em("…")))[::-1]
    return f"{_beginning(label, room - sum(map(_em, f'…{tail}')))}…{tail}"


def brief(name: str) -> str:
    """Return a name on one line for a sentence, without the middle of a very long one."""
    return short(" ".join(name.split()), _IN_SENTENCE)


def _beginning(text: str, room: float) -> str:
    widths = accumulate(map(_em, text))
    return "".join(character for character, width in zip(text, widths, strict=True) if width <= room)


@cache
def _em(character: str) -> float:
    """Return a character's width in em: as in DejaVu Sans, which is wide, or 1 for East Asian wide characters."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a character missing from the font is measured as its replacement box
        size = FontProperties(family="DejaVu Sans", size=1000)
        return text_to_path.get_text_width_height_descent(character, size, ismath=False)[0] / 1000


def label_points(axes: Axes, labels: Sequence[tuple[float, float, str, Any]], least_gap: float = _LABEL_GAP) -> None:
    """Write labels next to the axes without overlaps, each with a line to the point x, y that it names.

    `least_gap` is in heights of the axes.
    """
    low, high = axes.get_ylim()
    gap = min(least_gap, 0.98 / max(1, len(labels))) * (high - low)
    heights = spread([y for _, y, _, _ in labels], gap, low, high)
    for (x, y, text, colour), height in zip(labels, heights, strict=True):
        axes.annotate(
            text,
            xy=(x, y),
            xytext=(1.05, height),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "shrinkA": 1,
                "shrinkB": 4,
                **_AT_THE_LEFT,
            },
        )


def spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return heights as near as possible to `values`, at least `gap` apart and, if they fit, within `low` and `high`.

    The least squares solution: neighbours that would overlap are pooled into a block around their mean.
    """
    order = sorted(range(len(values)), key=lambda position: (values[position], position))
    blocks: list[list[float]] = []  # [sum of (value - rank·gap), members]
    for rank, position in enumerate(order):
        blocks.append([values[position] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, members = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += members
    starts = [total / members for total, members in blocks for _ in range(int(members))]
    ceiling = max(low, high - (len(values) - 1) * gap)
    result = [0.0] * len(values)
    for rank, position in enumerate(order):
        result[position] = min(max(starts[rank], low), ceiling) + rank * gap
    return result
