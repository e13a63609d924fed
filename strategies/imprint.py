"""Imprinted weights: the new row of the head is the mean feature of the new class. No gradient steps, no old data.

    w_new = w̄ + s·ρ·μ̂,   μ̂ = direction of Σ_x φ̂(x),   w̄ = 1/C Σ_c w_c,   ρ = 1/C Σ_c ‖w_c - w̄‖
    b_new = mean_x m(x) + z·sd_x m(x),   m(x) = max_c (w_c·φ(x) + b_c) - (w̄ + s·ρ·μ̂₋ₓ)·φ(x)

x are the images of the new class, φ(x) their features, φ̂(x) these scaled to length 1, c the C old classes, and μ̂₋ₓ is
μ̂ without x. So m(x) is what the bias must exceed for a network that has not seen x to predict the new class for x, and
b_new is large enough for all but a few such images. Old rows and biases do not change: the prediction for an image
stays as before or becomes a new class.

Source: Qi, Brown & Lowe 2018 (arXiv 1712.07136), weight imprinting without fine-tuning.
Variant: for a network with an ordinary linear head. In the paper features and rows have length 1 and there is no bias,
so that w_new = μ̂ is comparable with old rows. Here rows are measured from w̄, which does not affect a softmax over old
classes; their length follows from the old rows, and the bias from the new images. All new classes of an experience get
the mean of their b_new, since separate biases favour the class whose images vary most. For a class with one image, m(x)
uses μ̂ instead of μ̂₋ₓ, and the deviation is 0. With one old class, whose row is w̄, ρ is the length of that row. The
domain-incremental setting, which adds no output units, is refused.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor

import clbench


@clbench.config
class Config:
    scale: Annotated[float, Gt(0)] = 0.5
    """s, length of a new row relative to the old rows, all from w̄; dimensionless. In the paper all have length 1."""

    deviations: Annotated[float, Ge(0)] = 2.0
    """z, standard deviations by which the bias exceeds the mean of m(x) over the class; dimensionless. With a larger z,
    new classes are predicted for more images, correctly and incorrectly. The paper has no bias."""


class Imprint(clbench.Strategy[Config]):
    only_new_classes = True

    @classmethod
    def check_protocol(cls, config: Config, recipe: clbench.Recipe, setting: clbench.Setting) -> None:
        if setting == "domain_incremental":
            raise clbench.UsageError("imprint adds output units, and the domain-incremental setting has no new ones")

    def first_loss(self) -> clbench.Classes:
        return "seen"

    def training_data(self, experience: clbench.Experience) -> clbench.TrainingData:
        return "read"

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        if experience.index == 0:
            return
        network = model.in_evaluation()
        with torch.no_grad():
            parts = [(network.blocks(x).float(), y) for x, y in experience.samples.batches(500)]
            features, labels = (torch.cat(part) for part in zip(*parts, strict=True))
            new = range(experience.old_classes, experience.seen_classes)
            classes = [features[labels == label] for label in new]
            weight, bias = model.head.weight[: new.start], model.head.bias[: new.start]
            model.head.assign(new.start, *self.rows(weight, bias, classes))

    def rows(self, old: Tensor, old_bias: Tensor, classes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return rows (classes, f) and biases (classes,) for new classes from the features (n, f) of each.

        `old` (C, f) and `old_bias` (C,) are the rows and biases of the old classes.
        """
        centre = old.mean(dim=0)  # w̄
        spread = (old - centre).norm(dim=1).mean() if len(old) > 1 else centre.norm()  # ρ
        length = self.config.scale * spread
        rows, biases = [], []
        for phi in classes:
            directions = F.normalize(phi, dim=1)
            total = directions.sum(dim=0)  # (f,)
            rows.append(centre + length * F.normalize(total, dim=0))
            others = total - directions if len(phi) > 1 else directions  # (n, f), the direction of μ̂₋ₓ
            without = (phi * (centre + length * F.normalize(others, dim=1))).sum(dim=1)
            margin = (phi @ old.T + old_bias).max(dim=1).values - without  # m(x), (n,)
            deviation = margin.std() if len(phi) > 1 else 0.0
            biases.append(margin.mean() + self.config.deviations * deviation)
        return torch.stack(rows), torch.stack(biases).mean().expand(len(classes))
