"""Elastic Weight Consolidation: each weight is anchored at its old value, in proportion to its Fisher information.

    L = CE(softmax(o), y) + λ/2 Σ_i Σ_k F_ik (w_k - w_ik*)²

i runs over the earlier experiences: w_i* are the weights after experience i, and F_i is the diagonal of the Fisher
information on its data. The head's output units of new classes are not anchored.

Source: Kirkpatrick et al. 2017 (arXiv 1612.00796), equation 3.
Variant: one penalty per earlier experience, as in the paper; the Fisher information is that of the predicted class,
from each sample's own gradient; class-incrementally the cross-entropy ranges over all classes seen so far. Online EWC
and what other codebases call EWC (`ewc:pycil`, `ewc:mammoth`, …) are in ewc_dialects.py. They differ in the penalty and
the Fisher information, and so in λ, from 10 to 1e9: a value of λ is meaningful only with its formula.
"""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

import clbench
from clbench import importance, losses


@clbench.config
class Config:
    strength: Annotated[float, Ge(0)] = 5000.0
    """λ, weight of the penalty; dimensionless."""


class EWC(clbench.Strategy[Config]):
    stability = ("strength", 10_000.0)
    presets = {
        "kirkpatrick2017": {
            "source": "Kirkpatrick et al. 2017 (arXiv 1612.00796)",
            "loss": "CE + λ/2 Σ_i Σ_k F_ik (w_k - w_ik*)², one penalty per earlier experience",
        },
    }

    def start(self, model: clbench.Network) -> None:
        self.anchors: list[dict[str, Tensor]] = []
        self.importances: list[dict[str, Tensor]] = []

    def first_loss(self) -> clbench.Classes:
        return "seen"

    def loss(self, batch: clbench.Batch) -> Tensor:
        new = batch.cross_entropy()
        penalty = losses.weighted_squared_distance(batch.model.older_weights(), self.anchors, self.importances)
        return new + self.config.strength / 2 * penalty

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        if experience.is_last:
            return
        self.importances.append(importance.fisher(model, experience))
        self.anchors.append({name: weight.detach().clone() for name, weight in model.weights().items()})
