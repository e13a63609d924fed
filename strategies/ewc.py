"""Elastic Weight Consolidation: every weight is held near its old value, the more the more it matters to the old data.

    L = CE(softmax(o), y) + c Σ_i Σ_k F_ik (w_k - w_ik*)²        c = λ/2 ("half_lambda") or λ ("lambda")

i runs over the earlier experiences (separate), or there is one term with F = γ F_before + F_now and the last w*
(online). F is the diagonal of the Fisher information on the experience's data. New rows of the head are not anchored.

Source: Kirkpatrick et al. 2017 (arXiv 1612.00796), equation 3; online after Schwarz et al. 2018 (arXiv 1805.06370).
Variant: by default separate, with λ/2, and a Fisher of the predicted class from every sample by itself. Codebases
differ in each of these, and λ with them from 10 to 1e9: a coefficient travels only with its formula.
"""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from torch import Tensor

import clbench
from clbench import importance, losses


@clbench.config
class Config:
    strength: Annotated[float, Ge(0)] = 5000.0
    """λ, weight of the penalty; dimensionless."""

    convention: Literal["half_lambda", "lambda"] = "half_lambda"
    """Whether the weighted squared distance is multiplied by λ/2 (the paper) or by λ."""

    terms: Literal["separate", "online"] = "separate"
    """A term for each earlier experience (the paper), or one running term."""

    decay: Annotated[float, Ge(0), Le(1)] = 1.0
    """γ of the online variant: how much of the earlier importance is kept; dimensionless."""

    labels: Literal["predicted", "sampled", "true", "exact"] = "predicted"
    """Whose log-likelihood the Fisher information is of: the most probable class, one drawn from the network's answer,
    the label (the "empirical Fisher"), or all classes in proportion to their probability."""

    fisher_batch: Annotated[int, Gt(0)] = 1
    """Samples whose gradients are averaged before they are squared; 1 is the definition."""

    fisher_samples: Annotated[int, Gt(0)] | Literal["all"] = "all"
    """Samples from which the Fisher information is estimated."""


class EWC(clbench.Strategy[Config]):
    presets = {
        "kirkpatrick2017": {
            "source": "Kirkpatrick et al. 2017 (arXiv 1612.00796)",
            "loss": "CE + λ/2 Σ_i Σ_k F_ik (w_k - w_ik*)², a term for each earlier experience",
        },
        "hsu2018": {
            "source": "Hsu et al. 2018 (arXiv 1810.12488), agents/regularization.py and scripts/ of its code",
            "loss": "CE + λ Σ_i Σ_k F_ik (w_k - w_ik*)², λ = 600 class-, 100 domain- and task-incrementally",
            "set": {"strength": 600.0, "convention": "lambda"},
            "in_setting": {"domain_incremental": {"strength": 100.0}, "task_incremental": {"strength": 100.0}},
        },
        "vandeven2019": {
            "source": "van de Ven & Tolias 2019 (arXiv 1904.07734), param_values.py of branch `preprints` of its code",
            "loss": "CE + λ/2 Σ_i Σ_k F_ik (w_k - w_ik*)², λ = 1e8 class-, 1e6 domain-, 1e7 task-incrementally",
            "set": {"strength": 1e8},
            "in_setting": {"domain_incremental": {"strength": 1e6}, "task_incremental": {"strength": 1e7}},
        },
    }

    def start(self, model: clbench.Network) -> None:
        self.anchors: list[dict[str, Tensor]] = []
        self.importances: list[dict[str, Tensor]] = []

    def loss(self, batch: clbench.Batch) -> Tensor:
        new = batch.cross_entropy()
        if not self.anchors:
            return new
        penalty = losses.weighted_squared_distance(batch.model.older_weights(), self.anchors, self.importances)
        return new + self.config.strength / (2 if self.config.convention == "half_lambda" else 1) * penalty

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        if experience.is_last:
            return
        samples = None if self.config.fisher_samples == "all" else self.config.fisher_samples
        seed = experience.index
        matters = importance.fisher(model, experience, self.config.labels, self.config.fisher_batch, samples, seed)
        values = {name: weight.detach().clone() for name, weight in model.weights().items()}
        if self.config.terms == "online":
            matters = importance.accumulated(
                self.importances[0] if self.importances else {}, matters, self.config.decay
            )
            self.anchors.clear()
            self.importances.clear()
        self.anchors.append(values)
        self.importances.append(matters)
