"""The contract of a strategy that is made from an Avalanche plug-in.

    class GEM(AvalancheStrategy[Config]):
        def plugin(self):
            return GEMPlugin(patterns_per_experience=20, memory_strength=0.5)

The plug-in gets the training callbacks that it expects, from one of Avalanche's templates (see plugin_template.py). It
must be picklable, since it is saved at the end of every experience, and it gets no evaluation callbacks, since
evaluation is clbench's own. What it keeps is counted and audited as for any strategy.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from clbench.base.batch import Batch
from clbench.base.own_loop import Training
from clbench.base.strategy import ConfigT, Strategy
from clbench.networks.network import Network


class AvalancheStrategy(Strategy[ConfigT]):
    """Fine-tuning by cross-entropy over the classes seen, together with an Avalanche plug-in."""

    def plugin(self) -> Any:
        """Return the plug-in, an avalanche.training.plugins.SupervisedPlugin; called once, when the run starts."""
        raise NotImplementedError

    def start(self, model: Network) -> None:
        """Make the plug-in."""
        self.avalanche = self.plugin()

    def train(self, training: Training) -> None:
        """Train the experience with the plug-in listening."""
        from clbench.avalanche.plugin_template import PluginLoop  # Avalanche takes seconds to import

        PluginLoop(training=training, plugins=(self.avalanche,)).run()

    def loss(self, batch: Batch) -> Tensor:
        """CE of the setting; what the plug-in adds to `strategy.loss` in `before_backward` comes on top."""
        return batch.cross_entropy()
