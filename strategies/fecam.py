"""FeCAM: each class is a Gaussian over the trunk's features; the nearest in Mahalanobis distance is predicted.

    ŷ = argmin_c (φ̃(x) - μ̃_c)ᵀ N(Σ_c)⁻¹ (φ̃(x) - μ̃_c),   φ̃ = φ^β / ‖φ^β‖
    Σ_c ← Σ_c + γ₁ V₁ I + γ₂ V₂ (1 - I),   N(Σ)_ij = Σ_ij / (σ_i σ_j)

Σ_c is the covariance of φ^β in class c; V₁ is the mean of its variances, V₂ that of its other entries.

Source: Goswami et al. 2023 (arXiv 2309.14062) and the authors' code, with its values for many samples per class.
Variant: Σ_c is shrunk once; that code shrinks it twice. As there, μ̃_c is the mean of φ raised to the power β, and both
it and φ^β are scaled to length 1. A negative feature keeps its sign: φ^β is sign(φ)|φ|^β. The trunk is trained on the
first experience with the recipe unless it is frozen from the start. A matrix is stored for each class: classes x f x f
values of 4 bytes, 655 MB for 100 classes and 1,280 features. The domain-incremental setting is refused.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

import clbench
from clbench.networks.classifiers import Mahalanobis, signed_power


@clbench.config
class Config:
    power: Annotated[float, Gt(0), Le(1)] = 0.5
    """β of Tukey's transformation; 1 disables it. The authors' code uses 0.5."""

    variance_shrinkage: Annotated[float, Gt(0)] = 1.0
    """γ₁, multiple of the mean variance that is added to each variance. The authors' code uses 1."""

    covariance_shrinkage: Annotated[float, Ge(0)] = 1.0
    """γ₂, multiple of the mean covariance that is added to each covariance. The authors' code uses 1."""


class FeCAM(clbench.FeatureStrategy[Config]):
    only_new_classes = True

    @classmethod
    def check_protocol(cls, config: Config, recipe: clbench.Recipe, setting: clbench.Setting) -> None:
        if setting == "domain_incremental":
            raise clbench.UsageError("fecam cannot update the covariance of a class with more data")

    def start(self, model: clbench.Network) -> None:
        super().start(model)
        self.means = self.precisions = torch.zeros(0)  # (classes, f) and (classes, f, f)

    def learn(self, features: Tensor, labels: Tensor, experience: clbench.Experience) -> nn.Module:
        means, precisions = list(self.means), list(self.precisions)
        for label in range(experience.old_classes, experience.seen_classes):
            own = features[labels == label].double()
            means.append(F.normalize(signed_power(own.mean(dim=0), self.config.power), dim=0).float())
            sigma = self.shrunk(covariance(signed_power(own, self.config.power)))
            precisions.append(torch.linalg.inv(normalized(sigma)).float())
        self.means, self.precisions = torch.stack(means), torch.stack(precisions)
        return Mahalanobis(self.means, self.precisions, self.config.power)

    def operations(self, images: int, classes: int, features: int) -> float:
        return 2 * images * features**2 + 2 * classes * features**3  # covariances, and their inverses

    def shrunk(self, sigma: Tensor) -> Tensor:
        """Return Σ + γ₁ V₁ I + γ₂ V₂ (1 - I), (f, f)."""
        size = len(sigma)
        eye = torch.eye(size, dtype=sigma.dtype, device=sigma.device)
        variance = sigma.trace() / size
        covariance = (sigma.sum() - sigma.trace()) / max(size * (size - 1), 1)
        return (
            sigma
            + self.config.variance_shrinkage * variance * eye
            + self.config.covariance_shrinkage * covariance * (1 - eye)
        )


def covariance(x: Tensor) -> Tensor:
    """Return the unbiased covariance of rows (n, f); 0 for a single row."""
    centred = x - x.mean(dim=0)
    return centred.T @ centred / max(len(x) - 1, 1)


def normalized(sigma: Tensor) -> Tensor:
    """Return the correlations; a feature without variance is correlated with no other."""
    deviation = sigma.diagonal().sqrt()
    correlation = sigma / torch.outer(deviation, deviation).clamp(min=torch.finfo(sigma.dtype).tiny)
    return correlation.fill_diagonal_(1)
