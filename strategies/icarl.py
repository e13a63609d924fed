"""iCaRL: exemplars chosen by herding, distillation with sigmoids, and nearest-mean-of-exemplars classification.

    L = 1/C Σ_c BCE(σ(o_c), t_c),   t_c = σ(o_c^old) for old classes, [y = c] for new ones;   ŷ = argmin_c ‖φ(x) - μ_c‖

φ(x) are the trunk's features, L2-normalised, and μ_c is their mean over the exemplars of class c, normalised again.

Source: Rebuffi et al. 2017 (arXiv 1611.07725), algorithms 1 to 5.
Variant: the loss is averaged over the C classes seen so far. Herding and class means use no augmentation. Herding
compares averages of φ as they are; the paper normalises them again.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn

import clbench
from clbench import losses
from clbench.base.exemplars import unit_features
from clbench.networks.classifiers import NearestMean


@clbench.config
class Config:
    memory: Annotated[int, Ge(1)] = 200
    """K, capacity of the exemplar memory, divided equally among classes; images."""

    share_of: Literal["seen", "stream"] = "seen"
    """Whether the classes seen so far share the whole memory (the paper), or each class of the stream has its own
    share from the start."""

    temperature: Annotated[float, Gt(0)] = 1.0
    """T of t_c = σ(o_c^old / T); dimensionless. The paper uses 1."""


class ICaRL(clbench.Strategy[Config]):
    only_new_classes = True
    presets = {
        "vandeven2022": {
            "source": "van de Ven et al. 2022 (Nature Machine Intelligence), its code; there Σ_c is not divided by C",
            "loss": "1/C Σ_c BCE(σ(o_c), t_c), t_c = σ(o_c^old / 2) for old classes, [y = c] for new ones; 100 of each",
            "set": {"memory": 1000, "share_of": "stream", "temperature": 2.0},
        },
    }

    @classmethod
    def check_protocol(cls, config: Config, recipe: clbench.Recipe, setting: clbench.Setting) -> None:
        if setting == "domain_incremental":
            raise clbench.UsageError("icarl uses labels only for new outputs; the domain-incremental setting has none")

    def start(self, model: clbench.Network) -> None:
        self.exemplars = clbench.ExemplarMemory(self.config.memory)

    def training_data(self, experience: clbench.Experience) -> clbench.TrainingData:
        return "with_memory"

    def teacher_output(self, model: clbench.Network, x: Tensor, experience: clbench.Experience) -> Tensor:
        logits: Tensor = model(x)[:, : experience.old_classes]
        return (logits / self.config.temperature).sigmoid()  # (n, old classes)

    def loss(self, batch: clbench.Batch) -> Tensor:
        return losses.binary_cross_entropy(
            batch.logits[:, : batch.experience.seen_classes], batch.y, batch.teacher_outputs
        )

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        self.exemplars.share_by_herding(model, experience, self.config.share_of)
        network = model.in_evaluation()
        with torch.no_grad():
            parts = self.exemplars.images.split(500)
            stored = torch.cat([unit_features(network, experience.samples.scaled(part)) for part in parts])
        labels = self.exemplars.labels
        means = [stored[labels == label].mean(dim=0) for label in range(experience.seen_classes)]
        self.means = F.normalize(torch.stack(means), dim=1)  # (classes, features)

    def classifier(self, model: clbench.Network, experience: clbench.Experience) -> nn.Module:
        return NearestMean(self.means)  # by the cosine; φ and μ have length 1, so the distance gives the same order

    def predict_within(self, model: clbench.Network, x: Tensor, experience: clbench.Experience) -> Tensor:
        return model(x)
