"""`RunSpec`: every choice that the numbers of a run depend on. The hash of its canonical JSON is the run's id.

Paths, host, time, executor and the number of jobs are not in it: no number depends on them. A field that is added
later, with a default that stands for the earlier behaviour, is marked `OMIT_DEFAULT`, so that the ids of older runs
stay the same.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import Field

from clbench.base.config import OMIT_DEFAULT
from clbench.base.continual_tuning import ContinualTuning
from clbench.base.incremental_setting import READINGS, Setting
from clbench.base.recipe import Recipe
from clbench.results.record_model import SCHEMA, Record, SchemaNumber, to_json
from clbench.streams.kinds import KINDS
from clbench.streams.splits import describe_split
from clbench.system.seeds import run_seeds


class StreamSpec(Record):
    """The kind of stream, if it is not a plain split of the classes."""

    name: str
    """Its name, as `--stream` takes it."""

    options: dict[str, Any]
    """Its options, fully resolved."""

    split: tuple[int, ...]
    """The number of classes in each experience that the kind of stream was given, from which it makes
    `classes_per_experience`."""


class ScenarioSpec(Record):
    """The stream of experiences and its test data."""

    name: str
    """The scenario's name."""

    version: int
    """The scenario's own version, raised when its file changes what it means."""

    setting: Setting
    """The setting in which the network is trained."""

    dataset: str
    """The dataset's name."""

    dataset_sha256: str
    """Hash of the dataset's content."""

    classes_per_experience: tuple[int, ...]
    """How many new classes each experience has, that is, classes whose first samples are in it."""

    class_order_from: Literal["seed", "natural", "list"]
    """Where the class order comes from: drawn from the seed, 0, 1, 2, …, or given as a list."""

    class_order: tuple[int, ...]
    """The dataset's class ids in the order in which they come."""

    class_names: Annotated[tuple[str, ...] | None, OMIT_DEFAULT] = None
    """The name of class 0, 1, …; null if the dataset's classes are named 0, 1, …"""

    held_out: Annotated[float, OMIT_DEFAULT] = 0.0
    """Share of the training data that replaces the test set; 0 to use the test set itself."""

    stream: Annotated[StreamSpec | None, OMIT_DEFAULT] = None
    """The kind of stream; null if it is the split of the classes, evaluated at the end of experiences."""

    domains: Annotated[tuple[str, ...] | None, OMIT_DEFAULT] = None
    """The name of each experience's domain; null if experiences differ in their classes."""

    @property
    def in_words(self) -> str:
        """Its experiences in words: `5×2 classes`, `3 domains of 10 classes, stream rotated`, `10 classes in 5
        experiences, stream repetition`."""
        sizes = self.classes_per_experience
        if self.domains:
            made = f", stream {self.stream.name}" if self.stream else ""
            return f"{len(sizes)} domains of {sizes[0]} classes{made}"
        if self.stream is None:
            return f"{describe_split(sizes)} classes"
        if not KINDS[self.stream.name].takes_split or tuple(sizes) != tuple(self.stream.split):
            return f"{sum(sizes)} classes in {len(sizes)} experiences, stream {self.stream.name}"
        return f"{describe_split(self.stream.split)} classes, stream {self.stream.name}"

    @property
    def readings(self) -> tuple[Setting, ...]:
        """The settings in which predictions are read: only its own if classes return in later experiences."""
        kind = KINDS.get(self.stream.name) if self.stream else None
        return (self.setting,) if kind and kind.classes_return else READINGS[self.setting]

    def class_name(self, class_id: int) -> str:
        """Return the name of a class by the dataset's class id."""
        return str(class_id) if self.class_names is None else self.class_names[class_id]


class NetworkSpec(Record):
    """The network that is trained."""

    name: str
    """The network's name: a plug-in's, `timm:NAME` or `torchvision:NAME`."""

    sha256: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$"), OMIT_DEFAULT] = None
    """Hash of its source file; null for clbench's own networks, which `engine` covers, and for a library's."""

    package: Annotated[str | None, OMIT_DEFAULT] = None
    """The library that it comes from, with its version."""

    config: Annotated[dict[str, Any], OMIT_DEFAULT] = Field(default_factory=dict)
    """Its hyper-parameters that differ from their defaults."""

    weights: Annotated[Literal["pretrained", "file"] | None, OMIT_DEFAULT] = None
    """Where its initial weights come from; null if they are drawn from the seed."""

    weights_sha256: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$"), OMIT_DEFAULT] = None
    """Hash of these weights by name, type, shape and value."""

    size: Annotated[int | None, OMIT_DEFAULT] = None
    """Height and width in pixels to which images are resized; null if they are not."""

    channels: Annotated[int | None, OMIT_DEFAULT] = None
    """Channels to which grey images are repeated; null if they are not."""

    mean: Annotated[tuple[float, ...] | None, OMIT_DEFAULT] = None
    """Mean of the pixels, in 0..1, that is subtracted, per channel; null to follow the recipe's `normalization`."""

    std: Annotated[tuple[float, ...] | None, OMIT_DEFAULT] = None
    """What the pixels, in 0..1, are then divided by, per channel."""

    train: Annotated[int | Literal["all", "head"], OMIT_DEFAULT] = "all"
    """How much of it is trained: all, only the head, or this many of the trunk's blocks, counted from the head."""

    @property
    def label(self) -> str:
        """A short description for titles: `lite0 (pretrained), head only, 128 px`."""
        origin = {"pretrained": " (pretrained)", "file": " (weights from a file)", None: ""}[self.weights]
        parts = [f"{self.name}{origin}", *(f"{key} {value}" for key, value in self.config.items())]
        if self.train != "all":
            count = "last block" if self.train == 1 else f"last {self.train} blocks"
            parts.append("head only" if self.train == "head" else count)
        return ", ".join([*parts, *([f"{self.size} px"] if self.size else [])])


class RecipeSpec(Record):
    """How the network is trained."""

    name: str
    """The recipe's name, followed by what the user changed: `quick-epochs2`, `quick-lr0.05`."""

    base: Annotated[str | None, OMIT_DEFAULT] = None
    """The name without the `changes`, if there are any."""

    changes: Annotated[dict[str, Any], OMIT_DEFAULT] = Field(default_factory=dict)
    """What the user changed with `--set recipe.NAME=VALUE`, by path; and under `network` and `network.NAME` with
    `--network`, `--weights` and `--set network.NAME=VALUE`."""

    config: Recipe
    """The recipe, fully resolved."""


class StrategySpec(Record):
    """The strategy in one configuration."""

    name: str
    """The strategy's name."""

    preset: Annotated[str | None, OMIT_DEFAULT] = None
    """The published variant that it starts from, if any."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Hash of the strategy's source file."""

    config: dict[str, Any]
    """Its hyper-parameters, fully resolved."""

    package: Annotated[str | None, OMIT_DEFAULT] = None
    """The package, with its version, whose training loop ran; None for clbench's own."""

    @property
    def selector(self) -> str:
        """Its name on the command line: `lwf`, or with a preset `lwf:pycil`."""
        return f"{self.name}:{self.preset}" if self.preset else self.name


class GridCandidate(Record):
    """A configuration that the grid search tried."""

    values: dict[str, str]
    """Its hyper-parameters as text, each as the run has it: `1.0` if `1` was given."""

    validation_accuracy: float | None
    """Its mean final accuracy on the validation streams; null if a trial failed."""


class GridTuning(Record):
    """Hyper-parameters that were chosen on validation streams before this run."""

    how: Literal["grid"] = "grid"
    """Distinguishes the ways of tuning."""

    trials: int
    """Runs on validation streams."""

    streams: int
    """Validation streams on which each candidate was evaluated."""

    held_out: float
    """Share of the training data that candidates were evaluated on."""

    candidates: tuple[GridCandidate, ...]
    """The configurations that were tried."""

    samples_seen: int
    """Samples seen by all trials together."""

    gradient_steps: int
    """Gradient steps of all trials together."""


class Seeds(Record):
    """The run's seed, and the seeds derived from it, by purpose."""

    run: int
    """The seed that the user chose."""

    class_order: int
    """Draws the order of the classes."""

    network: int
    """Draws the initial weights."""

    training: int
    """Draws batches and augmentation."""

    @classmethod
    def of(cls, run: int) -> Seeds:
        """Return the seeds of a run with this seed."""
        seeds = run_seeds(run)
        return cls(run=run, class_order=seeds["class_order"], network=seeds["model"], training=seeds["training"])


class RunSpec(Record):
    """Every choice that the numbers of a run depend on."""

    schema_number: SchemaNumber = Field(default=SCHEMA, alias="schema")
    """Version of this record's shape."""

    engine: int
    """Raised whenever a change to clbench changes the numbers of a run."""

    scenario: ScenarioSpec
    """The stream of experiences and its test data."""

    network: NetworkSpec
    """The network that is trained."""

    recipe: RecipeSpec
    """How it is trained."""

    strategy: StrategySpec
    """The strategy against forgetting."""

    tuning: Annotated[ContinualTuning | GridTuning | None, Field(discriminator="how"), OMIT_DEFAULT] = None
    """How the hyper-parameters are or were chosen; null if only the user chooses them."""

    seeds: Seeds
    """Seeds of separate streams of random numbers."""

    device: Literal["cpu", "cuda"]
    """Kind of device."""

    threads: int
    """Number of threads that torch uses."""


def canonical(spec: RunSpec) -> bytes:
    """Return the canonical bytes of a spec: JSON without spaces, sorted by key."""
    parts = [
        f'"{key}":{_canonical_part(_Same(value))}'
        for key, name, omitted in _PARTS
        if (value := getattr(spec, name)) is not None or not omitted
    ]
    return f"{{{','.join(parts)}}}".encode()


_PARTS = sorted(
    (field.alias or name, name, OMIT_DEFAULT in field.metadata) for name, field in RunSpec.model_fields.items()
)
"""The key and name of each part of a spec, and whether it is left out if it is null."""


class _Same:
    """A part of a spec, compared by object identity: all runs of a grid often have the same object."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value


@functools.lru_cache(maxsize=256)
def _canonical_part(part: _Same) -> str:
    return json.dumps(to_json(part.value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def run_id(spec: RunSpec) -> str:
    """Return the SHA-256 of the canonical spec, in hexadecimal."""
    return hashlib.sha256(canonical(spec)).hexdigest()


def folder_name(spec: RunSpec, identity: str | None = None) -> str:
    """Return the run's place in a results folder: `<scenario>/<strategy>/<recipe>-seed<k>-<run_id[:8]>`.

    A setting other than class-incremental precedes the seed: `quick-task_incremental-seed0-…`. `identity` is the run's
    id if it is known.
    """
    parts = (spec.scenario.name, spec.strategy.name, spec.recipe.name)
    scenario, strategy, recipe = (re.sub(r"[^A-Za-z0-9_-]", "_", part)[:64] or "_" for part in parts)
    if spec.scenario.setting != "class_incremental":
        recipe = f"{recipe[:43]}-{spec.scenario.setting}"
    return f"{scenario}/{strategy}/{recipe}-seed{spec.seeds.run}-{(identity or run_id(spec))[:8]}"


def experience_classes(spec: RunSpec) -> list[list[int]]:
    """Return the dataset's class ids of each experience, in class order."""
    order, result = list(spec.scenario.class_order), []
    for size in spec.scenario.classes_per_experience:
        result.append(order[:size])
        order = order[size:]
    return result
