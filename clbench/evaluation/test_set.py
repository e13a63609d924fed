"""Evaluation: one pass over the test set that leaves no trace in training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clbench.base.settings import Setting
from clbench.data.batches import Images, Scaling
from clbench.networks.network import Network
from clbench.system.randomness import randomness_untouched

Predictions = npt.NDArray[np.int16]
Score = Callable[[Network, Tensor], Tensor]


def _own_scores(model: Network, x: Tensor) -> Tensor:
    scores: Tensor = model(x)
    return scores


@dataclass
class TestSet:
    """The whole test set and the stream's shape."""

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
    """In which the network was trained."""

    watcher: Callable[[], None] | None = None
    """Told when the labels are read while scores are asked for."""

    _asking: bool = False

    def __getattribute__(self, name: str) -> Any:
        if name == "positions" and self._asking and self.watcher is not None:
            self.watcher()
        return super().__getattribute__(name)

    @torch.no_grad()
    def predict(
        self, model: Network, score: Score | None = None, learned: int | None = None
    ) -> dict[Setting, Predictions]:
        """Return the class ids predicted for every test sample, (n,), by each reading of the setting.

        See evaluation/metrics.py for the readings.

        Class-incremental is the argmax over all classes seen so far. Task-incremental is the argmax over the classes
        of the sample's own experience, as if that were known. Domain-incremental is the argmax over the outputs that
        all experiences share, as the class of the sample's own experience that stands for it. -1 for samples of classes
        that have not been learned yet, of which the network is asked nothing: `learned` is the number of classes that
        have, by default those that its head has seen, or domain-incrementally all.

        Works on a copy of `model` and restores the random state. `score` gives the scores (n, outputs) of images, from
        the network; without it they are the network's own.
        """
        if learned is None:
            learned = sum(self.classes_per_experience) if self.setting == "domain_incremental" else model.head.seen
        asked = (self.positions < learned).nonzero().squeeze(1)
        with randomness_untouched():
            frozen = copy.deepcopy(model).eval()
            batches = asked.split(self.images.inference_batch)
            parts = [
                self._answers(self._scores(frozen, images, score), rows, model.head.seen)
                for images, rows in zip(self.images.read_batches(batches), batches, strict=True)
            ]
        order = np.asarray(self.class_order, dtype=np.int16)
        predictions = {reading: np.full(len(self.positions), -1, dtype=np.int16) for reading in parts[0]}
        for reading, classes in predictions.items():
            classes[asked.numpy()] = order[torch.cat([part[reading] for part in parts]).cpu().numpy()]
        return predictions

    def scores(self, model: Network, rows: Tensor, score: Score | None = None) -> Tensor:
        """Return the scores of the test images at `rows` (n,), (n, outputs), from a network in evaluation mode."""
        return self._scores(model, self.images.read(rows), score)

    def _scores(self, model: Network, images: Tensor, score: Score | None) -> Tensor:
        x = self.scaling(images)
        self._asking = True
        try:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                return (score or _own_scores)(model, x).float()
        finally:
            self._asking = False

    def _answers(self, logits: Tensor, rows: Tensor, seen: int) -> dict[Setting, Tensor]:
        sizes = torch.tensor(self.classes_per_experience, device=logits.device)
        own = torch.repeat_interleave(sizes)[self.positions[rows].to(logits.device)]  # (n,)
        if self.setting == "domain_incremental":
            first = (sizes.cumsum(0) - sizes)[own]
            return {"domain_incremental": first + logits.argmax(dim=1)}
        logits = logits[:, :seen]
        elsewhere = own[:, None] != torch.repeat_interleave(sizes)[None, : logits.shape[1]]
        within = logits.masked_fill(elsewhere, -torch.inf).argmax(dim=1)
        readings: dict[Setting, Tensor] = {}
        if self.setting == "class_incremental":
            readings["class_incremental"] = logits.argmax(dim=1)
        return {**readings, "task_incremental": within}
