"""Memory Aware Synapses: every weight is held by how much the network's answers to the old data depend on it.

    L = CE(softmax(o), y) + c Σ_k Ω_k (w_k - w_k*)²,   Ω_k = Σ_i 1/n_i Σ_x |∂ ‖f(x)‖² / ∂w_k|

i runs over the earlier experiences, f are the logits, and w* the weights after the previous experience. No label is
needed. New rows of the head are not held.

Source: Aljundi et al. 2018 (arXiv 1711.09601), equations 2 to 4.
Variant: by default every sample's gradient by itself, with Ω summed over experiences.
"""

from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor

import clbench
from clbench import importance, losses


@clbench.config
class Config:
    strength: Annotated[float, Ge(0)] = 1.0
    """c (λ in the paper), weight of the penalty; dimensionless. The paper uses 1."""

    batch: Annotated[int, Gt(0)] = 1
    """Samples whose gradients are averaged before the absolute value is taken; 1 is the definition."""


class MAS(clbench.Strategy[Config]):
    stability = ("strength", 400.0)
    presets = {
        "aljundi2018": {
            "source": "Aljundi et al. 2018 (arXiv 1711.09601)",
            "loss": "CE + c Σ_k Ω_k (w_k - w_k*)², Ω from every sample by itself",
        },
    }

    def start(self, model: clbench.Network) -> None:
        self.anchor: dict[str, Tensor] = {}
        self.matters: dict[str, Tensor] = {}

    def first_loss(self) -> clbench.Classes:
        return "seen"

    def loss(self, batch: clbench.Batch) -> Tensor:
        penalty = losses.weighted_squared_distance(batch.model.older_weights(), [self.anchor], [self.matters])
        return batch.cross_entropy() + self.config.strength * penalty

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        now = importance.sensitivity(model, experience, self.config.batch)
        self.matters = importance.accumulated(self.matters, now, keep=1.0)
        self.anchor = {name: weight.detach().clone() for name, weight in model.weights().items()}
