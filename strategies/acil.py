"""ACIL: recursive ridge regression on a random expansion of the features, equal to one regression on all data.

    R ← R - R Xᵀ (I + X R Xᵀ)⁻¹ X R,   W ← W + R Xᵀ (Y - X W),   X = max(0, φ P)

R starts as I/γ and W as 0, with a column for each class that comes. After every experience W is the solution of
min ‖Y - XW‖² + γ‖W‖² over all data so far, of which only R is kept.

Source: Zhuang et al. 2022 (arXiv 2205.14922), equations 9 and 10; the update of W is in the equal form of Zhuang et al.
2024 (arXiv 2403.15706), which the authors' code has too.
Variant: P is drawn from U(-1/√f, 1/√f) for f features, and there is no bias, as in the authors' code. The trunk is
trained on the first experience with the recipe unless it is frozen from the start. R takes 540 MB at the paper's
expansion, and 1,000 samples some 10 s on two cores. Domain-incrementally the regression goes over all domains so far.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn

import clbench
from clbench.networks.classifiers import LinearScores


@clbench.config
class Config:
    expansion: Annotated[int, Ge(1)] = 8192
    """Columns of P. The authors' code uses 8192 for CIFAR-100."""

    ridge: Annotated[float, Gt(0)] = 0.1
    """γ, weight of ‖W‖². The authors' code uses 0.1."""


class ACIL(clbench.FeatureStrategy[Config]):
    def start(self, model: clbench.Network) -> None:
        super().start(model)
        self.projection = self.inverse = self.weight = torch.zeros(0)

    def learn(self, features: Tensor, labels: Tensor, experience: clbench.Experience) -> nn.Module:
        if experience.index == 0:
            f, size = features.shape[1], self.config.expansion
            self.projection = torch.empty(f, size).uniform_(-(f**-0.5), f**-0.5).to(features)  # P
            self.inverse = torch.eye(size, dtype=torch.float64, device=features.device) / self.config.ridge  # R
            self.weight = self.inverse[:, :0]  # (expansion, classes)
        self.weight = F.pad(self.weight, (0, experience.seen_classes - self.weight.shape[1]))
        y = F.one_hot(labels, experience.seen_classes).double()  # (n, classes)
        for phi, targets in zip(features.split(1000), y.split(1000), strict=True):
            x = torch.relu(phi.double() @ self.projection.double())  # (n, expansion)
            self.weight = regressed(self.inverse, self.weight, x, targets)
        return LinearScores(self.weight.T, projection=self.projection, activations=("relu",))


def regressed(inverse: Tensor, weight: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return W after samples `x` (n, expansion) with targets `y` (n, classes); change `inverse`, R, in place."""
    xr = x @ inverse  # (n, expansion)
    gain = torch.eye(len(x), dtype=x.dtype, device=x.device) + xr @ x.T
    inverse -= xr.T @ torch.linalg.solve(gain, xr)
    return weight + inverse @ (x.T @ (y - x @ weight))
