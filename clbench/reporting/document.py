"""Fills a template as one self-contained HTML file, which loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from clbench.reporting.labels import brief
from clbench.system.output import legible, unwrapped

_TEMPLATES = Path(__file__).parent / "templates"


def fill(template: str, **values: Any) -> str:
    """Return a template filled with values, including the style and the script that all pages share.

    All text is escaped; the drawings, which are our own, are inserted as is.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else readable(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = unbroken
    environment.filters["unwrapped"] = unwrapped
    environment.filters["brief"] = brief
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        **values,
        style=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        # Drawings have style attributes too; the page's one script is allowed by its hash. Nothing is fetched.
        policy=f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'",
    )


_RIGHT_TO_LEFT = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\U00010800-\U00010fff\U0001e800-\U0001efff"


def readable(text: str) -> str:
    """Return the text with its right-to-left words isolated, so that the numbers after them stay in place."""
    text = "\n".join(map(legible, text.expandtabs().split("\n")))
    return re.sub(f"[{_RIGHT_TO_LEFT}]+( +[{_RIGHT_TO_LEFT}]+)*", "\u2068\\g<0>\u2069", text)


def unbroken(text: str) -> str:
    """Return the text with non-breaking spaces between numbers and their signs and units."""
    return re.sub(r"(?<=\d) (?=[%±×])", "\u00a0", text)
