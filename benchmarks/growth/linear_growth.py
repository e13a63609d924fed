"""Linear fits to measurements, described in a sentence and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Line:
    """y = constant + slope · x, by least squares."""

    constant: float
    slope: float
    r2: float
    """Share of the variance of y that the line explains; close to zero if y does not depend on x."""

    @classmethod
    def through(cls, x: Sequence[float], y: Sequence[float]) -> Line:
        """Return the line through two points or more."""
        slope, constant = np.polyfit(x, y, 1)
        variance = np.var(y)
        unexplained = np.mean((np.asarray(y) - (constant + slope * np.asarray(x))) ** 2)
        return cls(float(constant), float(slope), float(1 - unexplained / variance) if variance else 1.0)

    def at(self, x: np.ndarray) -> np.ndarray:
        """Return the line's values."""
        return self.constant + self.slope * x


@dataclass(frozen=True)
class Fit:
    """A line through the measurements of one series."""

    axis: str
    series: str
    of: str
    """What grows: seconds, bytes, or the seconds of a phase."""

    unit: str
    line: Line

    def sentence(self, per: str) -> str:
        """Describe the line in a sentence, with its slope as an amount for each unit that `per` names."""
        line = self.line
        return (
            f"{self.axis}, {self.series}: {self.of} {line.constant:.4g} {self.unit} {line.slope:+.3g} {self.unit} "
            f"{per} (R² {line.r2:.3f})"
        )


@dataclass(frozen=True)
class Panel:
    """One axis: its label and, by series, the points (x, seconds) and the line through them."""

    label: str
    series: dict[str, tuple[list[float], list[float], Line]]


def draw(panels: Sequence[Panel], file: Path) -> None:
    """Draw all panels as one figure."""
    from matplotlib.figure import Figure

    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for panel, ax in zip(panels, axes, strict=False):
        for colour, (name, (x, y, line)) in enumerate(panel.series.items()):
            ax.plot(x, y, "o", color=f"C{colour}", label=name)
            ends = np.linspace(0, max(x), 2)
            ax.plot(ends, line.at(ends), "-", color=f"C{colour}", linewidth=1)
        highest = max(max(y) for _, y, _ in panel.series.values())
        ax.set(xlabel=panel.label, ylabel="wall time (s)", ylim=(0, 1.1 * highest))
        ax.legend(frameon=False, fontsize="small")
    figure.savefig(file)
