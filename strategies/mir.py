"""MIR: replay those of the drawn exemplars whose loss a step on the new batch would raise most.

    L = CE(new batch) + CE(x_1 … x_k)        the k drawn exemplars with the largest ℓ(x; θ - α∇CE(new batch)) - ℓ(x; θ)

Source: Aljundi et al. 2019 (arXiv 1908.04742), algorithm 2 (ER-MIR), from a reservoir.
Variant: CE ranges over all classes seen so far, in `mir:aljundi2019` over all of the stream; task-incrementally over
those of a sample's own experience. Candidates are scored in evaluation mode. The reservoir counts an image once,
however many epochs it appears in. The paper's code, but not its algorithm, excludes the current experience from replay
and takes ℓ(x; θ) as the least loss that was seen of x.
"""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.func import functional_call

import clbench
from clbench.base.exemplars import Drawn


@clbench.config
class Config:
    memory: Annotated[int, Ge(1)] = 200
    """Capacity of the exemplar memory; images."""

    batch: Annotated[int, Ge(1)] = 32
    """k, exemplars replayed with each batch; images. The paper uses 10."""

    candidates: Annotated[int, Ge(1)] = 50
    """Exemplars drawn as candidates; images. The paper uses 50."""

    rate: Annotated[float, Gt(0)] = 0.1
    """α, learning rate of the virtual step. The paper uses that of training, 0.1 on Split MNIST."""

    cross_entropy_over: Literal["seen", "all"] = "seen"
    """Classes over which the cross-entropy's softmax ranges, class-incrementally: all seen so far, or all of the
    stream, which needs a recipe with a fixed head."""


class MIR(clbench.Strategy[Config]):
    presets = {
        "aljundi2019": {
            "source": "Aljundi et al. 2019 (arXiv 1908.04742) with the loss of its code",
            "loss": "CE(all) of 10 new images + CE(all) of the 10 most interfered of 50 exemplars",
            "set": {"batch": 10, "cross_entropy_over": "all"},
        },
    }

    def start(self, model: clbench.Network) -> None:
        if self.config.cross_entropy_over == "all" and not model.head.fixed:
            raise clbench.UsageError("mir: a loss over all classes of the stream needs a recipe with a fixed head")
        self.exemplars = clbench.ExemplarMemory(self.config.memory)

    def loss(self, batch: clbench.Batch) -> Tensor:
        over = self.config.cross_entropy_over
        new = batch.cross_entropy(over)
        if not len(self.exemplars):
            return new
        drawn = self.exemplars.draw(self.config.candidates, batch)
        chosen = self.interference(batch, new, drawn).topk(min(self.config.batch, len(drawn.y))).indices
        return new + batch.cross_entropy_of(drawn.x[chosen], drawn.y[chosen], over)

    def validation_loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy(self.config.cross_entropy_over)

    def interference(self, batch: clbench.Batch, new: Tensor, drawn: Drawn) -> Tensor:
        """Return how much a step on the loss `new` would raise the loss of each candidate, (n,)."""
        weights = {name: weight for name, weight in batch.model.named_parameters() if weight.requires_grad}
        gradients = torch.autograd.grad(
            new, list(weights.values()), retain_graph=True, allow_unused=True, materialize_grads=True
        )
        ahead = {
            name: weight.detach() - self.config.rate * gradient
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
        network = batch.model.in_evaluation()
        with torch.no_grad():
            before, after = network(drawn.x), functional_call(network, ahead, (drawn.x,))
        over = self.config.cross_entropy_over
        return batch.cross_entropies(after, drawn.y, over) - batch.cross_entropies(before, drawn.y, over)

    def after_step(self, batch: clbench.Batch) -> None:
        self.exemplars.reservoir(batch)
