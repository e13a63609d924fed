"""`ExtensionResult`: result.json of `clbench extend` and `clbench train`: what a network recognized before and after.

Only counts are stored. Old-class accuracy exists if there are test images of old classes; without them, only the
agreement of the extended network's predictions with the old one's is known, which is never called accuracy.
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
that may be trained on, and images of any kind on which only predictions are compared."""


class ImagesUsed(Record):
    """The images that were given for one purpose."""

    role: Role
    """What they are for."""

    images: Count
    """How many could be read."""

    broken: Count
    """How many could not be read."""

    sha256: Sha256
    """Hash of their pixels, in size and channels of the network's images, and of their classes."""


class JudgedClass(Record):
    """One class, and how many of its test images are recognized."""

    name: str
    """Its name."""

    is_new: bool
    """Whether this extension added it."""

    train_images: Count
    """Its training images; for an old class, those of `--old-images`."""

    test_images: Count
    """Its test images; 0 if there are none, so that it cannot be evaluated."""

    correct_before: Count | None
    """How many of them the old network recognized; null for a new class."""

    correct_after: Count
    """How many of them the extended network recognizes."""


class Agreement(Record):
    """How far the extended network's predictions agree with the old one's, on images of any kind."""

    images: Count
    """How many images were compared."""

    same: Count
    """How many still get the old network's prediction."""

    among_old: Count
    """For how many the most likely old class is the old network's prediction."""

    taken_by_new: Count
    """How many are now predicted as a new class."""


class Confused(Record):
    """How many test images of a class are predicted as a class."""

    true: str
    """The class that they show."""

    answer: str
    """The extended network's prediction."""

    images: Annotated[int, Field(ge=1)]
    """How many."""


class ChangedAnswer(Record):
    """An image for which the extended network predicts another class than the old one did."""

    image: str
    """Its path within the folder that was given."""

    role: Role
    """What it was given for."""

    true: str | None
    """The class that it shows; null for an unlabelled image."""

    before: str
    """The old network's prediction."""

    after: str
    """The extended network's prediction."""


class Candidate(Record):
    """The outcome of one strategy."""

    strategy: StrategySpec
    """The strategy in its configuration."""

    classes: tuple[JudgedClass, ...]
    """All classes, in the order of the scores."""

    on_new: Agreement | None
    """On the test images of the new classes; null if there are none, or if there is no old network."""

    on_unlabelled: Agreement | None
    """On the unlabelled images; null if none were given."""

    confusion: tuple[Confused, ...]
    """All test images by class and prediction, including the correct ones."""

    changed: tuple[ChangedAnswer, ...]
    """The first images whose prediction changed: test images of old classes and unlabelled ones, in turn."""

    gradient_steps: Count
    """Gradient steps that it took."""

    samples_seen: Count
    """Images that went through the network in training, with repetition."""

    seconds: Seconds
    """Training time on the machine that made it."""

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
    """Its name on the command line."""

    reason: str
    """What it would need."""


class ExtensionResult(Record):
    """result.json of an extended network, or of one that was trained as the first of a line."""

    schema_number: Literal[1] = Field(default=1, alias="schema")
    """Version of this record's shape."""

    id: Sha256
    """SHA-256 of everything that the numbers depend on."""

    command: Literal["train", "extend"]
    """The command that made it."""

    engine: int
    """Raised whenever a change to clbench changes the numbers."""

    network: NetworkSpec
    """The architecture."""

    input: InputRecord
    """How an image becomes the network's input."""

    parent_sha256: Sha256 | None
    """Hash of all tensors of the network that was extended; null for `train`."""

    lineage: tuple[LineageStep, ...]
    """The commands that made that network, oldest first."""

    old_classes: tuple[str, ...]
    """Classes that the network knew, in the order of its scores."""

    new_classes: tuple[str, ...]
    """Classes that the command added."""

    held_out: float
    """Share of each new class's images that was used for testing; 0 if the folder divides them itself."""

    images: tuple[ImagesUsed, ...]
    """The images that were given, by purpose."""

    recipe: RecipeSpec
    """How the strategies trained."""

    seeds: Seeds
    """Seeds of separate streams of random numbers."""

    device: Literal["cpu", "cuda"]
    """Kind of device."""

    threads: int
    """Number of threads that torch used."""

    candidates: tuple[Candidate, ...]
    """Every strategy that trained, in the order in which they were requested."""

    left_out: tuple[LeftOut, ...]
    """Strategies that could not train."""

    chosen: str
    """The strategy whose network was kept, by its name on the command line."""

    rule: str
    """The rule by which it was chosen, in words."""

    notes: Annotated[tuple[str, ...], OMIT_DEFAULT] = ()
    """What a reader of the numbers should know."""

    @property
    def kept(self) -> Candidate:
        """The outcome of the chosen strategy."""
        return next(each for each in self.candidates if each.strategy.selector == self.chosen)
