"""Defines which runs form one row of a comparison, and the row's name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from clbench.results.record_model import to_json
from clbench.results.run_spec import RunSpec
from clbench.system.output import legible


def method(spec: RunSpec) -> str:
    """Return what runs of one row share: the strategy with its preset and values, and how those were chosen."""
    tuning = {key: value for key, value in to_json(spec.tuning or {}).items() if key in ("how", "start", "trials")}
    return json.dumps({**to_json(spec.strategy), "tuning": tuning}, sort_keys=True)


def labels_of(strategies: Sequence[dict[str, Any]]) -> list[str]:
    """Return a name for each, with its preset, and the hyper-parameters in which those of one name differ."""
    labels = []
    for strategy in strategies:
        same = [other for other in strategies if _named(other) == _named(strategy)]
        differing = [
            f"{key}={value}"
            for key, value in strategy["config"].items()
            if any(other["config"].get(key) != value for other in same)
        ]
        if len({other["sha256"] for other in same}) > 1:
            differing.append(f"file {strategy['sha256'][:8]}")
        if len({json.dumps(other["tuning"]) for other in same}) > 1:
            differing.append(_tuned(strategy["tuning"]) if strategy["tuning"] else "untuned")
        labels.append(legible(" ".join([":".join(filter(None, _named(strategy))), *differing])))
    # A name may be made to look like another with its hyper-parameters.
    return [
        label if labels.count(label) == 1 else f"{label} ({labels[: position + 1].count(label)})"
        for position, label in enumerate(labels)
    ]


def _named(strategy: dict[str, Any]) -> tuple[str, str | None]:
    return strategy["name"], strategy.get("preset")


def _tuned(tuning: dict[str, Any]) -> str:
    return f"by grid, {tuning['trials']} trials" if "trials" in tuning else f"by chf from {tuning.get('start')}"
