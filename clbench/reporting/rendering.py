"""Drawn panels as SVG for the page, and whole figures as SVG, PNG and PDF files; the same bytes for the same input."""

from __future__ import annotations

import contextlib
import copy
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
    width: float = 4.9
    height: float = 3.2
    left: float = 0.6
    right: float = 1.75
    top: float = 0.32
    bottom: float = 0.48


@dataclass(frozen=True)
class Rendered:
    """A figure drawn once, in the forms that a report has."""

    files: dict[str, bytes]
    """By file ending: svg, png and pdf, each of all panels."""

    panels: tuple[ElementTree.Element, ...]
    """Each panel by itself, an `<svg>` element that takes the page's text colour."""


def render(panels: Sequence[Panel], title: str) -> Rendered:
    """Draw the panels as one figure, and take it apart again for a page whose width is not known."""
    with _drawing(panels, columns=3) as canvas:
        svg = _save(canvas, "svg", {"Title": title, "Date": None, "Creator": None})
        png = _save(canvas, "png", {"Title": title, "Software": None}, "white")
        nobody = dict.fromkeys(("CreationDate", "ModDate", "Producer", "Creator"))
        pdf = _save(canvas, "pdf", {"Title": title, **nobody}, "white")
    svg = svg.replace(_FOREGROUND.encode(), b"currentColor")
    whole = ElementTree.fromstring(svg)
    parts = tuple(_part(whole, number, place) for number, place in enumerate(_places(panels, 3)))
    return Rendered({"svg": svg, "png": png, "pdf": pdf}, parts)


def _part(whole: ElementTree.Element, number: int, place: Place) -> ElementTree.Element:
    """Return what belongs to a panel in a figure, and what that refers to, seen through the panel's own window."""
    window = " ".join(f"{72 * edge:g}" for edge in (place.left, place.top, place.panel.width, place.panel.height))
    style = f"width:{place.panel.width:g}in;stroke-linejoin:round;stroke-linecap:butt"
    part = ElementTree.Element(f"{_SVG}svg", {"viewBox": window, "style": style})
    groups = [group for group in whole.iter(f"{_SVG}g") if group.get("id", "").startswith(f"panel-{number}-")]
    part.extend(copy.deepcopy(groups))
    # Matplotlib defines a marker or a clip where it is first used, which may be in another panel.
    present = {element.get("id") for element in part.iter()}
    missing = _references(ElementTree.tostring(part, encoding="unicode")) - present
    definitions = ElementTree.SubElement(part, f"{_SVG}defs")
    definitions.extend(copy.deepcopy(element) for element in whole.iter() if element.get("id") in missing)
    return part


def inline_svg(part: ElementTree.Element, name: str, title: str, description: str) -> str:
    """Return a rendered panel as text for a page, with a name and a description for screen readers.

    `name` makes the ids in it unique within the page.
    """
    part = copy.deepcopy(part)
    part.attrib |= {"role": "img", "aria-labelledby": f"{name}-title", "aria-describedby": f"{name}-description"}
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        spoken = ElementTree.Element(f"{_SVG}{tag}", {"id": f"{name}-{'title' if tag == 'title' else 'description'}"})
        spoken.text = text
        part.insert(place, spoken)
    return _with_own_ids(_rounded(ElementTree.tostring(part, encoding="unicode")), name)


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


@dataclass(frozen=True)
class Place:
    """Where in a figure a panel is drawn, in inches from its upper left corner."""

    panel: Panel
    left: float
    top: float


def _places(panels: Sequence[Panel], columns: int) -> list[Place]:
    places = []
    top = 0.0
    for start in range(0, len(panels), columns):
        left, row = 0.0, panels[start : start + columns]
        for panel in row:
            places.append(Place(panel, left, top))
            left += panel.width
        top += max(panel.height for panel in row)
    return places


def _drawn(panels: Sequence[Panel], columns: int) -> Canvas:
    from matplotlib.figure import Figure

    places = _places(panels, columns)
    width = max(place.left + place.panel.width for place in places)
    height = max(place.top + place.panel.height for place in places)
    canvas = Figure(figsize=(width, height))
    for number, place in enumerate(places):
        panel = place.panel
        inner = (panel.width - panel.left - panel.right, panel.height - panel.top - panel.bottom)
        bottom = height - place.top - panel.height + panel.bottom
        axes = canvas.add_axes(
            ((place.left + panel.left) / width, bottom / height, inner[0] / width, inner[1] / height)
        )
        before = len(canvas.axes) - 1
        panel.draw(axes)
        for added, each in enumerate(canvas.axes[before:]):  # a colour bar is a pair of axes of its own
            each.set_gid(f"panel-{number}-{added}")
    return canvas


_COORDINATES = re.compile(r'\b(?:d|x|y|transform|points)="[^"]*"')


def _rounded(svg: str) -> str:
    """Shorten coordinates to a hundredth of a point, which nobody sees."""
    return _COORDINATES.sub(lambda match: re.sub(r"([0-9][.][0-9]{2})[0-9]+", r"\1", match[0]), svg)


def _references(svg: str) -> set[str]:
    """Return the ids that something in a drawing refers to."""
    return {one or other for one, other in re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', svg)}


def _with_own_ids(svg: str, name: str) -> str:
    """Prefix the ids that something refers to with `name`, and drop the others."""
    wanted = _references(svg)
    own = (f"{name}-title", f"{name}-description")
    svg = re.sub(
        r' id="([^"]+)"',
        lambda m: m[0] if m[1] in own else f' id="{name}-{m[1]}"' if m[1] in wanted else "",
        svg,
    )
    svg = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{name}-{m[1]})", svg)
    return re.sub(r'xlink:href="#([^"]+)"', lambda m: f'xlink:href="#{name}-{m[1]}"', svg)
