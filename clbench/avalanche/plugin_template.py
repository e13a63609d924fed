"""Avalanche's training template around the pieces of clbench's loop, for strategies made from Avalanche plug-ins.

The batches, the loss and the optimizer are the harness's. The plug-ins get their callbacks with the template as
`strategy`, and read and change what it holds: `mb_x`, `mb_y`, `mb_output`, `loss`, `model`, `optimizer`, `experience`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clbench.avalanche.benchmark import LabelledRows, class_incremental
from clbench.avalanche.quiet_import import importing_avalanche
from clbench.base.own_loop import Training

with importing_avalanche():
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.templates import SupervisedTemplate


class PluginLoop(SupervisedTemplate):  # type: ignore[misc]
    """Trains one experience."""

    def __init__(self, *, training: Training, plugins: Sequence[Any]) -> None:
        super().__init__(
            model=training.model,
            optimizer=training.optimizer,
            train_mb_size=training.recipe.batch_size,
            train_epochs=training.epochs,
            device=training.device,
            evaluator=no_metrics(),
        )
        self.plugins.remove(self.evaluator)  # it has nothing to do
        self.plugins[:0] = plugins  # before Avalanche's clock, which must be the last
        self.training = training
        self.mbatch: Any = None

    def run(self) -> None:
        """Train the experience."""
        training, data = self.training, self.training.data
        # Avalanche's plug-ins read its number, which a resumed run has not counted.
        self.clock.train_exp_counter = training.experience.index
        samples = LabelledRows(data.rows, data.labels, data.scaled)
        benchmark = class_incremental(training.experience.classes_per_experience, train=samples)
        self.train(benchmark.train_stream[training.experience.index], eval_streams=[])

    def train_dataset_adaptation(self, **kwargs: Any) -> None:
        """Set the dataset that plug-ins read; the harness has already chosen the samples."""
        self.adapted_dataset = self.experience.dataset

    def make_train_dataloader(self, **kwargs: Any) -> None:
        """Do nothing yet: every epoch gets new batches."""

    def check_model_and_optimizer(self, **kwargs: Any) -> None:
        """Do nothing: the head has grown and the optimizer is new."""

    def _before_training_epoch(self, **kwargs: Any) -> None:
        self.dataloader = self.training.begin_epoch(self.clock.train_exp_epochs)
        super()._before_training_epoch(**kwargs)

    def _after_training_epoch(self, **kwargs: Any) -> None:
        if self.training.end_epoch(self.clock.train_exp_epochs):
            self.stop_training()
        super()._after_training_epoch(**kwargs)

    def _unpack_minibatch(self) -> None:
        self.training.begin_step()
        self.batch = self.training.batch(self.mbatch)
        self.mbatch = [self.batch.x, self.batch.y, torch.zeros_like(self.batch.y)]

    def forward(self) -> Tensor:
        """Return the logits."""
        return self.training.forward(self.batch)

    def criterion(self) -> Tensor:
        """Return the strategy's loss; a plug-in's `before_backward` may add to it."""
        self._strategy_loss = self.training.loss(self.batch)
        return self._strategy_loss

    def backward(self) -> None:
        """Compute the gradients."""
        self.training.backward(self.loss)

    def optimizer_step(self) -> None:
        """Update the weights and count the step."""
        self.training.update(self.batch)
        self.training.end_step(self._strategy_loss.detach(), len(self.batch.y))

    def _make_empty_loss(self) -> Any:
        return _NoLossYet()


class _NoLossYet:
    """A sum of no losses: adding one gives that loss itself, without an addition to compute and differentiate."""

    def __add__(self, loss: Tensor) -> Tensor:
        return loss


def no_metrics() -> EvaluationPlugin:
    """Return an evaluator for one of Avalanche's templates that measures nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has no loggers is intended
        return EvaluationPlugin(collect_all=False)
