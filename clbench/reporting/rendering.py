"""Renders panels as SVG for the page, and figures as SVG, PNG and PDF files; the same input gives the same bytes."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_SVG = "{http://www.w3.org/2000/svg}"
ElementTree.register_namespace("", _SVG.strip("{}"))
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")

_FOREGROUND = "#010203"
"""Placeholder for the colour of the text around a figure, so that dark mode and print apply to it."""

_STYLE: Any = {
    "text.parse_math": False,  # dollar signs in a name are plain text
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
    width: float = 4.9
    height: float = 3.2
    left: float = 0.6
    right: float = 1.75
    top: float = 0.32
    bottom: float = 0.48


@dataclass(frozen=True)
class Rendered:
    """A figure in the formats that a report uses."""

    files: dict[str, bytes]
    """By file ending: svg, png and pdf, each with all panels."""

    panels: tuple[str, ...]
    """Each panel by itself, as an `<svg>` element that takes the page's text colour."""


def render(panels: Sequence[Panel], name: str, title: str, descriptions: Sequence[tuple[str, str]]) -> Rendered:
    """Draw the panels as one figure for files, and each by itself for a page whose width is not known.

    `name` makes the ids in the panels unique within the page. `descriptions` has a title and a description of each
    panel for screen readers.
    """
    return Rendered(_files(panels, title), inline(panels, name, descriptions))


def _files(panels: Sequence[Panel], title: str) -> dict[str, bytes]:
    with _drawing(panels, columns=3) as canvas:
        return {kind: _file(canvas, kind, title) for kind in ("svg", "png", "pdf")}


def _file(canvas: Canvas, kind: str, title: str) -> bytes:
    if kind == "svg":
        drawing = _save(canvas, "svg", {"Title": title, "Date": None, "Creator": None})
        return drawing.replace(_FOREGROUND.encode(), b"currentColor")
    if kind == "png":
        return _save(canvas, "png", {"Title": title, "Software": None}, "white")
    nobody = dict.fromkeys(("CreationDate", "ModDate", "Producer", "Creator"))
    return _save(canvas, "pdf", {"Title": title, **nobody}, "white")


def inline(panels: Sequence[Panel], name: str, descriptions: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Draw each panel by itself, as an `<svg>` element that takes the page's text colour; see `render`."""
    return tuple(
        _inline_svg(panel, f"{name}-{number}", *described)
        for number, (panel, described) in enumerate(zip(panels, descriptions, strict=True))
    )


def _inline_svg(panel: Panel, name: str, title: str, description: str) -> str:
    """Return a panel as text for a page, with a title and a description for screen readers."""
    with _drawing([panel], salt=name) as canvas:
        drawing = ElementTree.fromstring(_save(canvas, "svg", dict.fromkeys(("Date", "Creator", "Format", "Type"))))
    root = ElementTree.Element(
        f"{_SVG}svg",
        {
            "viewBox": drawing.attrib["viewBox"],
            # Matplotlib styles every element of the page; this applies to the elements of this drawing only.
            "style": f"width:{panel.width:g}in;stroke-linejoin:round;stroke-linecap:butt",
            "role": "img",
            "aria-labelledby": f"{name}-title",
            "aria-describedby": f"{name}-description",
        },
    )
    for tag, part, text in (("title", "title", title), ("desc", "description", description)):
        ElementTree.SubElement(root, f"{_SVG}{tag}", {"id": f"{name}-{part}"}).text = text
    root.extend(element for element in drawing if element.find(f"{_SVG}style") is None)
    svg = ElementTree.tostring(root, encoding="unicode").replace(_FOREGROUND, "currentColor")
    # Matplotlib numbers its groups (axes_1, text_2) from 1 again in every drawing; nothing refers to them.
    return _rounded(re.sub(r' id="[A-Za-z][A-Za-z0-9.]*_[0-9]+"', "", svg))


def png(panels: Sequence[Panel], columns: int) -> bytes:
    """Return the panels as one PNG, on white."""
    with _drawing(panels, columns) as canvas:
        return _save(canvas, "png", {"Software": None}, "white")


@contextlib.contextmanager
def _drawing(panels: Sequence[Panel], columns: int = 1, salt: str = "clbench") -> Iterator[Canvas]:
    import matplotlib as mpl

    with mpl.rc_context({**_STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes in PNG and PDF; SVG uses the reader's fonts.
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
            corner = ((left + panel.left) / width, (top - panel.height + panel.bottom) / height)
            panel.draw(canvas.add_axes((*corner, inner[0] / width, inner[1] / height)))
            left += panel.width
        top -= max(panel.height for panel in row)
    return canvas


_COORDINATES = re.compile(r'\b(?:d|x|y|transform|points)="[^"]*"')


def _rounded(svg: str) -> str:
    """Shorten coordinates to hundredths of a point, an invisible change."""
    return _COORDINATES.sub(lambda match: re.sub(r"([0-9][.][0-9]{2})[0-9]+", r"\1", match[0]), svg)
