"""The "did you mean" suggestion for mistyped names and paths."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from clbench.system.files import found_at


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the closest of the `known` names, or nothing if none is close."""
    nearest = _nearest(name, known)
    return f"; did you mean '{nearest}'?" if nearest else ""


def did_you_mean_path(path: Path) -> str:
    """Return "; did you mean 'x'?" for the existing path closest to `path`, or nothing if none is close."""
    wrong, rest = path, Path()
    while wrong != wrong.parent and found_at(wrong.parent) != "folder":
        wrong, rest = wrong.parent, Path(wrong.name, rest)
    try:
        beside = [each.name for each in wrong.parent.iterdir() if found_at(each / rest)]
    except OSError:
        return ""
    nearest = _nearest(wrong.name, beside)
    return f"; did you mean '{wrong.parent / nearest / rest}'?" if nearest else ""


def _nearest(name: str, known: Iterable[str]) -> str | None:
    by_lower = {each.lower(): each for each in known}
    nearest = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.55)
    return by_lower[nearest[0]] if nearest else None
