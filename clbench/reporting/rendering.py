"""Drawn panels as SVG for the page, and whole figures as SVG, PNG and PDF files; the same bytes for the same input."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_FOREGROUND = "#010203"
"""Stands for the colour of the text around a figure, so that dark mode and print apply to it."""

_STYLE: Any = {
    "svg.hashsalt": "clbench",
    "text.parse_math": False,  # a name with dollar signs is a name
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _FOREGROUND),
}


@dataclass(frozen=True)
class Panel:
    """One pair of axes with room for their labels, in inches."""

    draw: Callable[[Axes], None]
    width: float = 4.7
    height: float = 3.2
    left: float = 0.6
    right: float = 1.55
    top: float = 0.32
    bottom: float = 0.48


def inline_svg(panel: Panel, name: str, title: str, description: str) -> str:
    """Return a panel as an `<svg>` element that takes the page's text colour and speaks for itself to screen readers.

    `name` makes the ids in it unique within the page.
    """
    with _drawing([panel]) as canvas:
        text = _save(canvas, "svg", {"Date": None, "Creator": None}).decode()
    text = re.sub(r"^.*?<svg ", "<svg ", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = _with_own_ids(_rounded(text), name).replace(_FOREGROUND, "currentColor")
    box = f"0 0 {72 * panel.width:g} {72 * panel.height:g}"
    head = (
        f'<svg role="img" aria-labelledby="{name}-title" aria-describedby="{name}-description" '
        f'viewBox="{box}" style="width:{panel.width:g}in" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>'
    )
    return re.sub(r"^<svg [^>]*>\s*", lambda _: head, text, count=1).strip()


def files(panels: Sequence[Panel], title: str) -> dict[str, bytes]:
    """Return the figure of all panels by file ending: svg, png and pdf."""
    with _drawing(panels, columns=3) as canvas:
        svg = _save(canvas, "svg", {"Title": title, "Date": None, "Creator": None})
        png = _save(canvas, "png", {"Title": title, "Software": None}, "white")
        nobody = dict.fromkeys(("CreationDate", "ModDate", "Producer", "Creator"))
        pdf = _save(canvas, "pdf", {"Title": title, **nobody}, "white")
    return {"svg": svg.decode().replace(_FOREGROUND, "currentColor").encode(), "png": png, "pdf": pdf}


def png(panels: Sequence[Panel], columns: int) -> bytes:
    """Return the panels as one PNG, on white."""
    with _drawing(panels, columns) as canvas:
        return _save(canvas, "png", {"Software": None}, "white")


@contextlib.contextmanager
def _drawing(panels: Sequence[Panel], columns: int = 1) -> Iterator[Canvas]:
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes in PNG and PDF; in SVG the reader's fonts serve.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        yield _drawn(panels, min(len(panels), columns))


def _save(canvas: Canvas, kind: str, metadata: dict[str, str | None], ground: str = "none") -> bytes:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format=kind, dpi=144, facecolor=ground, metadata=metadata)
    return buffer.getvalue()


def _drawn(panels: Sequence[Panel], columns: int) -> Canvas:
    from matplotlib.figure import Figure

    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    width = max(sum(panel.width for panel in row) for row in rows)
    height = sum(max(panel.height for panel in row) for row in rows)
    canvas = Figure(figsize=(width, height))
    top = height
    for row in rows:
        left = 0.0
        for panel in row:
            inner = (panel.width - panel.left - panel.right, panel.height - panel.top - panel.bottom)
            box = (left + panel.left, top - panel.height + panel.bottom, *inner)
            axes = canvas.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
            panel.draw(axes)
            left += panel.width
        top -= max(panel.height for panel in row)
    return canvas


_COORDINATES = re.compile(r'\b(?:d|x|y|transform|points)="[^"]*"')


def _rounded(svg: str) -> str:
    """Shorten coordinates to a hundredth of a point, which nobody sees."""
    return _COORDINATES.sub(lambda match: re.sub(r"([0-9][.][0-9]{2})[0-9]+", r"\1", match[0]), svg)


def _with_own_ids(svg: str, name: str) -> str:
    """Prefix the ids that something refers to with `name`, and drop the others."""
    used = set(re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', svg))
    wanted = {one or other for one, other in used}
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in wanted else "", svg)
    svg = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{name}-{m[1]})", svg)
    return re.sub(r'xlink:href="#([^"]+)"', lambda m: f'xlink:href="#{name}-{m[1]}"', svg)
