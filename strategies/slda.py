"""Deep SLDA: the trunk is frozen after the first experience; a streaming linear discriminant classifies its features.

    score_c(x) = μ_cᵀ Λ φ(x) - ½ μ_cᵀ Λ μ_c,   Λ = ((1 - ε) Σ + ε I)⁻¹

μ_c is the mean of the features φ of class c; Σ is their covariance around μ_c, shared by all classes.

Source: Hayes & Kanan 2020 (arXiv 1909.01520), equations 1 to 4.
Variant: the trunk is trained on the first experience with the recipe, where the paper's is pretrained on ImageNet.
Σ is the exact covariance of all data so far around the means of their classes. The paper updates it sample by sample,
around the means as they are at the time, which on a short stream changes up to a third of the answers.
"""

from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor

import clbench


@clbench.config
class Config:
    shrinkage: Annotated[float, Gt(0), Le(1)] = 1e-4
    """ε, shrinkage of the covariance; dimensionless. The paper uses 1e-4."""


class SLDA(clbench.Strategy[Config]):
    def start(self, model: clbench.Network) -> None:
        self.means: dict[int, Tensor] = {}
        self.scatter = torch.zeros(0)
        self.count = 0

    def first_loss(self) -> clbench.Classes:
        return "seen"

    def training_data(self, experience: clbench.Experience) -> clbench.TrainingData:
        return "read"

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        network = model.in_evaluation()
        with torch.no_grad():
            parts = [(network.blocks(x).double(), y) for x, y in experience.samples.batches(500)]
        phi, y = (torch.cat(part) for part in zip(*parts, strict=True))
        if not self.means:
            self.scatter = phi.new_zeros((phi.shape[1], phi.shape[1]))
        for label in y.unique().tolist():
            own = phi[y == label]
            self.means[label] = own.mean(dim=0)
            centred = own - self.means[label]
            self.scatter += centred.T @ centred
        self.count += len(y)
        covariance = self.scatter / self.count
        eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        precision = torch.linalg.inv((1 - self.config.shrinkage) * covariance + self.config.shrinkage * eye)
        means = torch.stack([self.means[label] for label in range(experience.seen_classes)])
        self.weight = (means @ precision).float()  # (classes, features)
        self.bias = (-0.5 * (means @ precision * means).sum(dim=1)).float()  # (classes,)

    def predict(self, model: clbench.Network, x: Tensor, experience: clbench.Experience) -> Tensor:
        return model.blocks(x).float() @ self.weight.T + self.bias
