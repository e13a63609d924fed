"""L2: a quadratic penalty that holds every weight near its value after the previous experience.

    L = CE(softmax(o), y) + c Σ_k (w_k - w_k*)²        c = λ ("lambda") or λ/2 ("half_lambda")

w* are the weights after the previous experience: only the last snapshot. New rows of the head and the running
statistics of batch normalisation are not anchored; in a fixed head every row is.

Source: Hsu et al. 2018 (arXiv 1810.12488), where c = λ; its baseline in Li & Hoiem 2016 (arXiv 1606.09282) has c = λ/2.
Variant: every weight has the same importance, the head's old rows are anchored too. A coefficient travels only with its
convention: λ = 100 of the one is λ = 200 of the other.
"""

from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor

import clbench
from clbench import losses


@clbench.config
class Config:
    strength: Annotated[float, Ge(0)] = 1.0
    """λ, weight of the penalty; dimensionless. Hsu et al. use 100 with Adam in class-incremental learning; with SGD a
    penalty of that strength diverges (the learning rate times twice λ must stay below 2)."""

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
