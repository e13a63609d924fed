"""The head: a linear layer with a row per class, which grows with the classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.networks.initialization import Drawn, draw_weights


class OtherRows(nn.Module):
    """Stands, among the modules to freeze, for all rows of a fixed head except `first` to `end` - 1."""

    def __init__(self, first: int, end: int) -> None:
        super().__init__()
        self.first, self.end = first, end


def frozen_weights(parts: Sequence[nn.Module]) -> tuple[frozenset[int], frozenset[tuple[int, int]]]:
    """Return what distinguishes frozen modules from others: their parameters, and rows of a fixed head."""
    rows = frozenset((part.first, part.end) for part in parts if isinstance(part, OtherRows))
    return frozenset(id(weight) for part in parts for weight in part.parameters()), rows


class Head(nn.Module):
    """A linear layer with a row per class seen so far; or, fixed, per class of the whole stream from the start.

    The rows of earlier experiences (`old`, None in experience 0) and those of the current one (`new`) are separate
    layers, so that a strategy can regularize, freeze or warm up either; their outputs are concatenated. In a fixed
    head all rows exist from the start: `old` has them all, as one layer or as one for each experience, and `new` is
    None.
    """

    initialization: Literal["torch", "lecun"] | Drawn = "torch"
    """How rows of f weights are drawn: weights and biases from U(-1/√f, 1/√f), as torch initializes a linear layer;
    weights from U(-√(3/f), √(3/f)) (LeCun et al. 1998) and biases of 0, as in PyCIL; or as `draw_weights` does."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.fixed = False
        self.seen = 0
        """Number of classes seen so far."""

        self.old: nn.Linear | LayerPerExperience | None = None
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
        """Return what a strategy freezes so that only the new rows, `first` to `end` - 1, train.

        In a growing head this is `old`, which is None in experience 0.
        """
        return OtherRows(first, end) if self.fixed else self.old

    def grow(self, classes: int, seed: int) -> None:
        """Add a row for each of `classes` (possibly 0) new classes, drawn from `seed`. Existing rows keep their values
        and become old ones."""
        self.seen += classes
        if isinstance(self.old, LayerPerExperience):
            self.old.reached += 1
        if self.fixed:
            return
        device = self.new.weight.device if self.new is not None else torch.device("cpu")
        if self.new is not None:
            with torch.no_grad():
                weight, bias = self.weight, self.bias
                self.old = linear_layer(weight, bias).to(device)
        self.new = self._drawn(classes, seed).to(device) if classes else None

    def share(self) -> None:
        """Treat the rows of the first experience, which all later ones share, as old."""
        if not self.fixed:
            self.old, self.new = self.new, None

    def fix(self, classes: int, seed: int) -> None:
        """Create all rows at once, before the first `grow`, drawn from `seed`."""
        self.fixed = True
        self.old = self._drawn(classes, seed)

    def divide(self, sizes: Sequence[int]) -> None:
        """Divide a fixed head, before the first `grow`, into a layer for each experience, of `sizes` rows."""
        rows = zip(self.weight.split(list(sizes)), self.bias.split(list(sizes)), strict=True)
        self.old = LayerPerExperience([linear_layer(weight, bias) for weight, bias in rows])

    @torch.no_grad()
    def assign(self, first: int, weight: Tensor, bias: Tensor) -> None:
        """Set the rows from `first` on to `weight` (classes, features) and `bias` (classes,)."""
        end, position = first + len(weight), 0
        for layer in self._linear():
            start, stop = max(first, position), min(end, position + layer.out_features)
            if start < stop:
                layer.weight[start - position : stop - position] = weight[start - first : stop - first]
                layer.bias[start - position : stop - position] = bias[start - first : stop - first]
            position += layer.out_features

    def _linear(self) -> Iterator[nn.Linear]:
        for part in (self.old, self.new):
            if isinstance(part, LayerPerExperience):
                yield from part.linear
            elif part is not None:
                yield part

    def _drawn(self, classes: int, seed: int) -> nn.Linear:
        layer = _empty_linear(self.features, classes)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            if self.initialization == "lecun":
                bound = (3 / self.features) ** 0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.zero_()
            elif self.initialization == "torch":
                bound = self.features**-0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
            else:
                draw_weights(layer, self.initialization, generator)
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """(n, features) -> (n, classes)."""
        parts = [cast(Tensor, part(features)) for part in (self.old, self.new) if part is not None]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class LayerPerExperience(nn.Module):
    """All rows of a fixed head, with a separate layer for those of each experience.

    The logits of future experiences give their layers no gradient, not even one of 0, so that an optimizer skips those
    parameters until their experience, or a penalty on them, comes.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.reached = 0
        """Number of experiences so far."""

    @property
    def out_features(self) -> int:
        """Number of rows."""
        return len(self.bias)

    @property
    def weight(self) -> Tensor:
        """All rows, (classes, features)."""
        return torch.cat([layer.weight for layer in self.linear])

    @property
    def bias(self) -> Tensor:
        """All biases, (classes,)."""
        return torch.cat([layer.bias for layer in self.linear])

    @property
    def linear(self) -> list[nn.Linear]:
        """The layers, in the order of the experiences."""
        return [cast(nn.Linear, layer) for layer in self.layers]

    def forward(self, features: Tensor) -> Tensor:
        """(n, features) -> (n, classes)."""
        logits = [
            F.linear(features, layer.weight.detach(), layer.bias.detach())
            if self.training and position >= self.reached
            else layer(features)
            for position, layer in enumerate(self.linear)
        ]
        return torch.cat(logits, dim=1)


def linear_layer(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return a layer with copies of `weight` (outputs, inputs) and `bias` (outputs,)."""
    layer = _empty_linear(weight.shape[1], len(weight))
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def _empty_linear(features: int, classes: int) -> nn.Linear:
    # The values that it draws are overwritten, and the global generator is left unchanged. torch.nn.utils.skip_init
    # would work too, but imports sympy, which takes half a second.
    with torch.random.fork_rng(devices=[]):
        return nn.Linear(features, classes)
