"""L2: a quadratic penalty that anchors every weight at its value after the previous experience.

    L = CE(softmax(o), y) + c Σ_k (w_k - w_k*)²        c = λ ("lambda") or λ/2 ("half_lambda")

w* are the weights after the previous experience, a single snapshot. The output units of new classes and the running
statistics of batch normalisation are not anchored; in a fixed head all output units are.

Source: Hsu et al. 2018 (arXiv 1810.12488), where c = λ; its baseline in Li & Hoiem 2016 (arXiv 1606.09282) has c = λ/2.
Variant: all weights are equally important, and the old classes' output units are anchored too. A value of λ is
meaningful only with its convention: λ = 100 of the first is λ = 200 of the second.
"""

from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor

import clbench
from clbench import losses


@clbench.config
class Config:
    strength: Annotated[float, Ge(0)] = 1.0
    """λ, weight of the penalty; dimensionless. Hsu et al. use 100 with Adam in class-incremental learning. With SGD
    such a penalty diverges: the learning rate times 2λ must stay below 2."""

    convention: Literal["lambda", "half_lambda"] = "lambda"
    """Whether the squared distance is multiplied by λ or by λ/2."""


class L2(clbench.Strategy[Config]):
    stability = ("strength", 10.0)
    presets = {
        "hsu2018": {
            "source": "Hsu et al. 2018 (arXiv 1810.12488), scripts/split_MNIST_incremental_*.sh of its code",
            "loss": "CE + λ‖w - w*‖², λ = 100 class-, 0.5 domain-, 0.01 task-incrementally",
            "set": {"strength": 100.0},
            "in_setting": {"domain_incremental": {"strength": 0.5}, "task_incremental": {"strength": 0.01}},
        },
    }

    def first_loss(self) -> clbench.Classes:
        return "seen"

    def before_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        self.weights = list(model.older_weights().values())
        self.anchors = [w.detach().clone() for w in self.weights]

    def loss(self, batch: clbench.Batch) -> Tensor:
        coefficient = self.config.strength / (2 if self.config.convention == "half_lambda" else 1)
        return batch.cross_entropy() + coefficient * losses.squared_distance(self.weights, self.anchors)
