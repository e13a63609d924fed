"""Joint training on the data of all experiences so far. The upper reference: it may keep everything.

    L = CE(softmax(o), y)        over all data and all classes seen so far

Source: the "joint" or "offline" row of every comparison, for example van de Ven & Tolias 2019 (arXiv 1904.07734).
Variant: trained afresh from new initial weights at every experience, each sample as often as the recipe says. (A model
that goes on from the last experience's weights is "cumulative" training, another method.)
"""

from typing import Literal

from torch import Tensor

import clbench


@clbench.config
class Config:
    experiences: Literal["all", "last"] = "all"
    """Train at every experience, which gives this reference a curve of its own, or at the last only (long streams)."""


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
