"""Learning without Forgetting: the old network's softened outputs on the new data stand in for the old data.

    L = CE(ŷ_new, y) + λ_o Σ_tasks KD_T(ŷ_task, y_task) + λ_r R(θ)
    KD_T = -Σ_c y'_c log ŷ'_c,   y'_c = y_c^(1/T) / Σ_j y_j^(1/T),   R = ½‖θ‖²

Step 1 computes the old network's outputs y_task for every new image. Step 2 adds randomly initialised output units for
the new classes. An optional warm-up trains these units alone; then everything is trained jointly.

Source: Li & Hoiem 2016 (arXiv 1606.09282), figure 3 and equations 1 to 3.
Variant: `li2016`, the published loss on a single head: the cross-entropy ranges over the new classes only, and the
distillation has a softmax for each earlier experience, where the paper has a head for each earlier task. No factor T².
R is applied as weight decay, which has the same gradient. The first experience, which the paper takes as given, is
trained by plain cross-entropy. The warm-up, which the paper has, is off by default; domain-incrementally, where no
output unit is new, there is none. If the recipe augments images, a frozen copy of the old network computes y_task for
each batch. What other codebases call LwF (`lwf:pycil`, `lwf:mammoth`, …) is in lwf_dialects.py.
"""

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor, nn

import clbench
from clbench import losses


@clbench.config
class Config:
    alpha: Annotated[float, Ge(0)] = 1.0
    """λ_o, weight of the distillation; dimensionless. The paper uses 1."""

    lambda_r: Annotated[float, Ge(0)] = 0.0005
    """λ_r, weight of R, added to the recipe's weight decay from the second experience on; dimensionless. The paper uses
    0.0005."""

    temperature: Annotated[float, Gt(0)] = 2.0
    """T, temperature of the distillation; dimensionless. The paper uses 2."""

    warmup_epochs: Annotated[int, Ge(0)] = 0
    """Epochs of the warm-up, counted within the recipe's. The paper trains the new output units to convergence."""


class LwF(clbench.Strategy[Config]):
    stability = ("alpha", 10.0)
    warming_up = False
    presets = {
        "li2016": {
            "source": "Li & Hoiem 2016 (arXiv 1606.09282)",
            "loss": "CE(new) + Σ_experiences KD_T(their own classes) + λ_r·½‖θ‖², T = 2",
        },
    }

    def first_loss(self) -> clbench.Classes:
        return "seen"

    def teacher_output(self, model: nn.Module, x: Tensor, experience: clbench.Experience) -> Tensor:
        old = model(x)[:, : experience.old_classes]
        return losses.soften(old, self.config.temperature, experience.old_groups)  # (n, experiences, widest)

    def frozen(self, model: clbench.Network, experience: clbench.Experience, epoch: int) -> Sequence[nn.Module]:
        new_units = experience.setting != "domain_incremental"
        self.warming_up = new_units and epoch < self.config.warmup_epochs
        if not self.warming_up:
            return ()
        return (model.blocks, model.head.all_but(experience.old_classes, experience.seen_classes))

    def weight_decay(self, experience: clbench.Experience) -> float:
        return self.config.lambda_r

    def loss(self, batch: clbench.Batch) -> Tensor:
        new = batch.cross_entropy("current")
        if self.warming_up:
            return new
        groups = batch.experience.old_groups
        old = batch.logits[:, : batch.experience.old_classes]
        distillation = losses.distillation(old, batch.teacher_outputs, self.config.temperature, groups)
        return new + self.config.alpha * distillation
