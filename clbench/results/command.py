"""Writes the command that reproduces stored runs, as it would be typed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from clbench.plugins.discovery import describe_content
from clbench.results.strategy_record import preset_values
from clbench.results.study_text import Asked
from clbench.streams.splits import split_text

_MANY_SEEDS = 20
"""More seeds from 0 on are given by their number, which is shorter; fewer are listed, which is clearer."""


def command_line(asked: Asked) -> str:
    """Return the `clbench run` with these options; see `asked_for`."""
    words = ["clbench", "run", "-s", ",".join(asked["strategy"]), "-S", ",".join(asked["scenario"])]
    for name in ("recipe", "stream", "setting", "epochs", "split", "class_order"):
        if name in asked:
            words += [f"--{name.replace('_', '-')}", _text(asked[name])]
    seeds = asked["seeds"]
    if len(seeds) > _MANY_SEEDS and list(seeds) == list(range(len(seeds))):
        words += ["--seeds", str(len(seeds))]
    else:
        words += ["--seeds", _text(seeds) + ("," if len(seeds) == 1 else "")]
    for name in ("device", "threads", "tune", "network", "weights"):
        if name in asked:
            words += [f"--{name}", _text(asked[name])]
    for name, value in asked["set"].items():
        words += ["--set", f"{name}={_text(value)}"]
    return shlex.join(words)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def command_of_schema_1(spec: Mapping[str, Any], source: bytes) -> str:
    """Return the command that reproduces a run of schema 1. Raises KeyError or TypeError for any other spec."""
    strategy, scenario, tuning = spec["strategy"], spec["scenario"], spec.get("tuning") or {}
    name, preset, setting = strategy["name"], strategy.get("preset"), scenario["setting"]
    usual = preset_values(describe_content("strategy", name, source), preset, setting)
    selector = f"{name}:{preset}" if preset else name
    values = {key: value for key, value in strategy["config"].items() if key in usual and usual[key] != value}
    for candidate in tuning.get("candidates", ()):  # of a grid search, whose outcome must be found again, not set
        for key in set(candidate) - {"validation_accuracy"}:
            tried = dict.fromkeys(str(other[key]) for other in tuning["candidates"] if key in other)
            values[key] = ",".join(tried)
    recipe, _, epochs = spec["recipe"]["name"].partition("-epochs")
    order = scenario["class_order_from"]
    asked = {
        "strategy": [selector],
        "scenario": [scenario["name"]],
        "recipe": recipe,
        "setting": setting.partition("_")[0],
        "epochs": epochs,
        "split": split_text(scenario["classes_per_experience"]),
        "class_order": scenario["class_order"] if order == "list" else order,
        "seeds": [spec["seeds"]["run"]],
        "device": spec["device"],
        "threads": spec["threads"],
        "tune": tuning.get("how"),
        "set": {f"{selector}.{key}": value for key, value in sorted(values.items())},
    }
    return command_line({name: value for name, value in asked.items() if value not in ("", None)})
