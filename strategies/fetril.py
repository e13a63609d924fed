"""FeTrIL: the trunk is frozen after the first experience; old classes are imitated by translated features of new ones.

    φ̂_p(x) = φ(x) + μ_p - μ_n,   n = argmax over new classes of cos(μ_n, μ_p)        for an old class p, x of class n
    L = CE(softmax(o), y)   over the features of the new classes and these pseudo-features of the old ones

μ_c is the mean of the features φ of class c.

Source: Petit et al. 2023 (arXiv 2211.13131), equation 1, with the selection FeTrIL¹.
Variant: the head is a fully connected layer, FeTrIL's "FC" classifier, which the recipe's steps train further from its
current weights; the paper's main classifier is a linear SVM. Each batch holds features of new classes and all their
translations, so that in an epoch every old class has as many pseudo-features as its n has samples. The trunk is trained
on the first experience with the recipe unless it is frozen from the start. The domain-incremental setting is refused.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import clbench


class FeTrIL(clbench.Strategy):
    statistics = "small"
    trains_trunk = True

    @classmethod
    def check_protocol(cls, config: object, recipe: clbench.Recipe, setting: clbench.Setting) -> None:
        if setting == "domain_incremental":
            raise clbench.UsageError("fetril imitates old classes, but all return in the domain-incremental setting")

    def start(self, model: clbench.Network) -> None:
        self.trains_trunk = len(model.blocks) > 0
        self.means: list[Tensor] = []

    def first_loss(self) -> clbench.Classes | None:
        return "seen" if self.trains_trunk else None

    def before_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        if experience.index > 0:
            self.remember(model, experience)

    def frozen(self, model: clbench.Network, experience: clbench.Experience, epoch: int) -> Sequence[nn.Module]:
        return tuple(model.blocks)

    def loss(self, batch: clbench.Batch) -> Tensor:
        logits, y = batch.logits, batch.y
        if old := batch.experience.old_classes:
            row, label, shift = self.translations(y, old)
            # The head is linear: a translated feature has the logits Wφ + b of the feature, plus W(μ_p - μ_n).
            pseudo = logits[row] + (shift @ batch.model.head.weight.T)[label]
            logits, y = torch.cat([logits, pseudo]), torch.cat([y, label])
        return replace(batch, logits=logits, y=y).cross_entropy()

    def translations(self, y: Tensor, old: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return which sample of a batch, (m,), imitates which old class, (m,), and μ_p - μ_n of each, (old, f)."""
        means = torch.stack(self.means)
        directions = F.normalize(means, dim=1)
        nearest = old + (directions[:old] @ directions[old:].T).argmax(dim=1)  # n of each old class, (old,)
        label, row = (nearest[:, None] == y).nonzero(as_tuple=True)
        return row, label, means[:old] - means[nearest]

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        if experience.index == 0:
            self.remember(model, experience)

    def remember(self, model: clbench.Network, experience: clbench.Experience) -> None:
        """Compute the means of the new classes' features."""
        network = model.in_evaluation()
        with torch.no_grad():
            parts = [(network.blocks(x).float(), y) for x, y in experience.samples.batches(500)]
        phi, y = (torch.cat(part) for part in zip(*parts, strict=True))
        self.means += [phi[y == label].mean(dim=0) for label in range(experience.old_classes, experience.seen_classes)]
