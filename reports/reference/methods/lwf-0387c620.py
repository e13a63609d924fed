"""Learning without Forgetting: the old network's softened answers on the new data stand in for the old data.

    L = λ_new·CE(ŷ_new, y) + λ_old·KD_T(ŷ_old, y_old) + λ_r·R(θ)
    KD_T = -Σ_tasks Σ_c y'_c log ŷ'_c,   y'_c = y_c^(1/T) / Σ_j y_j^(1/T),   R = ½‖θ‖²

Step 1 records the old network's responses y_old to every new image; step 2 adds rows for the new classes, initialised
at random; an optional warm-up trains these rows alone; then everything trains together.

Source: Li & Hoiem 2016 (arXiv 1606.09282), figure 3 and equations 1 to 3.
Variant: by default the published one, on a single head: the new-class term ranges over the new classes only, and the
distillation has a softmax of its own for each earlier experience, where the paper has a head for each earlier task. No
factor T². R is added by the optimizer as weight decay, which has the same gradient. In the first experience, which the
paper takes as given, plain cross-entropy. Where the recipe augments images, step 1 cannot be done once, and a frozen
copy of the old network answers for every batch.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor, nn

import clbench
from clbench import losses


@clbench.config
class Config:
    alpha: Annotated[float, Ge(0)] = 1.0
    """λ_old, weight of the distillation; dimensionless. The paper uses 1."""

    temperature: Annotated[float, Gt(0)] = 2.0
    """T; dimensionless. The paper uses 2."""

    lambda_new: Annotated[float, Ge(0)] = 1.0
    """λ_new, weight of the new-class term; dimensionless. The paper uses 1."""

    lambda_r: Annotated[float, Ge(0)] = 0.0005
    """λ_r, weight of R, on top of the recipe's own weight decay; dimensionless. The paper uses 0.0005."""

    warmup_epochs: Annotated[int, Ge(0)] = 0
    """Epochs, out of the recipe's, in which only the new rows of the head train."""

    new_term: Literal["current", "seen"] = "current"
    """Classes over which the cross-entropy's softmax ranges: the new ones (the paper), or all seen so far."""

    distil: Literal["per_experience", "old", "seen"] = "per_experience"
    """Classes over which the distillation's softmax ranges: those of each earlier experience by itself (the paper), all
    old ones together, or for the student all seen so far, with a target of 0 for the new ones."""


class LwF(clbench.Strategy[Config]):
    def record(self, model: nn.Module, x: Tensor, experience: clbench.Experience) -> Tensor:
        return losses.soften(model(x), self.config.temperature, self.groups(experience))  # (n, groups, widest group)

    def frozen(self, model: clbench.Network, experience: clbench.Experience, epoch: int) -> Sequence[nn.Module]:
        warming_up = experience.index > 0 and epoch < self.config.warmup_epochs
        return (model.blocks, model.head.old) if warming_up else ()

    def weight_decay(self, experience: clbench.Experience) -> float:
        return self.config.lambda_r if experience.index > 0 else 0.0

    def loss(self, batch: clbench.Batch) -> Tensor:
        if batch.experience.index == 0:
            return losses.cross_entropy(batch.logits, batch.y)
        old = batch.experience.old_classes
        new = losses.cross_entropy(batch.logits, batch.y, first=old if self.config.new_term == "current" else 0)
        return self.config.lambda_new * new + self.config.alpha * self.distillation(batch, old)

    def distillation(self, batch: clbench.Batch, old: int) -> Tensor:
        targets, temperature = batch.recorded, self.config.temperature
        if self.config.distil == "seen":
            targets = nn.functional.pad(targets, (0, batch.logits.shape[1] - old))
            return losses.distillation(batch.logits, targets, temperature)
        return losses.distillation(batch.logits[:, :old], targets, temperature, self.groups(batch.experience))

    def groups(self, experience: clbench.Experience) -> Sequence[int]:
        """How many neighbouring old classes share a softmax."""
        if self.config.distil == "per_experience":
            return experience.classes_per_experience[: experience.index]
        return (experience.old_classes,)
