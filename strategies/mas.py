"""Memory Aware Synapses: each weight is anchored in proportion to how sensitive the network's output is to it.

    L = CE(softmax(o), y) + c Σ_k Ω_k (w_k - w_k*)²,   Ω_k = Σ_i 1/n_i Σ_x |∂ ‖f(x)‖² / ∂w_k|

i runs over the earlier experiences, with n_i samples x; f are the logits, and w* the weights after the previous
experience. Labels are not used. The output units of new classes are not anchored.

Source: Aljundi et al. 2018 (arXiv 1711.09601), equations 2 to 4.
Variant: by default from each sample's own gradient. Ω is summed over experiences.
"""

from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor

import clbench
from clbench import importance, losses


@clbench.config
class Config:
    strength: Annotated[float, Ge(0)] = 1.0
    """c (λ in the paper), weight of the penalty; dimensionless. The paper uses 1."""

    batch: Annotated[int, Gt(0)] = 1
    """Samples, drawn at random, whose gradients are averaged before the absolute value is taken; 1 is the definition of
    Ω."""

    over_outputs: Literal["sum", "mean"] = "sum"
    """Whether ‖f(x)‖² is the sum of the squared logits (the paper), or their mean."""


class MAS(clbench.Strategy[Config]):
    stability = ("strength", 400.0)
    presets = {
        "aljundi2018": {
            "source": "Aljundi et al. 2018 (arXiv 1711.09601)",
            "loss": "CE + c Σ_k Ω_k (w_k - w_k*)², Ω from each sample's own gradient",
        },
        "hsu2018": {
            "source": "Hsu et al. 2018 (arXiv 1810.12488), agents/regularization.py and scripts/ of its code",
            "loss": "CE + c Σ_k Ω_k (w_k - w_k*)², Ω from batches of 128 and the mean of f², c = 1, domain-incr. 10000",
            "set": {"batch": 128, "over_outputs": "mean"},
            "in_setting": {"domain_incremental": {"strength": 10000.0}},
        },
    }

    def start(self, model: clbench.Network) -> None:
        self.anchor: dict[str, Tensor] = {}
        self.importance: dict[str, Tensor] = {}

    def first_loss(self) -> clbench.Classes:
        return "seen"

    def loss(self, batch: clbench.Batch) -> Tensor:
        penalty = losses.weighted_squared_distance(batch.model.older_weights(), [self.anchor], [self.importance])
        return batch.cross_entropy() + self.config.strength * penalty

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        config = self.config
        current = importance.sensitivity(model, experience, config.batch, over_outputs=config.over_outputs)
        self.importance = importance.accumulated(self.importance, current, keep=1.0)
        self.anchor = {name: weight.detach().clone() for name, weight in model.weights().items()}
