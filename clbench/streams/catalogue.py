"""Lists the kinds of streams and what their files say about them, without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clbench.plugins.syntax import base_name, hyper_parameters

DEFINED_IN = {
    "class": "stream_kind:StreamKind",
    "online": "online:Online",
    "blurry": "blurry:Blurry",
    "repetition": "repetition:Repetition",
    "data_incremental": "data_incremental:DataIncremental",
    "long_tailed": "long_tailed:LongTailed",
    "noisy_labels": "noisy_labels:NoisyLabels",
    "permuted": "image_domains:Permuted",
    "rotated": "image_domains:Rotated",
}
"""Module and class of each kind by name. `class`, the split of the classes, is a scenario's default."""


@dataclass(frozen=True)
class Listed:
    """A kind of stream as its file describes it."""

    name: str
    doc: str
    options: tuple[str, ...]


def listed() -> Iterator[Listed]:
    """Yield each kind as its file describes it."""
    modules = {place.partition(":")[0] for place in DEFINED_IN.values()}
    trees = [ast.parse(Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")) for module in modules]
    classes = {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}

    def options(node: ast.ClassDef) -> dict[str, None]:
        inherited = [options(classes[name]) for name in map(base_name, node.bases) if name in classes]
        return dict.fromkeys(
            [*(each for of in inherited for each in of), *(own.name for own in hyper_parameters(node))]
        )

    for name, place in DEFINED_IN.items():
        node = classes[place.partition(":")[2]]
        yield Listed(name, ast.get_docstring(node) or "", tuple(options(node)))
