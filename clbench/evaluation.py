"""Evaluation: one pass over the test set that leaves no trace in training."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clbench.batches import Images, Scaling
from clbench.metrics import Setting
from clbench.models import Network

Predictions = npt.NDArray[np.int16]


@contextmanager
def randomness_untouched() -> Iterator[None]:
    """Restore every global random state on leaving: Python's, NumPy's, torch's and its devices'."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])


@dataclass(frozen=True)
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

    @torch.no_grad()
    def predict(self, model: Network) -> dict[Setting, Predictions]:
        """Return the class ids predicted for every test sample, (n,), by each reading of the setting (see metrics.py).

        Class-incremental is the argmax over all classes seen so far. Task-incremental is the argmax over the classes
        of the sample's own experience, as if that were known. Domain-incremental is the argmax over the outputs that
        all experiences share, as the class of the sample's own experience that stands for it. -1 where a sample's
        experience has not been learned yet. Works on a copy of `model` and restores the random state.
        """
        with randomness_untouched():
            frozen = copy.deepcopy(model).eval()
            parts = [
                self._predict_batch(frozen, rows)
                for rows in torch.arange(len(self.positions)).split(self.images.inference_batch)
            ]
        order = np.asarray([*self.class_order, -1], dtype=np.int16)
        return {reading: order[torch.cat([part[reading] for part in parts]).cpu().numpy()] for reading in parts[0]}

    def _predict_batch(self, model: Network, rows: Tensor) -> dict[Setting, Tensor]:
        x = self.scaling(self.images.take(rows))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits = model(x).float()  # (n, outputs)
        sizes = torch.tensor(self.classes_per_experience, device=x.device)
        own = torch.repeat_interleave(sizes)[self.positions[rows].to(x.device)]  # (n,)
        if self.setting == "domain_incremental":
            first = (sizes.cumsum(0) - sizes)[own]
            return {"domain_incremental": first + logits.argmax(dim=1)}
        logits = logits[:, : model.head.seen]
        elsewhere = own[:, None] != torch.repeat_interleave(sizes)[None, : logits.shape[1]]
        within = logits.masked_fill(elsewhere, -torch.inf).argmax(dim=1)
        readings: dict[Setting, Tensor] = {}
        if self.setting == "class_incremental":
            readings["class_incremental"] = logits.argmax(dim=1)
        return {**readings, "task_incremental": within.masked_fill(elsewhere.all(dim=1), -1)}
