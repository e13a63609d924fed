"""Defines what two runs must share to be compared, and describes how comparisons with the same title differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from clbench.results.record_model import to_json
from clbench.results.run_spec import RunSpec
from clbench.system.output import legible


def protocol(spec: RunSpec) -> str:
    """Return what two runs must share to be compared, beginning with the scenario's name, by which they are sorted."""
    return json.dumps([spec.scenario.name, _shared(spec)], sort_keys=True)


def _shared(spec: RunSpec) -> dict[str, Any]:
    shared = to_json(spec)
    if spec.scenario.class_order_from == "seed":
        del shared["scenario"]["class_order"]
    if spec.scenario.domains:
        # Domains, or their order, may be drawn from the seed, and classes are named after them.
        for name in ("domains", "class_names"):
            shared["scenario"].pop(name, None)
    return {key: shared[key] for key in ("scenario", "network", "recipe", "device", "threads", "engine")}


def distinction(spec: RunSpec, others: Sequence[RunSpec]) -> str:
    """Return how a protocol differs from others: `natural class order`; empty if it is the only one."""
    entries = [_entries(_shared(other)) for other in others]
    own = _entries(_shared(spec))
    paths = dict.fromkeys(path for other in entries for path in other)
    differing = [path for path in paths if any(other.get(path) != own.get(path) for other in entries)]
    said = [_class_order(spec)] if any("class_order" in path for path in differing) else []
    for path in differing:
        if "class_order" not in path:
            name = path.rpartition(".")[2].replace("_", " ")
            said.append(f"{name} {_brief(own[path]) if path in own else 'default'}")
    return legible(", ".join(said))


def _class_order(spec: RunSpec) -> str:
    """Return where the class order comes from, or the order itself."""
    if spec.scenario.class_order_from == "list":
        return f"class order {_brief(' '.join(map(str, spec.scenario.class_order)))}"
    return {"seed": "class order by seed", "natural": "natural class order"}[spec.scenario.class_order_from]


def _entries(tree: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested objects by their path: `scenario.name`."""
    if not isinstance(tree, dict):
        return {path: tree}
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _entries(value, f"{path}.{key}" if path else key)
    return leaves


def _brief(value: Any) -> str:
    """Return a value in about 40 characters; a few digits of a hash replace what is cut off."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:30]}… ({hashlib.sha256(text.encode()).hexdigest()[:6]})"
