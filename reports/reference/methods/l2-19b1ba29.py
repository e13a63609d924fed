"""L2: a quadratic penalty that holds every weight near its value after the previous experience.

    L = CE(softmax(o), y) + c Σ_k (w_k - w_k*)²        c = λ ("lambda") or λ/2 ("half_lambda")

w* are the weights after the previous experience: only the last snapshot. New rows of the head and the running
statistics of batch normalisation are not anchored.

Source: Hsu et al. 2018 (arXiv 1810.12488), where c = λ; its baseline in Li & Hoiem 2016 (arXiv 1606.09282) has c = λ/2.
Variant: every weight has the same importance, the head's old rows are anchored too. A coefficient travels only with its
convention: λ = 100 of the one is λ = 200 of the other.
"""

from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor, nn

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
    def before_experience(self, model: nn.Module, experience: clbench.Experience) -> None:
        if experience.index == 0:
            return
        anchored = {name: w for name, w in model.named_parameters() if not name.startswith("head.new")}
        self.names = list(anchored)
        self.anchors = [w.detach().clone() for w in anchored.values()]

    def loss(self, batch: clbench.Batch) -> Tensor:
        new = losses.cross_entropy(batch.logits, batch.y)
        if batch.experience.index == 0:
            return new
        weights = [batch.model.get_parameter(name) for name in self.names]
        coefficient = self.config.strength / (2 if self.config.convention == "half_lambda" else 1)
        return new + coefficient * losses.squared_distance(weights, self.anchors)
