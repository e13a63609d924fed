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

    @torch.no_grad()
    def predict(self, model: Network) -> tuple[Predictions, Predictions]:
        """Return the class ids predicted for every test sample, (n,) each: class-incremental and task-incremental.

        Class-incremental is the argmax over all classes seen so far. Task-incremental is the argmax over the classes
        of the sample's own experience, as if that were known; -1 where that experience has not been learned yet.
        Works on a copy of `model` and restores the random state.
        """
        with randomness_untouched():
            frozen = copy.deepcopy(model).eval()
            pairs = [
                self._predict_batch(frozen, rows)
                for rows in torch.arange(len(self.positions)).split(self.images.inference_batch)
            ]
        order = np.asarray([*self.class_order, -1], dtype=np.int16)
        by_class, by_task = (torch.cat(parts).cpu().numpy() for parts in zip(*pairs, strict=True))
        return order[by_class], order[by_task]

    def _predict_batch(self, model: Network, rows: Tensor) -> tuple[Tensor, Tensor]:
        x = self.scaling(self.images.take(rows))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits = model(x).float()  # (n, classes seen)
        experience = torch.repeat_interleave(torch.tensor(self.classes_per_experience)).to(x.device)
        own = experience[self.positions[rows].to(x.device)]
        elsewhere = own[:, None] != experience[None, : logits.shape[1]]
        within = logits.masked_fill(elsewhere, -torch.inf).argmax(dim=1)
        return logits.argmax(dim=1), within.masked_fill(elsewhere.all(dim=1), -1)
