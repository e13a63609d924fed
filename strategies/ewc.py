"""Elastic Weight Consolidation: every weight is held near its old value, the more the more it matters to the old data.

    L = CE(softmax(o), y) + c Σ_i Σ_k F_ik (w_k - w_ik*)²        c = λ/2 ("half_lambda") or λ ("lambda")

i runs over the earlier experiences (separate), or there is one term with the last w*, and F = γ F_before + F_now
(online) or the mean of the two, weighted by their numbers of classes (averaged). F is the diagonal of the Fisher
information on the experience's data. New rows of the head are not anchored.

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

    terms: Literal["separate", "online", "averaged"] = "separate"
    """A term for each earlier experience (the paper), or one running term: a sum, or an average over classes."""

    decay: Annotated[float, Ge(0), Le(1)] = 1.0
    """γ of the online variant: how much of the earlier importance is kept; dimensionless."""

    labels: Literal["predicted", "sampled", "true", "true_weighted", "exact"] = "predicted"
    """Whose log-likelihood the Fisher information is of: the most probable class, one drawn from the network's answer,
    the label (the "empirical Fisher"), the label in proportion to its probability, or so all classes."""

    fisher_batch: Annotated[int, Gt(0)] = 1
    """Samples whose gradients are averaged before they are squared; 1 is the definition."""

    fisher_samples: Annotated[int, Gt(0)] | Literal["all"] = "all"
    """Samples from which the Fisher information is estimated."""

    fisher_scale: Literal["sample", "batch"] = "sample"
    """Whether a batch's squared mean gradient counts as often as the batch has samples, or once."""

    largest: Annotated[float, Gt(0)] | None = None
    """Above this an entry of an experience's Fisher information is cut off; None is never."""

    new_term: Literal["seen", "current", "all"] = "seen"
    """Classes over which the cross-entropy's softmax ranges, as for `naive`."""


class EWC(clbench.Strategy[Config]):
    stability = ("strength", 10_000.0)
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
        "pycil": {
            "source": "PyCIL (arXiv 2112.12533), models/ewc.py",
            "loss": "CE(new) + λ/2 Σ_k F_k (w_k - w_k*)², λ = 1000, F averaged over classes, of batches, at most 1e-4",
            "set": {
                "strength": 1000.0,
                "terms": "averaged",
                "labels": "true",
                "fisher_batch": 128,
                "fisher_scale": "batch",
                "largest": 1e-4,
                "new_term": "current",
            },
        },
        "mammoth": {
            "source": "Mammoth, Buzzega et al. 2020 (arXiv 2004.07211), models/ewc_on.py; its values for CIFAR-10",
            "loss": "CE(all) + λ Σ_k F_k (w_k - w_k*)², λ = 10, F = Σ_i of p(y)·(∂ log p(y)/∂w)²",
            "set": {
                "strength": 10.0,
                "convention": "lambda",
                "terms": "online",
                "labels": "true_weighted",
                "new_term": "all",
            },
        },
    }

    def start(self, model: clbench.Network) -> None:
        if self.config.new_term == "all" and not model.head.fixed:
            raise clbench.UsageError("ewc: a loss over all classes of the stream needs a recipe whose head is fixed")
        self.anchors: list[dict[str, Tensor]] = []
        self.importances: list[dict[str, Tensor]] = []

    def first_loss(self) -> clbench.Classes:
        return "all" if self.config.new_term == "all" else "seen"

    def loss(self, batch: clbench.Batch) -> Tensor:
        new = batch.cross_entropy(self.config.new_term)
        penalty = losses.weighted_squared_distance(batch.model.older_weights(), self.anchors, self.importances)
        return new + self.config.strength / (2 if self.config.convention == "half_lambda" else 1) * penalty

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        if experience.is_last:
            return
        matters = self.fisher(model, experience)
        if self.config.terms != "separate" and self.importances:
            keep, share = self.config.decay, 1.0
            if self.config.terms == "averaged":
                keep = experience.old_classes / experience.seen_classes
                share = 1 - keep
            matters = importance.accumulated(self.importances.pop(), matters, keep, share)
            self.anchors.clear()
        self.anchors.append({name: weight.detach().clone() for name, weight in model.weights().items()})
        self.importances.append(matters)

    def fisher(self, model: clbench.Network, experience: clbench.Experience) -> dict[str, Tensor]:
        """Return F of this experience's data, by name."""
        config = self.config
        samples = None if config.fisher_samples == "all" else config.fisher_samples
        found = importance.fisher(model, experience, config.labels, config.fisher_batch, samples, experience.index)
        if config.fisher_scale == "batch":
            found = {name: value / config.fisher_batch for name, value in found.items()}
        return found if config.largest is None else {name: v.clamp(max=config.largest) for name, v in found.items()}
