"""A plug-in that reports to the harness what Avalanche's loop does: its steps, its losses and the samples it uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from clbench.avalanche.quiet_import import importing_avalanche
from clbench.base.own_loop import Training

with importing_avalanche():
    from avalanche.core import SupervisedPlugin


class Listener(SupervisedPlugin):  # type: ignore[misc]
    """Counts a step for every iteration, and a sample whenever one passes the network in training with gradients.

    This includes samples that a strategy uses beyond its batches, but not those of a teacher or an importance estimate.
    """

    def __init__(self) -> None:
        super().__init__()
        self.training: Training | None = None
        self.samples = 0
        """Samples since the last step."""

    @contextmanager
    def listening(self, training: Training, learner: Any) -> Iterator[None]:
        """Report to the harness within this context what Avalanche's strategy `learner` does."""
        self.training, self.samples = training, 0

        def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            for network in (training.model, learner.model):  # which may be a copy
                if module is getattr(network, "blocks", None):
                    # The mode is the head's, since a trunk without blocks is in evaluation mode throughout.
                    if network.head.training and torch.is_grad_enabled():
                        self.samples += len(inputs[0])
                    return

        # A hook on the network itself would be copied with it, into every teacher.
        hook = register_module_forward_pre_hook(count)
        training.timer.enter("strategy")
        try:
            yield
        finally:
            hook.remove()
            self.training = None

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Stop here if the user requested it."""
        assert self.training is not None
        self.training.begin_step()

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Count the step."""
        assert self.training is not None
        self.training.end_step(strategy.loss.detach(), self.samples)
        self.training.timer.enter("strategy")
        self.samples = 0

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Check the losses."""
        assert self.training is not None
        self.training.end_epoch(strategy.clock.train_exp_epochs)
