"""GEM: a step may not, to first order, raise the loss on the exemplars of any earlier experience.

    g ← argmin_z ½‖g - z‖²   with ⟨z, g_i⟩ ≥ 0 for all i        if ⟨g, g_i⟩ < 0 for any i
      = g + Gᵀv,   v = argmin_{v ≥ γ} ½ vᵀ G Gᵀ v + gᵀ Gᵀ v

i runs over the earlier experiences. g_i, row i of G, is the gradient of CE on all exemplars of experience i.

Source: Lopez-Paz & Ranzato 2017 (arXiv 1706.08840), equations 8 to 11 and algorithm 1.
Variant: the memory is divided equally among the experiences so far, and an experience's exemplars are drawn at random
when it ends. As in the paper's code, 0.001 is added to the diagonal of G Gᵀ. The quadratic program is solved as
non-negative least squares. With `rehearsal`, as in Hsu et al. 2018, exemplars are also training data.
"""

from typing import Annotated

import numpy as np
import scipy.linalg
import scipy.optimize
import torch
from annotated_types import Ge
from torch import Tensor

import clbench


@clbench.config
class Config:
    memory: Annotated[int, Ge(1)] = 200
    """Capacity of the exemplar memory; images. The paper uses 5120 on MNIST."""

    strength: Annotated[float, Ge(0)] = 0.5
    """γ, the memory strength: at least this multiple of each g_i is added to g; dimensionless. The paper uses 0.5."""

    rehearsal: bool = False
    """Whether to train on the exemplars too, repeated until there are about as many as new images."""


class GEM(clbench.Strategy[Config]):
    presets = {
        "lopezpaz2017": {
            "source": "Lopez-Paz & Ranzato 2017 (arXiv 1706.08840)",
            "loss": "CE, with g projected so that ⟨g, g_i⟩ ≥ 0 for all earlier experiences i",
        },
        "hsu2018": {
            "source": "Hsu et al. 2018 (arXiv 1810.12488), agents/exp_replay.py and scripts/ of its code",
            "loss": "CE of new data and repeated exemplars, with g projected so that ⟨g, g_i⟩ ≥ 0; 4400 exemplars",
            "set": {"memory": 4400, "rehearsal": True},
        },
    }

    def start(self, model: clbench.Network) -> None:
        self.exemplars = clbench.ExemplarMemory(self.config.memory)

    def first_loss(self) -> clbench.Classes:
        return "seen"

    def training_data(self, experience: clbench.Experience) -> clbench.TrainingData:
        return "with_repeated_memory" if self.config.rehearsal else "current"

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()

    def before_step(self, batch: clbench.Batch) -> None:
        weights = [weight for weight in batch.model.parameters() if weight.grad is not None]
        gradient = flat([weight.grad for weight in weights if weight.grad is not None])  # (p,)
        earlier = self.exemplars.values["experience"].unique().tolist()
        references = torch.stack([self.gradient_on(batch, i, weights) for i in earlier])  # (i, p)
        if (references @ gradient < 0).any():
            allowed = projected(gradient, references, self.config.strength)
            for weight, part in zip(weights, allowed.split([weight.numel() for weight in weights]), strict=True):
                weight.grad = part.view_as(weight)

    def gradient_on(self, batch: clbench.Batch, experience: int, weights: list[Tensor]) -> Tensor:
        """Return g_i, (p,)."""
        own = self.exemplars.values["experience"] == experience
        loss = batch.cross_entropy_of(batch.prepare(self.exemplars.images[own]), self.exemplars.labels[own])
        return flat(torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True))

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        self.exemplars.share_among_experiences(experience)


def flat(gradients: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])


def projected(gradient: Tensor, references: Tensor, strength: float) -> Tensor:
    """Return g + Gᵀv of `gradient` g (p,) and `references` G (i, p)."""
    products = (references @ torch.cat([references, gradient[None]]).T).cpu().double().numpy()  # (i, i + 1)
    gram = products[:, :-1] + 0.001 * np.eye(len(products))
    # With u = v - γ and G Gᵀ = LLᵀ, v minimizes half of ‖Lᵀu + L⁻¹(G g + γ G Gᵀ1)‖², up to a constant.
    lower = np.linalg.cholesky(gram)
    offset = scipy.linalg.solve_triangular(lower, products[:, -1] + strength * gram.sum(axis=1), lower=True)
    factors = scipy.optimize.nnls(lower.T, -offset)[0] + strength
    return gradient + torch.from_numpy(factors).to(references) @ references
