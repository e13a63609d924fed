"""Fading: LwF with a fading distillation, whose weight is divided by the index of the experience.

    L = CE(softmax(o_new), y) + α/i · KD_T(o_old, o_old before)        in experience i

Source: an example.
Variant: after Li & Hoiem 2016 (arXiv 1606.09282), with one softmax over all old classes.
"""

from typing import Annotated

from annotated_types import Ge

import clbench
from clbench import losses


@clbench.config
class Config:
    alpha: Annotated[float, Ge(0)] = 1.0
    """Weight of the distillation in experience 1; dimensionless."""


class Fading(clbench.Strategy[Config]):
    def first_loss(self):
        return "seen"  # the first experience is trained by plain cross-entropy over the classes seen

    def teacher_output(self, model, x, experience):
        old = model(x)[:, : experience.old_classes]
        return losses.soften(old, temperature=2)  # (n, old classes), of the old network

    def loss(self, batch):
        new = batch.cross_entropy("current")
        old = batch.logits[:, : batch.experience.old_classes]
        return new + self.config.alpha / batch.experience.index * losses.distillation(
            old, batch.teacher_outputs, temperature=2
        )
