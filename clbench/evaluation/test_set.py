"""Predict the test set, in one pass that has no effect on training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clbench.base.incremental_setting import Setting
from clbench.data.batches import Images, Scaling
from clbench.errors import UndefinedScores
from clbench.networks.network import Network
from clbench.system.randomness import randomness_untouched

Predictions = npt.NDArray[np.int16]
Score = Callable[[Network, Tensor], Tensor]


def _logits(model: Network, x: Tensor) -> Tensor:
    scores: Tensor = model(x)
    return scores


@dataclass
class TestSet:
    """The whole test set, with the classes and experiences of the stream."""

    images: Images
    scaling: Scaling
    positions: Tensor
    """Position in the class order of each sample's class, (n,)."""

    class_order: tuple[int, ...]
    """Class id at each position."""

    classes_per_experience: tuple[int, ...]

    precision: str
    """As in Recipe."""

    setting: Setting = "class_incremental"
    """The setting in which the network was trained."""

    on_labels_read: Callable[[], None] | None = None
    """Called if the labels are read while a strategy computes scores."""

    _scoring: bool = False

    def __getattribute__(self, name: str) -> Any:
        if name == "positions" and self._scoring and self.on_labels_read is not None:
            self.on_labels_read()
        return super().__getattribute__(name)

    @torch.no_grad()
    def predict(
        self, model: Network, score: Score | None = None, learned: int | None = None
    ) -> dict[Setting, Predictions]:
        """Return the class ids predicted for every test sample, (n,), in each setting that the run is evaluated in.

        Class-incremental: the argmax over all classes seen so far. Task-incremental: the argmax over the classes of the
        sample's own experience, all other outputs masked. Domain-incremental: the argmax over the outputs that all
        experiences share, translated to the class of the sample's own experience. -1 for samples of classes not learned
        yet, which are not passed through the network: `learned` is the number of classes learned, by default those that
        the head has seen, or all in the domain-incremental setting.

        Works on a copy of `model` and restores the random state. `score` computes the scores (n, outputs) of a batch;
        the default is the network's logits. Raises UndefinedScores if a class that may be predicted has a NaN score.
        """
        if learned is None:
            learned = sum(self.classes_per_experience) if self.setting == "domain_incremental" else model.head.seen
        rows = (self.positions < learned).nonzero().squeeze(1)
        parts, undefined = [], []
        with randomness_untouched():
            frozen = copy.deepcopy(model).eval()
            batches = rows.split(self.images.inference_batch)
            for images, batch in zip(self.images.read_batches(batches), batches, strict=True):
                scores = self._scores(frozen, images, score)
                if self.setting != "domain_incremental":
                    scores = scores[:, : model.head.seen]
                # Read after the last batch, since reading each would wait for the GPU.
                undefined.append(scores.isnan().any(dim=1).sum())
                parts.append(self._predicted(scores, batch))
        if count := int(torch.stack(undefined).sum()):
            raise UndefinedScores(f"predict gave NaN scores to {count:,} of {len(rows):,} test samples")
        order = np.asarray(self.class_order, dtype=np.int16)
        predictions = {setting: np.full(len(self.positions), -1, dtype=np.int16) for setting in parts[0]}
        for setting, classes in predictions.items():
            classes[rows.numpy()] = order[torch.cat([part[setting] for part in parts]).cpu().numpy()]
        return predictions

    def scores(self, model: Network, rows: Tensor, score: Score | None = None) -> Tensor:
        """Return the scores of the test images at `rows` (n,), (n, outputs), from a network in evaluation mode."""
        return self._scores(model, self.images.read(rows), score)

    def _scores(self, model: Network, images: Tensor, score: Score | None) -> Tensor:
        x = self.scaling(images)
        self._scoring = True
        try:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                return (score or _logits)(model, x).float()
        finally:
            self._scoring = False

    def _predicted(self, logits: Tensor, rows: Tensor) -> dict[Setting, Tensor]:
        sizes = torch.tensor(self.classes_per_experience, device=logits.device)
        own = torch.repeat_interleave(sizes)[self.positions[rows].to(logits.device)]  # (n,)
        if self.setting == "domain_incremental":
            first = (sizes.cumsum(0) - sizes)[own]
            return {"domain_incremental": first + logits.argmax(dim=1)}
        other = own[:, None] != torch.repeat_interleave(sizes)[None, : logits.shape[1]]
        within = logits.masked_fill(other, -torch.inf).argmax(dim=1)
        if self.setting == "task_incremental":
            return {"task_incremental": within}
        return {"class_incremental": logits.argmax(dim=1), "task_incremental": within}
