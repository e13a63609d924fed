"""The contract of a scenario: a dataset, how its classes become a stream of experiences, and its recipes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from clbench.base.recipe import Recipe


class Scenario:
    """A class-incremental stream. A scenario file defines exactly one subclass; its name is the file's stem."""

    version: ClassVar[int] = 1
    """Raised whenever a change of the file changes results, so that runs from before and after are never mixed up."""

    dataset: ClassVar[str]
    """Name of a built-in dataset, or of one that was imported with `clbench data import`."""

    split: ClassVar[str]
    """`5` equal experiences, a base and steps `50+10x5`, or a list `4,3,3`; see clbench/streams/splits.py."""

    class_order: ClassVar[str] = "seed"
    """`seed` (drawn from the run's seed), `natural`, or a list of class ids."""

    recipes: ClassVar[Mapping[str, Recipe]]
    """Training protocols by name. The first is the default."""

    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names of this scenario."""
