"""Assigns each strategy a colour, marker and dash by its name, so that they never change between reports.

They come from a hash, not from a list, so third-party strategies have their own too. The colours are those of Okabe &
Ito 2008 with sufficient contrast on white and on black; references are grey.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from clbench.comparison.rows import Row

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "D", "P", "X", "p", "h", "d")
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (3, 1.5), (8, 2, 2, 2))
GREY = "#808080"

_SALT = 64436
"""Chosen so that the methods compared most often differ in colour, and LwF, L2 and frozen have the darkest three."""


@dataclass(frozen=True)
class Appearance:
    """How a strategy is drawn everywhere in a report."""

    colour: str
    marker: str
    dash: tuple[float, ...]
    """On and off lengths in line widths; empty for a solid line."""


def appearance(row: Row) -> Appearance:
    """Return how a row is drawn: its colour from the strategy's name, marker and dash from its label.

    Rows of one strategy in several configurations thus share the colour. The lower reference is a grey triangle that
    points down, the upper one a grey triangle that points up.
    """
    if row.reference == "lower":
        return Appearance(GREY, "v", (1, 1.5))
    if row.reference == "upper":
        return Appearance(GREY, "^", (5, 1.5))
    name, label = _digest(row.name), _digest(row.strategy)
    return Appearance(COLOURS[name[0] % len(COLOURS)], MARKERS[label[1] % len(MARKERS)], DASHES[label[2] % len(DASHES)])


def _digest(text: str) -> bytes:
    return hashlib.sha256(f"{_SALT}{text}".encode(errors="replace")).digest()
