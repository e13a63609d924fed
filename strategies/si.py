"""Synaptic Intelligence: each weight is anchored in proportion to how much its updates have reduced the loss.

    L = CE(softmax(o), y) + c Σ_k Ω_k (w_k - w_k*)²
    Ω_k = Σ_i ω_ik / (Δ_ik² + ξ),   ω_ik = -Σ_steps g_k · δw_k

In experience i each step moves weight k by δw_k under the gradient g_k, and Δ_ik is its total displacement. w* are the
weights after the previous experience. The output units of new classes are not anchored.

Source: Zenke, Poole & Ganguli 2017 (arXiv 1703.04200), equations 3 to 5.
Variant: by default g is the gradient of the classification loss alone, as in the paper; with `total` it is that of the
loss including the penalty, as in van de Ven & Tolias 2019.
"""

from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor

import clbench
from clbench import importance, losses


@clbench.config
class Config:
    strength: Annotated[float, Ge(0)] = 1.0
    """c, weight of the penalty; dimensionless. The paper uses 1 on Split MNIST, task-incrementally."""

    damping: Annotated[float, Gt(0)] = 0.1
    """ξ, which bounds Ω of weights that hardly moved; squared weights. The paper uses 0.1 (0.001 on Split MNIST)."""

    gradient: Literal["classification", "total"] = "classification"
    """Which gradient g is: that of the classification loss, or that of the total loss."""

    cross_entropy_over: Literal["seen", "all"] = "seen"
    """Classes over which the cross-entropy's softmax ranges, class-incrementally: all seen so far, or all of the
    stream, which needs a recipe with a fixed head."""


class SI(clbench.Strategy[Config]):
    stability = ("strength", 10.0)
    presets = {
        "zenke2017": {
            "source": "Zenke, Poole & Ganguli 2017 (arXiv 1703.04200)",
            "loss": "CE + c Σ_k Ω_k (w_k - w_k*)², ω from the gradient of CE",
        },
        "hsu2018": {
            "source": "Hsu et al. 2018 (arXiv 1810.12488), agents/regularization.py and scripts/ of its code",
            "loss": "CE + c Σ_k Ω_k (w_k - w_k*)², c = 600 class-, 3000 domain-, 300 task-incrementally",
            "set": {"strength": 600.0},
            "in_setting": {"domain_incremental": {"strength": 3000.0}, "task_incremental": {"strength": 300.0}},
        },
        "vandeven2019": {
            "source": "van de Ven & Tolias 2019 (arXiv 1904.07734), param_values.py of branch `preprints` of its code",
            "loss": "CE + c Σ_k Ω_k (w_k - w_k*)², ω from the total loss, c = 0.5 class-, 500 domain-, 50 task-incr.",
            "set": {"strength": 0.5, "gradient": "total"},
            "in_setting": {"domain_incremental": {"strength": 500.0}, "task_incremental": {"strength": 50.0}},
        },
        "vandeven2022": {
            "source": "van de Ven et al. 2022 (Nature Machine Intelligence), params/param_values.py of its code",
            "loss": "CE(all) + c Σ_k Ω_k (w_k - w_k*)², ω from the total loss, c = 5000 class-, 5e4 domain-, 10 task-",
            "set": {"strength": 5000.0, "gradient": "total", "cross_entropy_over": "all"},
            "in_setting": {"domain_incremental": {"strength": 5e4}, "task_incremental": {"strength": 10.0}},
        },
    }

    def start(self, model: clbench.Network) -> None:
        if self.config.cross_entropy_over == "all" and not model.head.fixed:
            raise clbench.UsageError("si: a loss over all classes of the stream needs a recipe with a fixed head")
        self.anchor: dict[str, Tensor] = {}
        self.importance: dict[str, Tensor] = {}

    def before_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        self.initial = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        self.last = {name: weight.clone() for name, weight in self.initial.items()}
        self.path = {name: weight.new_zeros(weight.shape) for name, weight in self.initial.items()}
        old = model.older_weights() if self.anchor else {}
        self.anchored = {name: weight for name, weight in old.items() if name in self.anchor}

    def loss(self, batch: clbench.Batch) -> Tensor:
        new = batch.cross_entropy(self.config.cross_entropy_over)
        if not self.anchored:
            return new
        penalty = losses.weighted_squared_distance(self.anchored, [self.anchor], [self.importance])
        return new + self.config.strength * penalty

    def before_step(self, batch: clbench.Batch) -> None:
        """Keep g before the recipe cuts the gradients that the step is taken with, and the weights before the step."""
        weights = {name: weight for name, weight in batch.model.named_parameters() if weight.grad is not None}
        for name, weight in weights.items():
            self.last[name].copy_(weight.detach())
        if self.config.gradient == "classification":
            self.g = {name: weight.grad - self.penalty_gradient(name, weight) for name, weight in weights.items()}
        else:
            self.g = {name: weight.grad.clone() for name, weight in weights.items()}

    def after_step(self, batch: clbench.Batch) -> None:
        for name, weight in batch.model.named_parameters():
            if name in self.g:
                self.path[name] -= self.g[name] * (weight.detach() - self.last[name])
        del self.g

    def penalty_gradient(self, name: str, weight: Tensor) -> Tensor | float:
        """Return 2 c Ω (w - w*)."""
        name = name.replace("head.old.", "head.")
        if not self.anchored or name not in self.importance:
            return 0.0
        return 2 * self.config.strength * self.importance[name] * (weight.detach() - self.anchor[name])

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        contributions = {
            name: self.path[name] / ((weight.detach() - self.initial[name]) ** 2 + self.config.damping)
            for name, weight in model.named_parameters()
        }
        self.importance = importance.accumulated(self.importance, model.join_rows(contributions), keep=1.0)
        self.anchor = {name: weight.detach().clone() for name, weight in model.weights().items()}
        del self.initial, self.last, self.path, self.anchored
