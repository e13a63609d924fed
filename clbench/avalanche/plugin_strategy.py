"""A strategy made of one of Avalanche's plug-ins, so that those who have one can bring it along.

    class GEM(AvalancheStrategy[Config]):
        def plugin(self):
            return GEMPlugin(patterns_per_experience=20, memory_strength=0.5)

The engine is one of Avalanche's templates, so the plug-in gets the callbacks of training that it knows, with the engine
as `strategy`: `mb_x`, `mb_y`, `mb_output`, `loss`, `model`, `optimizer`, `experience`. It must be picklable, for it is
saved at the end of every experience, and it gets no callbacks of evaluation, which is clbench's own. What it keeps is
counted and audited as any strategy's is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from clbench.base.strategy import Batch, ConfigT, Strategy
from clbench.networks.network import Network


class AvalancheStrategy(Strategy[ConfigT]):
    """Fine-tuning by cross-entropy over the classes seen, with an Avalanche plug-in beside it."""

    def plugin(self) -> Any:
        """Return the plug-in, an avalanche.training.plugins.SupervisedPlugin; called once, when the run starts."""
        raise NotImplementedError

    def start(self, model: Network) -> None:
        """Make the plug-in."""
        self.avalanche = self.plugin()

    def plugins(self) -> Sequence[Any]:
        """The plug-in, for the engine to call."""
        return (self.avalanche,)

    def loss(self, batch: Batch) -> Tensor:
        """CE of the setting; what the plug-in adds to `strategy.loss` in `before_backward` comes on top."""
        return batch.cross_entropy()
