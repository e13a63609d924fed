"""The head: a linear layer with a row per class, which grows with the classes."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class OtherRows(nn.Module):
    """Stands for all rows of a fixed head but those from `first` to `end` - 1, among the modules to freeze."""

    def __init__(self, first: int, end: int) -> None:
        super().__init__()
        self.first, self.end = first, end


class Head(nn.Module):
    """A linear layer with a row per class seen so far; or, fixed, per class of the whole stream from the start.

    The rows of earlier experiences (`old`, None in experience 0) and those of the current one (`new`) are separate
    layers, so that a strategy can regularize, freeze or warm up either; their outputs are concatenated. In a fixed
    head all rows exist from the start: `old` has them all, and `new` is None.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.fixed = False
        self.seen = 0
        """Number of classes seen so far."""

        self.old: nn.Linear | None = None
        self.new: nn.Linear | None = None

    @property
    def classes(self) -> int:
        """Number of rows."""
        return sum(part.out_features for part in (self.old, self.new) if part is not None)

    @property
    def weight(self) -> Tensor:
        """All rows, (classes, features)."""
        return torch.cat([part.weight for part in (self.old, self.new) if part is not None])

    @property
    def bias(self) -> Tensor:
        """All biases, (classes,)."""
        return torch.cat([part.bias for part in (self.old, self.new) if part is not None])

    def all_but(self, first: int, end: int) -> nn.Module | None:
        """Return what a strategy freezes so that of all rows only the new ones, `first` to `end` - 1, train.

        In a growing head these are `old`, None in experience 0.
        """
        return OtherRows(first, end) if self.fixed else self.old

    def grow(self, classes: int, seed: int) -> None:
        """Add a row for each of `classes` new classes, drawn from `seed` as torch initializes a linear layer.

        U(-1/√features, 1/√features) for weights and biases. Existing rows keep their values.
        """
        self.seen += classes
        if self.fixed:
            return
        device = self.new.weight.device if self.new is not None else torch.device("cpu")
        if self.new is not None:
            with torch.no_grad():
                weight, bias = self.weight, self.bias
                self.old = _empty_linear(self.features, len(weight)).to(device)
                self.old.weight.copy_(weight)
                self.old.bias.copy_(bias)
        self.new = _drawn_linear(self.features, classes, seed).to(device)

    def share(self) -> None:
        """Treat the rows of the first experience, which all later ones share, as old."""
        if not self.fixed:
            self.old, self.new = self.new, None

    def fix(self, classes: int, seed: int) -> None:
        """Create all rows at once, before the first `grow`, initialized from `seed` as in `grow`."""
        self.fixed = True
        self.old = _drawn_linear(self.features, classes, seed)

    def forward(self, features: Tensor) -> Tensor:
        """(n, features) -> (n, classes)."""
        parts = [cast(Tensor, part(features)) for part in (self.old, self.new) if part is not None]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _empty_linear(features: int, classes: int) -> nn.Linear:
    # What it draws is overwritten, and the global generator stays as it is. torch.nn.utils.skip_init would do, but
    # imports sympy for it, half a second.
    with torch.random.fork_rng(devices=[]):
        return nn.Linear(features, classes)


def _drawn_linear(features: int, classes: int, seed: int) -> nn.Linear:
    layer = _empty_linear(features, classes)
    generator = torch.Generator().manual_seed(seed)
    bound = features**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer
