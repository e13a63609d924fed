"""`ExtensionResult`: result.json of `clbench extend` and `clbench train`: what a network knew, and what it knows now.

Only counts are stored. Old-class accuracy exists where there are test images of old classes; what is known without them
is how far the extended network answers as the old one did, which is never called accuracy.
"""

from __future__ import annotations

from statistics import fmean
from typing import Annotated, Literal

from pydantic import Field

from clbench.base.config import OMIT_DEFAULT
from clbench.results.network_record import InputRecord, LineageStep, Sha256
from clbench.results.record_model import Count, Record, Seconds
from clbench.results.run_spec import NetworkSpec, RecipeSpec, Seeds, StrategySpec

Role = Literal["new", "new_test", "old_test", "old_images", "unlabelled"]
"""What images are for: the new classes' training and test images, test images of old classes, images of old classes
that may be trained on, and images of any kind on which only answers are compared."""


class ImagesUsed(Record):
    """The images that were given for one purpose."""

    role: Role
    """What they are for."""

    images: Count
    """How many could be read."""

    broken: Count
    """How many could not."""

    sha256: Sha256
    """Hash of their pixels, in size and channels of the network's images, and of their classes."""


class JudgedClass(Record):
    """One class, and how many of its test images are recognized."""

    name: str
    """Its name."""

    is_new: bool
    """Whether this extension brought it."""

    train_images: Count
    """Images of it that were trained on: of an old class, those of `--old-images`."""

    test_images: Count
    """Images of it that were tested on; 0 if there are none, so that it cannot be judged."""

    correct_before: Count | None
    """How many of them the old network recognized; null for a new class."""

    correct_after: Count
    """How many of them the extended network recognizes."""


class Agreement(Record):
    """How far the extended network answers as the old one did, on images whatever they show."""

    images: Count
    """How many images were compared."""

    same: Count
    """How many get the old network's answer still."""

    among_old: Count
    """Of how many the likeliest old class is the old network's answer."""

    taken_by_new: Count
    """How many are answered with a new class now."""


class Confused(Record):
    """How many test images of a class are answered with a class."""

    true: str
    """The class that they show."""

    answer: str
    """The extended network's answer."""

    images: Annotated[int, Field(ge=1)]
    """How many."""


class ChangedAnswer(Record):
    """An image that the extended network answers with another class than the old one did."""

    image: str
    """Its path within the folder that was given."""

    role: Role
    """What it was given for."""

    true: str | None
    """The class that it shows; null for an unlabelled image."""

    before: str
    """The old network's answer."""

    after: str
    """The extended network's answer."""


class Candidate(Record):
    """What one strategy made of the network."""

    strategy: StrategySpec
    """The strategy in its configuration."""

    classes: tuple[JudgedClass, ...]
    """All classes, in the order of the scores."""

    on_new: Agreement | None
    """On the test images of the new classes; null if there are none, or if there is no old network."""

    on_unlabelled: Agreement | None
    """On the unlabelled images; null if none were given."""

    confusion: tuple[Confused, ...]
    """All test images by class and answer, those that are right among them."""

    changed: tuple[ChangedAnswer, ...]
    """The first images that changed their answer, other than test images of new classes."""

    gradient_steps: Count
    """Steps that it took."""

    samples_seen: Count
    """Images that went through the network in training, with repetition."""

    seconds: Seconds
    """What training took on the machine that made it."""

    @property
    def train_images(self) -> int:
        """Images that were trained on, of new and of old classes."""
        return sum(each.train_images for each in self.classes)

    @property
    def old_classes(self) -> tuple[JudgedClass, ...]:
        """The old classes that have test images."""
        return tuple(each for each in self.classes if not each.is_new and each.test_images)

    @property
    def new_classes(self) -> tuple[JudgedClass, ...]:
        """The new classes that have test images."""
        return tuple(each for each in self.classes if each.is_new and each.test_images)

    @property
    def old_accuracy_before(self) -> float | None:
        """Mean over old classes of the share of their test images that the old network recognized; null without any."""
        return _mean([(each.correct_before or 0) / each.test_images for each in self.old_classes])

    @property
    def old_accuracy(self) -> float | None:
        """Mean over old classes of the share of their test images that are recognized; null without any."""
        return _mean([each.correct_after / each.test_images for each in self.old_classes])

    @property
    def new_accuracy(self) -> float | None:
        """Mean over new classes of the share of their test images that are recognized; null without any."""
        return _mean([each.correct_after / each.test_images for each in self.new_classes])


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


class LeftOut(Record):
    """A strategy that was asked for and cannot extend this network."""

    strategy: str
    """What selects it."""

    reason: str
    """What it would need."""


class ExtensionResult(Record):
    """result.json of an extended network, or of one that was trained as the first of a line."""

    schema_number: Literal[1] = Field(default=1, alias="schema")
    """Version of this record's shape."""

    id: Sha256
    """SHA-256 of everything that the numbers depend on."""

    command: Literal["train", "extend"]
    """What made it."""

    engine: int
    """Raised whenever a change to clbench changes the numbers."""

    network: NetworkSpec
    """The architecture."""

    input: InputRecord
    """What turns an image into the network's input."""

    parent_sha256: Sha256 | None
    """Hash of all tensors of the network that was extended; null for `train`."""

    lineage: tuple[LineageStep, ...]
    """What made that network, the oldest first."""

    old_classes: tuple[str, ...]
    """Classes that the network knew, in the order of its scores."""

    new_classes: tuple[str, ...]
    """Classes that came."""

    held_out: float
    """Share of each new class's images that was tested on; 0 if the folder divides them itself."""

    images: tuple[ImagesUsed, ...]
    """The images that were given, by purpose."""

    recipe: RecipeSpec
    """How the strategies trained."""

    seeds: Seeds
    """Separate streams of random numbers."""

    device: Literal["cpu", "cuda"]
    """Kind of device."""

    threads: int
    """Threads that torch computed with."""

    candidates: tuple[Candidate, ...]
    """Every strategy that trained, in the order in which they were asked for."""

    left_out: tuple[LeftOut, ...]
    """Strategies that could not."""

    chosen: str
    """The strategy whose network was kept, by what selects it."""

    rule: str
    """By which rule it was chosen, in words."""

    notes: Annotated[tuple[str, ...], OMIT_DEFAULT] = ()
    """What should be known when the numbers are read."""

    @property
    def kept(self) -> Candidate:
        """What the chosen strategy made."""
        return next(each for each in self.candidates if each.strategy.selector == self.chosen)
