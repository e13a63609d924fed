"""Online EWC, and what other codebases call Elastic Weight Consolidation: one general loss, with a preset for each.

    L = CE(softmax(o), y) + c Σ_i Σ_k F_ik (w_k - w_ik*)²        c = λ/2 ("half_lambda") or λ ("lambda")

separate   one penalty per earlier experience i, with the weights w_i* and Fisher information F_i of that time
online     one penalty, times γ, with the latest weights w* and F = γ F_before + F_now
averaged   one penalty with the latest weights w* and the mean of F_before and F_now, weighted by numbers of classes,
           or of experiences where an experience brings no new class

The dialects also differ in whose log-likelihood F is of, and in how it is estimated. The defaults are the paper, which
is in ewc.py. The head's output units of new classes are not anchored.

Source: the codebases named in each preset; the method is Kirkpatrick et al. 2017 (arXiv 1612.00796), its online form
Schwarz et al. 2018 (arXiv 1805.06370).
Variant: by default the paper's loss; each preset gives its own formula. A value of λ is meaningful only with it.
Mammoth divides F by the number of samples rounded up to whole batches, which is 0.2 % more on CIFAR-10.
"""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from torch import Tensor

import clbench
from clbench import importance, losses


@clbench.config
class Config:
    renamed = {
        "new_term": "cross_entropy_over",
        "labels": "fisher_labels",
        "fisher_batch": "fisher_batch_size",
        "largest": "fisher_max",
    }

    strength: Annotated[float, Ge(0)] = 5000.0
    """λ, weight of the penalty; dimensionless."""

    convention: Literal["half_lambda", "lambda"] = "half_lambda"
    """Whether the weighted squared distance is multiplied by λ/2 (the paper) or by λ."""

    terms: Literal["separate", "online", "averaged"] = "separate"
    """One penalty per earlier experience (the paper), or one in all, with a running sum or average of F."""

    decay: Annotated[float, Ge(0), Le(1)] = 1.0
    """γ of online EWC, the share of the earlier Fisher information that is kept, and a factor of the penalty (not in
    Mammoth, where γ is 1); dimensionless."""

    fisher_labels: Literal["predicted", "sampled", "true", "true_weighted", "exact"] = "predicted"
    """Class whose log-likelihood F is of: the most probable one, one sampled from the network's output, the label (the
    "empirical Fisher"), the label weighted by its probability, or every class weighted by its probability."""

    fisher_batch_size: Annotated[int, Gt(0)] = 1
    """Samples, in random order, whose gradients are averaged before they are squared; 1 is the definition of F."""

    fisher_samples: Annotated[int, Gt(0)] | Literal["all"] = "all"
    """Samples from which F is estimated; images."""

    fisher_scale: Literal["sample", "batch"] = "sample"
    """How a batch's mean gradient g of n samples counts: Σ n² g² divided by the number of samples, or Σ g² by that of
    batches."""

    fisher_mode: Literal["evaluation", "training"] = "evaluation"
    """Whether F is of the network in evaluation mode on the images as they are stored, or of both as in training:
    augmented, and normalised by the statistics of each batch, which the running statistics follow."""

    fisher_max: Annotated[float, Gt(0)] | None = None
    """Upper limit to which the entries of each experience's F are clipped; None is no limit."""

    cross_entropy_over: Literal["seen", "current", "all"] = "seen"
    """Classes over which the cross-entropy's softmax ranges, class-incrementally: all seen so far, those of the current
    experience, or all of the stream, which needs a recipe with a fixed head. With `all` those of F are all too; else
    they are all seen so far."""


class EWCDialects(clbench.Strategy[Config]):
    dialects_of = "ewc"
    stability = ("strength", 10_000.0)
    presets = {
        "schwarz2018": {
            "source": "Schwarz et al. 2018 (arXiv 1805.06370), online EWC; γ is tuned there, and 1 here",
            "loss": "CE + λ/2 Σ_k F_k (w_k - w_k*)², F = γ F_before + F_now",
            "set": {"terms": "online"},
        },
        "hsu2018": {
            "source": "Hsu et al. 2018 (arXiv 1810.12488), agents/regularization.py and scripts/ of its code",
            "loss": "CE + λ Σ_i Σ_k F_ik (w_k - w_ik*)², λ = 600 class-, 100 domain- and task-incrementally",
            "set": {"strength": 600.0, "convention": "lambda"},
            "in_setting": {"domain_incremental": {"strength": 100.0}, "task_incremental": {"strength": 100.0}},
        },
        "hsu2018-online": {
            "source": "Hsu et al. 2018 (arXiv 1810.12488), agents/customization.py and scripts/ of its code",
            "loss": "CE + λ Σ_k F_k (w_k - w_k*)², F = F_before + F_now, λ = 100 class-, 700 domain-, 400 task-incr.",
            "set": {"strength": 100.0, "convention": "lambda", "terms": "online"},
            "in_setting": {"domain_incremental": {"strength": 700.0}, "task_incremental": {"strength": 400.0}},
        },
        "vandeven2019": {
            "source": "van de Ven & Tolias 2019 (arXiv 1904.07734), param_values.py of branch `preprints` of its code",
            "loss": "CE + λ/2 Σ_i Σ_k F_ik (w_k - w_ik*)², λ = 1e8 class-, 1e6 domain-, 1e7 task-incrementally",
            "set": {"strength": 1e8},
            "in_setting": {"domain_incremental": {"strength": 1e6}, "task_incremental": {"strength": 1e7}},
        },
        "vandeven2019-online": {
            "source": "van de Ven & Tolias 2019 (arXiv 1904.07734), param_values.py of branch `preprints` of its code",
            "loss": "CE + γλ/2 Σ_k F_k (w_k - w_k*)², F = γ F_before + F_now, λ = 1e9, γ = 0.8 class-incrementally",
            "set": {"strength": 1e9, "terms": "online", "decay": 0.8},
            "in_setting": {
                "domain_incremental": {"strength": 1e8, "decay": 0.7},
                "task_incremental": {"strength": 1e8},
            },
        },
        "vandeven2022": {
            "source": "van de Ven et al. 2022 (Nature Machine Intelligence), params/param_values.py of its code",
            "loss": "CE(all) + λ/2 Σ_i Σ_k F_ik (w_k - w_ik*)², λ = 1e9 class-, 1e10 domain-, 1e5 task-incr.",
            "set": {"strength": 1e9, "fisher_labels": "exact", "cross_entropy_over": "all"},
            "in_setting": {"domain_incremental": {"strength": 1e10}, "task_incremental": {"strength": 1e5}},
        },
        "pycil": {
            "source": "PyCIL (arXiv 2112.12533), models/ewc.py",
            "loss": "CE(new) + λ/2 Σ_k F_k (w_k - w_k*)², λ = 1000, F ≤ 1e-4 of training batches, mean over classes",
            "set": {
                "strength": 1000.0,
                "terms": "averaged",
                "fisher_labels": "true",
                "fisher_batch_size": 128,
                "fisher_scale": "batch",
                "fisher_mode": "training",
                "fisher_max": 1e-4,
                "cross_entropy_over": "current",
            },
        },
        "mammoth": {
            "source": "Mammoth, Buzzega et al. 2020 (arXiv 2004.07211), models/ewc_on.py; its values for CIFAR-10",
            "loss": "CE(all) + λ Σ_k F_k (w_k - w_k*)², λ = 10, F = Σ_i of p(y)·(∂ log p(y)/∂w)², p over all classes",
            "set": {
                "strength": 10.0,
                "convention": "lambda",
                "terms": "online",
                "fisher_labels": "true_weighted",
                "fisher_mode": "training",
                "cross_entropy_over": "all",
            },
        },
    }

    def start(self, model: clbench.Network) -> None:
        if self.config.cross_entropy_over == "all" and not model.head.fixed:
            raise clbench.UsageError("ewc: a loss over all classes of the stream needs a recipe with a fixed head")
        self.anchors: list[dict[str, Tensor]] = []
        self.importances: list[dict[str, Tensor]] = []

    def first_loss(self) -> clbench.Classes:
        return "all" if self.config.cross_entropy_over == "all" else "seen"

    def loss(self, batch: clbench.Batch) -> Tensor:
        new = batch.cross_entropy(self.config.cross_entropy_over)
        penalty = losses.weighted_squared_distance(batch.model.older_weights(), self.anchors, self.importances)
        coefficient = self.config.strength / (2 if self.config.convention == "half_lambda" else 1)
        if self.config.terms == "online":
            coefficient *= self.config.decay
        return new + coefficient * penalty

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        if experience.is_last and self.config.fisher_mode == "evaluation":
            return  # else the running statistics that are evaluated are those after F
        fisher = self.fisher(model, experience)
        if self.config.terms != "separate" and self.importances:
            keep, share = self.config.decay, 1.0
            if self.config.terms == "averaged":
                keep = experience.old_classes / experience.seen_classes
                if keep == 1:  # no new class
                    keep = experience.index / (experience.index + 1)
                share = 1 - keep
            fisher = importance.accumulated(self.importances.pop(), fisher, keep, share)
            self.anchors.clear()
        self.anchors.append({name: weight.detach().clone() for name, weight in model.weights().items()})
        self.importances.append(fisher)

    def fisher(self, model: clbench.Network, experience: clbench.Experience) -> dict[str, Tensor]:
        """Return the diagonal of the Fisher information on this experience's data, by weight name."""
        config = self.config
        fisher = importance.fisher(
            model,
            experience,
            config.fisher_labels,
            config.fisher_batch_size,
            None if config.fisher_samples == "all" else config.fisher_samples,
            seed=experience.index,
            over="all" if config.cross_entropy_over == "all" else "seen",
            scale=config.fisher_scale,
            in_training=config.fisher_mode == "training",
        )
        if config.fisher_max is not None:
            fisher = {name: value.clamp(max=config.fisher_max) for name, value in fisher.items()}
        return fisher
