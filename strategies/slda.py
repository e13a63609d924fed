"""Deep SLDA: the trunk is frozen after the first experience; a streaming linear discriminant classifies its features.

    score_c(x) = μ_cᵀ Λ φ(x) - ½ μ_cᵀ Λ μ_c,   Λ = ((1 - ε) Σ + ε I)⁻¹

μ_c is the mean of the features φ of class c; Σ is their covariance around μ_c, shared by all classes.

Source: Hayes & Kanan 2020 (arXiv 1909.01520), equations 1 to 4.
Variant: the trunk is trained on the first experience with the recipe unless it is frozen from the start; the paper's is
pretrained on ImageNet. Σ is the exact covariance of all data so far around the class means, including classes that
return in the domain-incremental setting. The paper updates it sample by sample around the current means, which changes
up to a third of the predictions on a short stream.
"""

from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn

import clbench
from clbench.networks.classifiers import LinearScores


@clbench.config
class Config:
    shrinkage: Annotated[float, Gt(0), Le(1)] = 1e-4
    """ε, shrinkage of the covariance; dimensionless. The paper uses 1e-4."""


class SLDA(clbench.FeatureStrategy[Config]):
    statistics = "small"

    def start(self, model: clbench.Network) -> None:
        super().start(model)
        self.means: dict[int, Tensor] = {}
        self.counts: dict[int, int] = {}
        self.scatter = torch.zeros(0)

    def learn(self, features: Tensor, labels: Tensor, experience: clbench.Experience) -> nn.Module:
        phi = features.double()
        if not self.means:
            self.scatter = phi.new_zeros((phi.shape[1], phi.shape[1]))
        for label in labels.unique().tolist():
            self.update(label, phi[labels == label])
        covariance = self.scatter / sum(self.counts.values())
        eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        precision = torch.linalg.inv((1 - self.config.shrinkage) * covariance + self.config.shrinkage * eye)
        means = torch.stack([self.means[label] for label in range(experience.seen_classes)])
        bias = -0.5 * (means @ precision * means).sum(dim=1)  # (classes,)
        return LinearScores(means @ precision, bias)

    def update(self, label: int, own: Tensor) -> None:
        """Add the features of a class, (n, f), to its mean and to the scatter around the means."""
        mean, count = own.mean(dim=0), len(own)
        centred = own - mean
        self.scatter += centred.T @ centred
        if label in self.means:
            earlier, apart = self.counts[label], mean - self.means[label]
            count += earlier
            share = len(own) / count
            self.scatter += earlier * share * torch.outer(apart, apart)
            mean = self.means[label] + share * apart
        self.means[label], self.counts[label] = mean, count
