"""How the hyper-parameters of a run came about: what its spec says of it, and how people read that."""

from __future__ import annotations

import ast
from typing import Any

from clbench.base.settings import Setting
from clbench.plugins.discovery import Plugin, describe_content
from clbench.results.stored_runs import StoredRun


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
