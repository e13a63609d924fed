"""`NetworkRecord`: network.json, which describes the tensors in network.safetensors next to it.

Together they are a complete trained network except for its code, which comes from a file of clbench, of a library or
of the user, and is identified by name and hash.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from clbench.base.config import OMIT_DEFAULT
from clbench.base.incremental_setting import Setting
from clbench.results.record_model import Count, Record
from clbench.results.run_spec import NetworkSpec

FORMAT: Literal[1] = 1
"""Raised whenever the shape of the record or the names of the tensors change."""

STEM = "network"
"""The files of a kept network are network.json and network.safetensors."""

Side = Annotated[int, Field(ge=1, le=2048)]
Channels = Annotated[int, Field(ge=1, le=2**10)]
"""Bounded, since a stranger's file may say anything."""

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ImageShape(Record):
    """Height, width and channels of an image, and how other images are brought to this shape."""

    height: Side
    """In pixels."""

    width: Side
    """In pixels."""

    channels: Annotated[int, Field(ge=1, le=3)]
    """1: grey. 3: red, green, blue."""

    fit: Literal["crop", "pad", "stretch"] = "stretch"
    """How an image of another size becomes height × width, bilinearly and antialiased. crop: the largest centred part
    with these proportions. pad: the whole image, on black. stretch: the whole image, whatever its proportions."""


class InputRecord(Record):
    """How an image becomes the network's input. The steps are applied in the order of the fields."""

    image: ImageShape
    """The shape of the images that it was trained on."""

    padding: Annotated[int, Field(ge=0, le=16)]
    """Pixels of zeros that are added on each side."""

    channels: Channels
    """Channels of the network's input; a grey image is repeated."""

    mean: tuple[float, ...]
    """What is subtracted from pixels in 0..1, per channel."""

    std: tuple[float, ...]
    """What they are then divided by, per channel."""

    height: Side
    """Height of the network's input, in pixels."""

    width: Side
    """Width of the network's input, in pixels."""

    resizing: Literal["bilinear, antialiased"] | None
    """How the padded and normalized image is resized to the network's input; null if it already has that size."""


class ClassifierRecord(Record):
    """The classifier, which turns the trunk's features into scores."""

    name: str
    """`Linear`: a linear layer, trained as the head, whose scores are logits; otherwise a class in
    clbench.networks.classifiers, whose scores need not be logits."""

    settings: dict[str, Any] = Field(default_factory=dict)
    """Its arguments that are not tensors."""


class Origin(Record):
    """The run that trained a network."""

    run_id: Sha256
    """SHA-256 of the run's spec."""

    scenario: str
    """The scenario's name."""

    dataset: str
    """The dataset's name."""

    dataset_sha256: str
    """Hash of the dataset's content."""

    strategy: str
    """The strategy's name, with its preset."""

    recipe: str
    """The recipe's name."""

    seed: Count
    """The run's seed."""

    experience: Count
    """The last experience that was trained."""


class LineageStep(Record):
    """One command that created a network or trained it further."""

    command: Literal["given", "run", "train", "extend"]
    """`given`: the network came from elsewhere, with its weights."""

    id: Sha256
    """SHA-256 of everything that the numbers depend on; of a given network, of its tensors."""

    classes: tuple[str, ...]
    """Names of the classes that it added, in the order of the scores."""

    images: Count | None
    """Training images, of new and of old classes; null if unknown."""

    strategy: str | None
    """The strategy, with its preset; null for a given network."""

    seed: Count | None
    """Its seed; null for a given network."""


class NoneBelow(Record):
    """The score below which an image shows none of the classes, calibrated on images that were not trained on."""

    score: float
    """The highest score that at least 95 % of the recognized images reach."""

    images: Annotated[Count, Field(ge=1)]
    """Recognized images that it is based on."""

    classes: Annotated[Count, Field(ge=1)]
    """Classes that these images show."""


class Versions(Record):
    """The versions it was made with; that of the library that the network comes from is in `network`."""

    clbench: str
    """Version of clbench."""

    engine: int
    """As in spec.json: raised whenever a change to clbench changes the numbers of a run."""

    torch: str
    """Version of torch."""


class NetworkRecord(Record):
    """Describes a trained network. Its tensors are `trunk.…`, with the module's own names, and `classifier.…`."""

    schema_number: Literal[1] = Field(default=FORMAT, alias="schema")
    """Version of this record's shape."""

    origin: Origin | None
    """The run that trained it; null if it was no run."""

    lineage: Annotated[tuple[LineageStep, ...], OMIT_DEFAULT] = ()
    """The commands that made it, oldest first; empty for a run's network, which `origin` describes."""

    network: NetworkSpec
    """The architecture: name, hash of its file, hyper-parameters, version of its package."""

    network_seed: int
    """Seed of what the architecture draws at random and stores in no tensor."""

    head: Annotated[str | None, OMIT_DEFAULT] = None
    """The layer that the classifier replaces, by its name in the module, if the user named it (`--head`)."""

    setting: Setting
    """The setting in which it was trained. class_incremental: scores of all classes can be compared. task_incremental:
    only those of one experience. domain_incremental: all experiences share the outputs."""

    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the classes in the order of the scores; in the domain-incremental setting, the classes of each output,
    joined by ` | `."""

    experiences: tuple[int, ...]
    """How many outputs each experience added, in the order of the scores."""

    input: InputRecord
    """How an image becomes the network's input."""

    classifier: ClassifierRecord
    """The classifier, which turns the trunk's features into scores."""

    none_below: Annotated[NoneBelow | None, OMIT_DEFAULT] = None
    """The score below which an image shows none of its classes, if it was calibrated when the network was trained."""

    weights_sha256: Sha256
    """Hash of all tensors by name, type, shape and value."""

    probe: tuple[float, ...]
    """Scores of an image with a fixed pattern, by which a reader detects that it has built another network."""

    versions: Versions
    """The versions it was made with."""
