"""Joint training on the data of all experiences so far. The upper reference: it keeps all data.

    L = CE(softmax(o), y)        over all data and all classes seen so far

Source: the "joint" or "offline" row of every comparison, for example van de Ven & Tolias 2019 (arXiv 1904.07734).
Variant: trained from new initial weights in every experience, for the recipe's epochs over all data so far. (Starting
from the previous experience's weights is "cumulative" training, a different method.)
"""

from typing import Literal

from torch import Tensor

import clbench


@clbench.config
class Config:
    experiences: Literal["all", "last"] = "all"
    """Whether to train in every experience, which gives a whole curve, or only in the last (for long streams)."""


class Joint(clbench.Strategy[Config]):
    reference = "upper"

    def first_loss(self) -> clbench.Classes | None:
        return "seen" if self.config.experiences == "all" else None

    def training_data(self, experience: clbench.Experience) -> Literal["seen"] | None:
        return "seen" if self.config.experiences == "all" or experience.is_last else None

    def reinitialize(self, experience: clbench.Experience) -> bool:
        return True

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
