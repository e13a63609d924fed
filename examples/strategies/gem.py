"""GEM, by Avalanche's plug-in: a step may not, to first order, raise the loss on the memory of any earlier experience.

    g ← the nearest vector to g with gᵀ g_k ≥ 0 for the gradient g_k of the loss on every earlier experience's memory

Source: Lopez-Paz & Ranzato 2017 (arXiv 1706.08840), equations 8 to 11; avalanche/training/plugins/gem.py.
Variant: class-incremental, over all classes seen so far; the memory is the first samples of each experience.
"""

from typing import Annotated, Any

from annotated_types import Ge
from avalanche.training.plugins import GEMPlugin

import clbench
from clbench.avalanche.plugin_strategy import AvalancheStrategy


@clbench.config
class Config:
    memory: Annotated[int, Ge(1)] = 200
    """Capacity of the exemplar memory, divided equally among all experiences; images."""

    experiences: Annotated[int, Ge(1)] = 5
    """Number of experiences in the stream, among which the memory is divided."""

    strength: Annotated[float, Ge(0)] = 0.5
    """γ, added to the constraints; dimensionless. The paper uses 0.5."""


class GEM(AvalancheStrategy[Config]):
    def plugin(self) -> Any:
        return GEMPlugin(self.config.memory // self.config.experiences, self.config.strength)
