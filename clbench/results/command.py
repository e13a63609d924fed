"""The command that makes stored runs again, as it would be typed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from clbench.plugins.discovery import describe_content
from clbench.results.strategy_record import preset_values
from clbench.streams.splits import split_text


def run_command(
    strategies: Sequence[str],
    scenario: Mapping[str, Any],
    recipe: str,
    seeds: Sequence[int],
    device: str,
    threads: int,
    values: Mapping[str, Any],
    tune: str = "",
    network: Mapping[str, str] | None = None,
) -> str:
    """Return a `clbench run`; `scenario` as in a spec, `recipe` its name there, `values` for `--set`; of the `network`
    its name and its weights, as far as they were chosen."""
    recipe, _, epochs = recipe.partition("-epochs")
    order = scenario["class_order_from"]
    words = ["clbench", "run", "-s", ",".join(strategies), "-S", scenario["name"], "--recipe", recipe]
    words += ["--setting", scenario["setting"].partition("_")[0]]
    words += ["--epochs", epochs] if epochs else []
    words += ["--split", split_text(scenario["classes_per_experience"])]
    words += ["--class-order", order if order != "list" else ",".join(map(str, scenario["class_order"]))]
    words += ["--seeds", ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")]
    words += ["--device", device, "--threads", str(threads)]
    words += ["--tune", tune] if tune else []
    for name, value in (network or {}).items():
        words += [f"--{name}", value]
    for name, value in values.items():
        words += ["--set", f"{name}={value}"]
    return shlex.join(words)


def command_of_schema_1(spec: Mapping[str, Any], source: bytes) -> str:
    """Return the command that makes a run of schema 1 again. Raises KeyError or TypeError for what is no such spec."""
    strategy, tuning = spec["strategy"], spec.get("tuning") or {}
    name, preset, setting = strategy["name"], strategy.get("preset"), spec["scenario"]["setting"]
    usual = preset_values(describe_content("strategy", name, source), preset, setting)
    selector = f"{name}:{preset}" if preset else name
    values = {key: value for key, value in strategy["config"].items() if key in usual and usual[key] != value}
    for candidate in tuning.get("candidates", ()):  # of a grid search, whose outcome is not to be set but found again
        for key in set(candidate) - {"validation_accuracy"}:
            tried = dict.fromkeys(str(other[key]) for other in tuning["candidates"] if key in other)
            values[key] = ",".join(tried)
    return run_command(
        [selector],
        spec["scenario"],
        spec["recipe"]["name"],
        [spec["seeds"]["run"]],
        spec["device"],
        spec["threads"],
        {f"{selector}.{key}": value for key, value in sorted(values.items())},
        tuning.get("how", ""),
    )
