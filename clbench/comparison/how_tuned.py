"""How the hyper-parameters of a run came about: what its spec says of it, and how people read that."""

from __future__ import annotations

import ast
from typing import Any

from clbench.evaluation.metrics import Setting
from clbench.plugins.discovery import Plugin, describe_content
from clbench.results.stored_runs import StoredRun

VALIDATION = 0.1
"""Share of an experience's training data that continual search judges trials on, unless the recipe says another."""

TOLERANCE = 0.2
"""How far below fine-tuning, as a share of its accuracy, the method may stay."""

DECAY = 0.5
SEARCHES = 7
"""Stability weights that are tried at most; if all fail, the next smaller one is taken."""

FIRST_RATES = (5.0, 1.0, 0.5)
"""Learning rates tried in the first experience, as multiples of the recipe's."""

RATES = (1.0, 0.5, 0.1, 0.05, 0.01)
RATE_SEARCHES = 3
"""Later the largest three of `RATES` below the first experience's are tried."""


def continual(weight: str | None, start: float | None) -> dict[str, Any]:
    """Return what the spec of a run under `--tune chf` says: the stability weight, its first value, the constants.

    The constants are those of FACIL (Masana et al. 2020, arXiv 2010.15277), its learning rates as multiples.
    """
    return {
        "how": "chf",
        "weight": weight,
        "start": start,
        "validation": VALIDATION,
        "tolerance": TOLERANCE,
        "decay": DECAY,
        "searches": SEARCHES,
        "first_rates": list(FIRST_RATES),
        "rates": list(RATES),
        "rate_searches": RATE_SEARCHES,
    }


def how_tuned(run: StoredRun) -> str:
    """Return `default`, `preset`, `by hand`, `chf` or `grid (n trials)`."""
    tuning = run.spec.get("tuning")
    if tuning:
        return f"grid ({tuning['trials']} trials)" if tuning["how"] == "grid" else str(tuning["how"])
    plugin = describe_content("strategy", run.spec["strategy"]["name"], run.source)
    preset = run.spec["strategy"].get("preset")
    if run.spec["strategy"]["config"] != expected_values(plugin, preset, run.setting):
        return "by hand"
    return "preset" if preset and plugin.presets.get(preset, {}).get("set") else "default"


def expected_values(plugin: Plugin, preset: str | None, setting: Setting) -> dict[str, Any]:
    """Return the hyper-parameters that a strategy has under a preset, as its file says, without running it."""
    values = plugin.presets.get(preset or "", {})
    defaults = {field.name: literal(field.default) for field in plugin.fields}
    return {**defaults, **values.get("set", {}), **values.get("in_setting", {}).get(setting, {})}


def literal(text: str) -> Any:
    """Return the plain value that `text` writes, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
