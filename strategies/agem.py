"""A-GEM: a step on new data may not, to first order, raise the loss on the exemplars of old data.

    g ← g - (gᵀ g_ref / g_refᵀ g_ref) g_ref        if gᵀ g_ref < 0; g_ref is the gradient of CE on sampled exemplars

Source: Chaudhry et al. 2019 (arXiv 1812.00420), equation 11.
Variant: class-incrementally CE ranges over all classes seen so far; task-incrementally, as in the paper, over those of
the sample's own experience. The memory is divided equally among the classes and filled at random after each experience;
the paper divides it among tasks. It never holds more than `memory` samples.
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

    batch: Annotated[int, Ge(1)] = 128
    """Exemplars on which g_ref is computed; images."""


class AGEM(clbench.Strategy[Config]):
    def start(self, model: clbench.Network) -> None:
        self.exemplars = clbench.ExemplarMemory(self.config.memory)

    def first_loss(self) -> clbench.Classes:
        return "seen"

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()

    def before_step(self, batch: clbench.Batch) -> None:
        weights = [weight for weight in batch.model.parameters() if weight.grad is not None]
        old = self.exemplars.draw(self.config.batch, batch)
        references = torch.autograd.grad(batch.cross_entropy_of(old.x, old.y), weights)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        product = sum(torch.sum(g * r) for g, r in zip(gradients, references, strict=True))
        if product < 0:
            factor = product / sum(r.square().sum() for r in references)
            for gradient, reference in zip(gradients, references, strict=True):
                gradient -= factor * reference

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        self.exemplars.share_among_classes(experience)
