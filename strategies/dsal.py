"""DS-AL: the regression of ACIL, plus a second stream that regresses on the residual of the first.

    s(x) = X_m W_m + C X_c W_c,   X_m = max(0, φ P),   X_c = tanh(φ P)
    W = (XᵀX + γI)⁻¹ XᵀY        in either stream, over all samples so far

The main stream's Y is one-hot. The compensation stream's is the residual Y - X_m W_m of the main stream right after the
experience that contained the sample, with 0 for the classes that were old then ("previous label cleansing").

Source: Zhuang et al. 2024 (arXiv 2403.17503), whose recursions have these solutions, and the authors' code.
Variant: XᵀX and XᵀY are kept instead of the inverse and the weights, as in `acil`. P is drawn from U(-1/√f, 1/√f)
for f features, without bias, as in that code. The trunk is trained on the first experience with the recipe unless it is
frozen from the start. The domain-incremental setting, where no class is new, is refused.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn

import clbench
from clbench.networks.classifiers import LinearScores
from clbench.ridge import RidgeRegression


@clbench.config
class Config:
    expansion: Annotated[int, Ge(1)] = 8192
    """Columns of P. The authors' code uses 8192 for CIFAR-100."""

    ridge: Annotated[float, Gt(0)] = 0.1
    """γ of the main stream. The authors' code uses 0.1."""

    compensation_ridge: Annotated[float, Gt(0)] = 0.1
    """γ of the compensation stream. The authors' code uses 0.1."""

    compensation: Annotated[float, Ge(0)] = 0.6
    """C, weight of the compensation stream. The authors use 0.6 for CIFAR-100."""


class DSAL(clbench.FeatureStrategy[Config]):
    in_recipe = {"quick": {"expansion": 2048}}

    @classmethod
    def check_protocol(cls, config: Config, recipe: clbench.Recipe, setting: clbench.Setting) -> None:
        if setting == "domain_incremental":
            raise clbench.UsageError("dsal compensates for new classes, and the domain-incremental setting has none")

    def start(self, model: clbench.Network) -> None:
        super().start(model)
        self.projection, self.main, self.rest = torch.zeros(0), RidgeRegression(), RidgeRegression()

    def learn(self, features: Tensor, labels: Tensor, experience: clbench.Experience) -> nn.Module:
        if experience.index == 0:
            f = features.shape[1]
            self.projection = torch.empty(f, self.config.expansion).uniform_(-(f**-0.5), f**-0.5).to(features)  # P
        y = F.one_hot(labels, experience.seen_classes).double()  # (n, classes)
        batches = list(zip(features.double().split(1000), y.split(1000), strict=True))
        for phi, targets in batches:
            self.main.add(torch.relu(phi @ self.projection.double()), targets)
        weight = self.main.weights(self.config.ridge)  # W_m, (expansion, classes)
        for phi, targets in batches:
            projected = phi @ self.projection.double()
            residual = targets - torch.relu(projected) @ weight
            residual[:, : experience.old_classes] = 0
            self.rest.add(torch.tanh(projected), residual)
        rest = self.config.compensation * self.rest.weights(self.config.compensation_ridge)  # C W_c
        both = torch.cat([weight, rest])  # (2 expansion, classes)
        return LinearScores(both.T, projection=self.projection, activations=("relu", "tanh"))

    def operations(self, images: int, classes: int, features: int) -> float:
        return 2 * (images * self.config.expansion**2 + self.config.expansion**3 / 3)  # as in acil, for each stream
