"""The contract of a scenario: a dataset, how its classes become a stream of experiences, and its recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from clbench.base.recipe import Recipe


class Scenario:
    """A stream of experiences. A scenario file defines exactly one subclass; its name is the file's stem.

    It sets `dataset` and `split`, or `benchmark`.
    """

    version: ClassVar[int] = 1
    """To be raised whenever a change to the file changes results, so that runs from before and after never mix."""

    dataset: ClassVar[str]
    """Name of a built-in dataset, or of one that was imported with `clbench data import`."""

    images: ClassVar[str] = ""
    """What is imported as `dataset` if it does not exist yet: a folder in the data folder, by default `images/DATASET`,
    or `torchvision:NAME`."""

    image_size: ClassVar[int | None] = None
    """Height and width in pixels that these images are resized to; None if all have the same size already."""

    split: ClassVar[str]
    """`5` equal experiences, sizes with repeats `50+10x5`, or a list `4,3,3`; see clbench/streams/splits.py. By
    default the dataset's own, if it has one."""

    stream: ClassVar[str] = "class"
    """The kind of stream, as `--stream` names it; see clbench/streams/kinds.py."""

    stream_options: ClassVar[Mapping[str, Any]] = {}
    """Options of the stream that are not at their defaults."""

    setting: ClassVar[str] = "class"
    """The setting of training unless the user says otherwise: `class`, `task` or `domain`."""

    class_order: ClassVar[str] = "seed"
    """`seed` (drawn from the run's seed), `natural`, or a list of class ids; whole domains if the dataset has any. A
    `benchmark` keeps its own order unless the file sets one."""

    benchmark: ClassVar[Callable[..., Any] | None] = None
    """A static method that builds an Avalanche benchmark (a CLScenario with a train and a test stream), in which each
    class is in one experience, or with the setting `domain` all classes are in every experience. Called once for each
    version of the file; a parameter `dataset_root` receives the data folder. Its images must be untransformed, except
    for their size: the recipe normalizes and augments."""

    recipes: ClassVar[Mapping[str, Recipe]]
    """Training protocols by name. The first is the default."""

    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names of this scenario."""
