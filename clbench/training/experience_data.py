"""The samples that an experience trains on, and those held out for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clbench.base.exemplars import ExemplarMemory
from clbench.base.recipe import Recipe
from clbench.data.batches import Images, Scaling, TrainingSet, held_out
from clbench.errors import PluginError
from clbench.system.seeds import derive


@dataclass(frozen=True)
class ExperienceData:
    """The training data of a stream, experience by experience."""

    rows: Sequence[Tensor]
    """Rows of the training arrays that belong to each experience, ascending, (n,) each."""

    images: Images
    scaling: Scaling
    labels: Tensor
    """Index of the output for each sample's class, for all `images`, (n,)."""

    seed: int
    """The run's training seed, from which the held-out samples and the order of `Samples.shuffled` are drawn."""

    def divided(self, index: int, recipe: Recipe) -> tuple[TrainingSet, TrainingSet]:
        """Return an experience's training samples, and those that the recipe holds out for validation."""
        rows = self.rows[index]
        generator = torch.Generator().manual_seed(derive(self.seed, "validation", index))
        trained, held = held_out(rows, self.labels[rows.to(self.labels.device)].cpu(), recipe.validation, generator)
        own = replace(
            self._samples(trained), seed=derive(self.seed, "shuffled", index), augmentation=recipe.augmentation
        )
        return own, self._samples(held)

    def joined(self, parts: Sequence[TrainingSet], without: Sequence[TrainingSet] = ()) -> TrainingSet:
        """Return the samples of several experiences as one set, except those that are in one of `without`."""
        rows = torch.cat([part.rows for part in parts]).unique()
        left_out = torch.cat([part.rows for part in without]) if without else rows[:0]
        return self._samples(rows[~torch.isin(rows, left_out)])

    def _samples(self, rows: Tensor) -> TrainingSet:
        return TrainingSet(self.images, self.scaling, rows, self.labels[rows.to(self.labels.device)])

    def scaled(self, rows: Tensor) -> Tensor:
        """Return samples as the network's input, without augmentation: (n, channels, height, width)."""
        return self.scaling(self.images.read(rows))

    def with_exemplars(self, own: TrainingSet, strategy: object, choice: str) -> TrainingSet:
        """Return the strategy's exemplars as training data: alone (`memory`), or after the experience's `own` samples.

        With `with_repeated_memory` each exemplar occurs ⌊own samples / capacity⌋ times, but at least once. Raises
        PluginError if the strategy has no exemplar memory.
        """
        kept = getattr(strategy, "exemplars", None)
        if not isinstance(kept, ExemplarMemory):
            raise PluginError(f"{type(strategy).__name__} trains on exemplars but has no ExemplarMemory `exemplars`")
        if not len(kept):
            return own
        copies = max(len(own) // kept.capacity, 1) if choice == "with_repeated_memory" else 1
        images, labels = [kept.images] * copies, [kept.labels] * copies
        names = [torch.full((copies * len(kept),), -1)]
        if choice != "memory":
            images.insert(0, self.images.read(own.rows))
            labels.insert(0, own.labels)
            names.insert(0, own.rows)
        together = Images(torch.cat(images).cpu().numpy(), self.images.device)
        rows = torch.arange(len(together.pixels))
        return TrainingSet(together, self.scaling, rows, torch.cat(labels), identity=torch.cat(names))
