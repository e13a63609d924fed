"""RanPAC: class prototypes of randomly projected features, decorrelated by their Gram matrix.

    s(x) = h(x)ᵀ (G + λI)⁻¹ C,   h(x) = max(0, Wᵀ φ(x)),   G = Σ h hᵀ,   C = Σ h yᵀ

W is drawn once from N(0, 1), the sums range over all data so far, and y is one-hot.

Source: McDonnell et al. 2023 (arXiv 2307.02251), algorithm 1, and the authors' code. The λ of an experience is the one
among 10⁻⁸, 10⁻⁷, …, 10⁸ with the lowest squared error on a fifth of the experience's features after a fit to the rest.
Variant: instead of being adapted in the first experience, the trunk is trained there with the recipe unless frozen from
the start. The fifth is drawn at random. Everything is float64: G takes 800 MB at the paper's 10,000 projections,
and 32 MB at the 2,000 of recipe `quick`. In the domain-incremental setting the sums cover all domains so far.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn

import clbench
from clbench.networks.classifiers import LinearScores
from clbench.ridge import RidgeRegression, plus_diagonal

CANDIDATES = tuple(10.0**power for power in range(-8, 9))


@clbench.config
class Config:
    projections: Annotated[int, Ge(1)] = 10_000
    """M, number of random projections. The paper uses 10,000."""

    ridge: Annotated[float, Gt(0)] | Literal["chosen"] = "chosen"
    """λ; `chosen` selects it in each experience, as the paper does."""


class RanPAC(clbench.FeatureStrategy[Config]):
    in_recipe = {"quick": {"projections": 2000}}

    def start(self, model: clbench.Network) -> None:
        super().start(model)
        self.projection, self.regression = torch.zeros(0), RidgeRegression()

    def learn(self, features: Tensor, labels: Tensor, experience: clbench.Experience) -> nn.Module:
        if experience.index == 0:
            self.projection = torch.randn(features.shape[1], self.config.projections).to(features)  # W, (f, M)
        h = torch.relu(features.double() @ self.projection.double())  # (n, M)
        y = F.one_hot(labels, experience.seen_classes).double()  # (n, classes)
        self.regression.add(h, y)  # G and C
        weight = self.regression.weights(chosen_ridge(h, y) if self.config.ridge == "chosen" else self.config.ridge)
        return LinearScores(weight.T, projection=self.projection, activations=("relu",))

    def operations(self, images: int, classes: int, features: int) -> float:
        n, m = images, self.config.projections
        regression = n * m**2 + m**3 / 3  # G, and the decomposition of G + λI
        smaller = min(0.8 * n, m)  # of the two systems of `chosen_ridge`
        choice = 2 * 0.8 * n * m * smaller + len(CANDIDATES) * smaller**3 / 3
        return regression + (choice if self.config.ridge == "chosen" else 0)


def chosen_ridge(h: Tensor, y: Tensor) -> float:
    """Return the λ of CANDIDATES with the lowest squared error on a fifth of the rows of `h` (n, M) and `y`."""
    order = torch.randperm(len(h)).to(h.device)
    fitted, held = order[: int(0.8 * len(h))], order[int(0.8 * len(h)) :]
    train, test = h[fitted], h[held]
    # The weights are (HᵀH + λI)⁻¹ Hᵀy = Hᵀ(HHᵀ + λI)⁻¹ y: the smaller system is solved.
    dual = len(train) < h.shape[1]
    system, right = (train @ train.T, y[fitted]) if dual else (train.T @ train, train.T @ y[fitted])
    errors = []
    for ridge in CANDIDATES:
        factor, failed = torch.linalg.cholesky_ex(plus_diagonal(system, ridge))
        solution = torch.cholesky_solve(right, factor)
        weight = train.T @ solution if dual else solution
        errors.append(torch.inf if failed else float((test @ weight - y[held]).square().mean()))
    return CANDIDATES[errors.index(min(errors))]
