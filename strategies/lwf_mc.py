"""LwF.MC: iCaRL without exemplars; distillation and classification with sigmoid outputs.

    L = 1/C Σ_c BCE(σ(o_c), t_c),   t_c = σ(o_c^old) for old classes, [y = c] for new ones

Source: Rebuffi et al. 2017 (arXiv 1611.07725), section 4.1, "LwF.MC".
Variant: the loss is averaged over the C classes seen so far. Unlike in LwF, every class has its own sigmoid.
"""

from torch import Tensor

import clbench
from clbench import losses


class LwFMC(clbench.Strategy):
    only_new_classes = True

    @classmethod
    def check_protocol(cls, config: object, recipe: clbench.Recipe, setting: clbench.Setting) -> None:
        if setting == "domain_incremental":
            raise clbench.UsageError("lwf_mc uses labels only for new outputs; the domain-incremental setting has none")

    def teacher_output(self, model: clbench.Network, x: Tensor, experience: clbench.Experience) -> Tensor:
        return model(x)[:, : experience.old_classes].sigmoid()  # (n, old classes)

    def loss(self, batch: clbench.Batch) -> Tensor:
        return losses.binary_cross_entropy(
            batch.logits[:, : batch.experience.seen_classes], batch.y, batch.teacher_outputs
        )
