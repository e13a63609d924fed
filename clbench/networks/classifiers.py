"""Classifiers of a trunk's features that replace the head: modules of fixed tensors, which can be saved and exported.

Each maps features (n, f) to scores (n, classes), of which the highest is the prediction. It has only buffers, named
after the arguments that they come from, so that `rebuild` can recreate it from its class's name, `settings` and
`state_dict`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}


class LinearScores(nn.Module):
    """W h + b, of the features themselves (h = φ) or of a random expansion: h = σ(Pᵀ φ), for each activation σ."""

    weight: Tensor
    bias: Tensor | None
    projection: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        projection: Tensor | None = None,
        activations: Sequence[str] = (),
    ) -> None:
        """`weight` (classes, h) and `bias` (classes,).

        With a `projection` (f, m), h consists of the values of each of the `activations` in turn, m each.
        """
        super().__init__()
        self.activations = tuple(activations)
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", None if bias is None else bias.float())
        self.register_buffer("projection", None if projection is None else projection.float())

    def settings(self) -> dict[str, Any]:
        """Return the arguments that are not tensors."""
        return {"activations": list(self.activations)}

    def forward(self, features: Tensor) -> Tensor:
        """(n, f) -> (n, classes)."""
        h = features.float()
        if self.projection is not None:
            projected = h @ self.projection  # (n, m)
            h = torch.cat([ACTIVATIONS[name](projected) for name in self.activations], dim=1)
        scores = h @ self.weight.T
        return scores if self.bias is None else scores + self.bias


class NearestMean(nn.Module):
    """The cosine of a feature vector and each class's mean: highest for the nearest one, all scaled to length 1."""

    means: Tensor

    def __init__(self, means: Tensor) -> None:
        """`means` (classes, f), of any length."""
        super().__init__()
        self.register_buffer("means", means.float())

    def settings(self) -> dict[str, Any]:
        """Return the arguments that are not tensors."""
        return {}

    def forward(self, features: Tensor) -> Tensor:
        """(n, f) -> (n, classes)."""
        return F.normalize(features.float(), dim=1) @ F.normalize(self.means, dim=1).T


class Mahalanobis(nn.Module):
    """Minus the squared Mahalanobis distance to each class's mean: -(φ - μ_c)ᵀ P_c (φ - μ_c).

    φ is |x|^power with the sign of x, for the features x, scaled to length 1.
    """

    means: Tensor
    precisions: Tensor

    def __init__(self, means: Tensor, precisions: Tensor, power: float) -> None:
        """`means` (classes, f) in the scale of φ; `precisions` (classes, f, f)."""
        super().__init__()
        self.power = power
        self.register_buffer("means", means.float())
        self.register_buffer("precisions", precisions.float())

    def settings(self) -> dict[str, Any]:
        """Return the arguments that are not tensors."""
        return {"power": self.power}

    def forward(self, features: Tensor) -> Tensor:
        """(n, f) -> (n, classes)."""
        phi = F.normalize(signed_power(features.float(), self.power), dim=1)
        # Class by class: the differences to all means at once would be (n, classes, f).
        distances = []
        for mean, precision in zip(self.means.unbind(), self.precisions.unbind(), strict=True):
            difference = phi - mean
            distances.append((difference @ precision * difference).sum(dim=1))
        return -torch.stack(distances, dim=1)


def signed_power(x: Tensor, power: float) -> Tensor:
    """Return |x|^power with the sign of x: Tukey's ladder of powers, continued to negative values."""
    return x if power == 1 else x.sign() * x.abs().pow(power)


CLASSIFIERS: dict[str, Callable[..., nn.Module]] = {
    cls.__name__: cls for cls in (LinearScores, NearestMean, Mahalanobis)
}
"""The classes of this file by name."""


def rebuild(name: str, settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    """Return the classifier of the class `name` with these `settings` and this `state_dict`, in evaluation mode.

    Raises ValueError if there is no such class, or if it does not have these settings and tensors.
    """
    if name not in CLASSIFIERS:
        raise ValueError(f"no classifier '{name}' (known: {', '.join(CLASSIFIERS)})")
    try:
        return CLASSIFIERS[name](**state, **settings).eval()
    except TypeError as error:
        raise ValueError(f"the classifier {name} does not have these settings and tensors: {error}") from None
