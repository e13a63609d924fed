"""DS-AL: ACIL's recursive regression, and a second stream that regresses on what the first one leaves.

    s(x) = X_m W_m + C X_c W_c,   X_m = max(0, φ P),   X_c = tanh(φ P)
    R ← R - R Xᵀ (I + X R Xᵀ)⁻¹ X R,   W ← W + R Xᵀ (Y - X W)        in either stream

The main stream's Y is one-hot. The compensation stream's is the residual Y - X_m W_m of the main stream after it has
learned the experience, with 0 for all old classes ("previous label cleansing").

Source: Zhuang et al. 2024 (arXiv 2403.17503) and the authors' code.
Variant: P is drawn from U(-1/√f, 1/√f) for f features, without bias, as in that code. The trunk is trained on
the first experience with the recipe unless it is frozen from the start. Takes twice the time and memory of acil.
Domain-incrementally, where no class is new, it is refused.
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
    """Weight of ‖W_m‖². The authors' code uses 0.1."""

    compensation_ridge: Annotated[float, Gt(0)] = 0.1
    """Weight of ‖W_c‖². The authors' code uses 0.1."""

    compensation: Annotated[float, Ge(0)] = 0.6
    """C, weight of the compensation stream. The authors use 0.6 for CIFAR-100."""


class DSAL(clbench.FeatureStrategy[Config]):
    @classmethod
    def check_protocol(cls, config: Config, recipe: clbench.Recipe, setting: clbench.Setting) -> None:
        if setting == "domain_incremental":
            raise clbench.UsageError("dsal compensates for new classes, and domain-incrementally there are none")

    def start(self, model: clbench.Network) -> None:
        super().start(model)
        self.projection = self.main = self.rest = self.main_inverse = self.rest_inverse = torch.zeros(0)

    def learn(self, features: Tensor, labels: Tensor, experience: clbench.Experience) -> nn.Module:
        if experience.index == 0:
            f, size = features.shape[1], self.config.expansion
            self.projection = torch.empty(f, size).uniform_(-(f**-0.5), f**-0.5).to(features)  # P
            eye = torch.eye(size, dtype=torch.float64, device=features.device)
            self.main_inverse, self.rest_inverse = eye / self.config.ridge, eye / self.config.compensation_ridge
            self.main = self.rest = eye[:, :0]  # W_m and W_c, (expansion, classes)
        new = experience.seen_classes - experience.old_classes
        self.main, self.rest = F.pad(self.main, (0, new)), F.pad(self.rest, (0, new))
        y = F.one_hot(labels, experience.seen_classes).double()  # (n, classes)
        batches = list(zip(features.split(1000), y.split(1000), strict=True))
        for phi, targets in batches:
            x = torch.relu(phi.double() @ self.projection.double())
            self.main = regressed(self.main_inverse, self.main, x, targets)
        for phi, targets in batches:
            projected = phi.double() @ self.projection.double()
            residual = targets - torch.relu(projected) @ self.main
            residual[:, : experience.old_classes] = 0
            self.rest = regressed(self.rest_inverse, self.rest, torch.tanh(projected), residual)
        weight = torch.cat([self.main, self.config.compensation * self.rest])  # (2 expansion, classes)
        return LinearScores(weight.T, projection=self.projection, activations=("relu", "tanh"))


def regressed(inverse: Tensor, weight: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return W after samples `x` (n, expansion) with targets `y` (n, classes); change `inverse`, R, in place."""
    xr = x @ inverse  # (n, expansion)
    gain = torch.eye(len(x), dtype=x.dtype, device=x.device) + xr @ x.T
    inverse -= xr.T @ torch.linalg.solve(gain, xr)
    return weight + inverse @ (x.T @ (y - x @ weight))
