"""RWalk, by Avalanche's plug-in: online Fisher information combined with a score of each weight's path.

    L = CE(softmax(o), y) + λ Σ_k (F_k + s_k)(w_k - w_k*)²

Source: Chaudhry et al. 2018 (arXiv 1801.10112), equation 9; avalanche/training/plugins/rwalk.py.
Variant: without exemplars. The plug-in identifies weights by name, so it needs a recipe with a fixed head.
"""

from typing import Annotated, Any

from annotated_types import Ge, Gt, Le
from avalanche.training.plugins import RWalkPlugin

import clbench
from clbench.avalanche.plugin_strategy import AvalancheStrategy


@clbench.config
class Config:
    strength: Annotated[float, Ge(0)] = 0.1
    """λ, weight of the penalty; dimensionless."""

    decay: Annotated[float, Ge(0), Le(1)] = 0.9
    """α, weight of the older Fisher information in its moving average; dimensionless. The paper uses 0.9."""

    every: Annotated[int, Gt(0)] = 5
    """Δt, interval between updates of the path's score; gradient steps, fewer than an experience has."""


class RWalk(AvalancheStrategy[Config]):
    def start(self, model: clbench.Network) -> None:
        if not model.head.fixed:
            raise clbench.UsageError("rwalk needs a recipe with a fixed head")
        super().start(model)

    def plugin(self) -> Any:
        return RWalkPlugin(self.config.strength, self.config.decay, self.config.every)
