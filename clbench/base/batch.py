"""One training batch, as a strategy's hooks see it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol

from clbench.base.experience import Experience
from clbench.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor

    from clbench.networks.network import Network

Classes = Literal["seen", "current", "all"]


class Source(Protocol):
    """What a batch needs from the training loop: stored images, augmentation, logits."""

    def original(self, rows: Tensor) -> Tensor:
        """Return the stored images at these rows of the dataset."""

    def prepare(self, images: Tensor) -> Tensor:
        """Augment and scale stored images."""

    def logits_of(self, model: Network, x: Tensor) -> Tensor:
        """Return the network's output for `x`, computed in the recipe's precision."""

    def note_cross_entropy(self, outputs: int) -> None:
        """Record how many outputs a cross-entropy ranges over: over a single one it is 0 whatever is learned."""


@dataclass(slots=True)
class Batch:
    """One training batch, as `Strategy.loss` sees it."""

    x: Tensor
    """Preprocessed and augmented images, (n, channels, height, width); the trunk's features, (n, features), if the
    trunk is frozen and images are neither augmented nor given to a teacher batch by batch."""

    y: Tensor
    """Class positions, (n,) of int64, in 0 .. seen_classes - 1."""

    index: Tensor
    """Row of each sample in the dataset's training arrays, (n,) of int64; -1 for an exemplar from a memory."""

    logits: Tensor
    """The network's output for `x`, (n, seen_classes) of float32; with a fixed head, (n, classes of the stream)."""

    teacher_outputs: Tensor | None
    """What `teacher_output` returned for these samples, (n, …); None in experience 0, after `reinitialize`, and without
    that hook."""

    model: Network
    """The network in training."""

    experience: Experience
    """The current experience."""

    source: Source | None = field(default=None, repr=False)
    """Access to the stored images and to the recipe's augmentation; None for validation data."""

    @property
    def recorded(self) -> Tensor | None:
        """Raises PluginError: `teacher_outputs` had this name before 0.2."""
        raise PluginError("batch.recorded is now called batch.teacher_outputs", "Rename it in the strategy's file.")

    @property
    def features(self) -> Tensor:
        """The trunk's features of `x`, (n, features): `x` itself if the network is trained on features."""
        features: Tensor = self.x if self.x.dim() == 2 else self.model.blocks(self.x)
        return features

    def images(self, positions: Tensor) -> Tensor:
        """Return the stored images, not augmented, of the samples at these positions of the batch.

        (m,) -> (m, height, width, channels) of uint8.
        """
        return self._source.original(self.index[positions])

    def prepare(self, images: Tensor) -> Tensor:
        """Augment and scale stored images as the recipe does; they count as samples seen.

        (m, height, width, channels) of uint8 -> (m, channels, height, width) of float32.
        """
        return self._source.prepare(images)

    def logits_of(self, x: Tensor) -> Tensor:
        """Return the network's output for other samples, such as exemplars, in the recipe's precision.

        x (n, channels, height, width) -> (n, rows of the head) of float32.
        """
        logits: Tensor = self.model(x) if self.source is None else self.source.logits_of(self.model, x)
        return logits

    def cross_entropy(self, over: Classes = "seen") -> Tensor:
        """Return the classification loss of the setting: the mean cross-entropy of `logits` with `y`.

        In the class-incremental setting the softmax ranges over all classes `seen` so far, over those of the `current`
        experience, or over `all` of the stream, which needs a fixed head (see `Recipe.head`). In the other settings
        `over` has no effect: the softmax ranges over the classes of each sample's own experience (task-incremental), or
        over the outputs that all experiences share (domain-incremental).
        """
        if self.source is not None:
            self.source.note_cross_entropy(self._outputs(over))
        return self._cross_entropy(self.logits, self.y, over, "mean")

    def cross_entropy_of(self, x: Tensor, y: Tensor, over: Classes = "seen") -> Tensor:
        """Return the `cross_entropy` of other samples, such as exemplars: x (n, channels, height, width), y (n,)."""
        return replace(self, x=x, y=y, logits=self.logits_of(x)).cross_entropy(over)

    def cross_entropies(self, logits: Tensor, y: Tensor, over: Classes = "seen") -> Tensor:
        """Return the `cross_entropy` of each of these samples, (n,): logits (n, …), y (n,)."""
        return self._cross_entropy(logits, y, over, "none")

    def _cross_entropy(self, logits: Tensor, y: Tensor, over: Classes, reduction: Literal["mean", "none"]) -> Tensor:
        from clbench import losses

        experience = self.experience
        if experience.setting == "class_incremental" and over == "all":
            return losses.cross_entropy(logits, y, reduction=reduction)
        classes = experience.seen_classes
        if logits.shape[1] > classes:
            logits = logits[:, :classes]
        if experience.setting == "task_incremental":
            sizes = experience.classes_per_experience[: experience.index + 1]
            return losses.cross_entropy_within(logits, y, sizes, reduction=reduction)
        first = experience.old_classes if experience.setting == "class_incremental" and over == "current" else 0
        return losses.cross_entropy(logits, y, first, reduction=reduction)

    @property
    def _source(self) -> Source:
        if self.source is None:
            raise PluginError(
                "the loss draws exemplars or requests stored images, and a batch of validation data comes without them",
                "Give the strategy a validation_loss hook that does not need them.",
            )
        return self.source

    def _outputs(self, over: Classes) -> int:
        """Return how many outputs the softmax of the cross-entropy ranges over for the current experience's samples."""
        experience = self.experience
        if experience.setting != "class_incremental" or over == "current":
            return experience.classes_per_experience[experience.index]
        return self.logits.shape[1] if over == "all" else experience.seen_classes
