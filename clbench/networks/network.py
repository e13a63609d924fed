"""A network: a trunk of blocks that can be frozen, and a head that grows with the classes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from clbench.networks.head import Head, LayerPerExperience, OtherRows
from clbench.networks.trunk import Blocks, Trunk, tolerate_single_values


class Network(nn.Module):
    """A trunk of `blocks`, (n, channels, height, width) -> (n, features), and a growing head.

    Without blocks, its inputs are the features of a permanently frozen trunk: (n, features).
    """

    blocks: Blocks

    def __init__(self, blocks: Blocks | Sequence[nn.Module], features: int) -> None:
        super().__init__()
        self.blocks = blocks if isinstance(blocks, (nn.Sequential, Trunk)) else nn.Sequential(*blocks)
        tolerate_single_values(self.blocks)
        self.head = Head(features)
        self._frozen: list[nn.Module] = []
        self._stopped: tuple[nn.Parameter, ...] = ()
        """Frozen parameters that would train otherwise: their author may have fixed others."""

        self._held: list[nn.Module] = []
        self.keeps_statistics = False
        """Whether batch normalisation uses its running statistics in training too, and leaves them unchanged."""

    @property
    def device(self) -> torch.device:
        """Where its parameters are; the CPU if it has none."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) -> (n, rows of the head)."""
        return cast(Tensor, self.head(self.blocks(x)))

    def weights(self) -> dict[str, Tensor]:
        """Return every weight by name, the head's old and new rows together as `head.weight` and `head.bias`.

        If the head has a layer for each experience, its weights are those of each layer instead.
        """
        if isinstance(self.head.old, LayerPerExperience):
            return self.older_weights()
        trunk: dict[str, Tensor] = {f"blocks.{name}": weight for name, weight in self.blocks.named_parameters()}
        return trunk | {"head.weight": self.head.weight, "head.bias": self.head.bias}

    def older_weights(self) -> dict[str, Tensor]:
        """Return the weights that existed before this experience: the same names, without the head's new rows."""
        trunk: dict[str, Tensor] = {f"blocks.{name}": weight for name, weight in self.blocks.named_parameters()}
        if self.head.old is None:
            return trunk
        return trunk | {f"head.{name}": weight for name, weight in self.head.old.named_parameters()}

    def join_rows(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a value per parameter (named as in `named_parameters`) under the names of `weights`."""
        if isinstance(self.head.old, LayerPerExperience):
            return {name.replace("head.old.", "head."): value for name, value in values.items()}
        joined = {name: value for name, value in values.items() if not name.startswith("head.")}
        for part in ("weight", "bias"):
            rows = [values[name] for name in (f"head.old.{part}", f"head.new.{part}") if name in values]
            joined[f"head.{part}"] = torch.cat(rows)
        return joined

    def in_evaluation(self) -> Network:
        """Return a copy in evaluation mode."""
        return copy.deepcopy(self).eval()

    def hold(self, modules: Iterable[nn.Module]) -> None:
        """Permanently stop these modules from training, in addition to those that `freeze` stops."""
        self._held = list(modules)
        self.freeze(())

    def freeze(self, modules: Iterable[nn.Module]) -> None:
        """Stop these modules, and only these, from training: no gradient, and evaluation mode whatever `train` sets."""
        for parameter in self._stopped:
            parameter.requires_grad_(True)
        self._frozen = [*self._held, *modules]
        self._stopped = tuple(one for module in self._frozen for one in module.parameters() if one.requires_grad)
        for parameter in self._stopped:
            parameter.requires_grad_(False)
        self.train(self.training)

    @property
    def trunk_is_frozen(self) -> bool:
        """Whether every block of the trunk is frozen, so that the features of an image do not change."""
        frozen = {id(part) for module in self._frozen for part in module.modules()}
        return all(id(block) in frozen for block in self.blocks)

    @property
    def trained_rows(self) -> slice | None:
        """The rows of a fixed head that train if the others are frozen; None if all train, or if it is not fixed."""
        return next((slice(rows.first, rows.end) for rows in self._frozen if isinstance(rows, OtherRows)), None)

    def train(self, mode: bool = True) -> Network:
        """Set training mode, except for frozen modules."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        if self.trunk_is_frozen:  # including what lies between its blocks, such as dropout
            self.blocks.eval()
        if self.keeps_statistics:
            for part in self.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.eval()
        return self
