"""DER++: replay that matches both the labels and the logits recorded when an exemplar was stored.

    L = CE(o, y) + α‖o(x') - z'‖² + β CE(o(x''), y'')        (x', z') and (x'', y'') drawn separately from one reservoir

The squared distance is averaged over exemplars and logits.

Source: Buzzega et al. 2020 (arXiv 2004.07211), equation 6.
Variant: with a growing head, only the logits of classes that existed when the exemplar was stored are matched. The
reservoir counts an image once, however many epochs it appears in; z is drawn from its logits in all these epochs.
"""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

import clbench


@clbench.config
class Config:
    memory: Annotated[int, Ge(1)] = 200
    """Capacity of the exemplar memory; images."""

    batch: Annotated[int, Ge(1)] = 32
    """Exemplars in each of the two draws per step; images."""

    alpha: Annotated[float, Ge(0)] = 0.1
    """α, weight of the logit matching; dimensionless. The paper uses 0.1 on CIFAR-10 with 200 exemplars."""

    beta: Annotated[float, Ge(0)] = 0.5
    """β, weight of the exemplars' cross-entropy; dimensionless. The paper uses 0.5 on CIFAR-10 with 200 exemplars."""


class DERpp(clbench.Strategy[Config]):
    def start(self, model: clbench.Network) -> None:
        self.exemplars = clbench.ExemplarMemory(self.config.memory)

    def loss(self, batch: clbench.Batch) -> Tensor:
        new = batch.cross_entropy()
        if not len(self.exemplars):
            return new
        one, other = (self.exemplars.draw(self.config.batch, batch) for _ in range(2))
        match = self.squared_distance(batch.logits_of(one.x), one.values["logits"])
        return new + self.config.alpha * match + self.config.beta * batch.cross_entropy_of(other.x, other.y)

    def validation_loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()

    def squared_distance(self, logits: Tensor, stored: Tensor) -> Tensor:
        """Return the mean of (o - z)² over known z; `stored` (n, all classes) is NaN for classes that came later."""
        stored = stored[:, : logits.shape[1]]
        return (logits - stored)[~stored.isnan()].square().mean()

    def after_step(self, batch: clbench.Batch) -> None:
        classes = sum(batch.experience.classes_per_experience)
        stored = batch.logits.new_full((len(batch.y), classes), torch.nan)
        stored[:, : batch.logits.shape[1]] = batch.logits.detach()
        self.exemplars.reservoir(batch, logits=stored)
