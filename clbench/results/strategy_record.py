"""Reads what a strategy's file says about itself from its syntax tree, once, when a run is stored."""

from __future__ import annotations

import ast
import re
from typing import Any

from clbench.base.incremental_setting import Setting
from clbench.plugins.discovery import Plugin, describe_content
from clbench.results.run_result import HyperParameter, StrategyRecord
from clbench.results.run_spec import RunSpec


def strategy_record(spec: RunSpec, source: bytes) -> StrategyRecord:
    """Return what `source`, the file of the spec's strategy, says about itself for the spec's preset and setting."""
    plugin = describe_content("strategy", spec.strategy.name, source)
    preset = plugin.presets.get(spec.strategy.preset or "", {})
    recipe = (spec.recipe.base or spec.recipe.name).partition("-epochs")[0]
    values = preset_values(plugin, spec.strategy.preset, spec.scenario.setting, recipe)
    reference = plugin.attributes.get("reference")
    return StrategyRecord(
        reference=reference if reference in ("lower", "upper") else None,
        doc=plugin.doc,
        problem=plugin.problem,
        variant=_text(preset, "source") or _variant(plugin.doc),
        formula=_text(preset, "loss"),
        hyper_parameters=tuple(
            HyperParameter(name=field.name, default=literal(field.default), doc=field.doc) for field in plugin.fields
        ),
        preset_values=values,
        chosen="by hand" if spec.strategy.config != values else "preset" if preset.get("set") else "default",
    )


def preset_values(plugin: Plugin, preset: str | None, setting: Setting, recipe: str = "") -> dict[str, Any]:
    """Return a strategy's hyper-parameters under a preset and a recipe, read from its file without running it."""
    values = plugin.presets.get(preset or "", {})
    defaults = {field.name: literal(field.default) for field in plugin.fields}
    own = plugin.attributes.get("in_recipe", {}).get(recipe, {})
    found = {**defaults, **own, **values.get("set", {}), **values.get("in_setting", {}).get(setting, {})}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def literal(text: str) -> Any:
    """Return the value of the literal `text`, or the text itself if it is not a value that JSON has."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    if isinstance(value, tuple):
        value = list(value)
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else text


def _text(preset: dict[str, Any], key: str) -> str:
    value = preset.get(key)
    return value if isinstance(value, str) else ""


def _variant(doc: str) -> str:
    match = re.search(r"^Variant:\s*(.+?)(?:[.,;:]\s|\.$|\n\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return re.sub(r"\s+", " ", match[1])[:160] if match else ""
