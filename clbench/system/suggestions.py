"""The "did you mean" suggestion for mistyped names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the closest of the `known` names, or nothing if none is close."""
    by_lower = {each.lower(): each for each in known}
    nearest = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.55)
    return f"; did you mean '{by_lower[nearest[0]]}'?" if nearest else ""
