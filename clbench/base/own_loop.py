"""The pieces of the harness's training loop, for strategies that have their own training loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from clbench.base.batch import Batch
    from clbench.base.experience import Experience
    from clbench.base.recipe import Recipe
    from clbench.networks.network import Network

Inputs = tuple["Tensor", "Tensor", "Tensor", "Tensor | None"]
"""A batch as it is loaded: x or the frozen trunk's features, labels, rows of the dataset, the teacher's outputs."""


class TrainingSamples(Protocol):
    """The training samples of the whole stream."""

    rows: Sequence[Tensor]
    """Rows of the training arrays that belong to each experience, (n,) each."""

    labels: Tensor
    """Index of the output of each sample's class, (n,)."""

    def scaled(self, rows: Tensor) -> Tensor:
        """Return the network's inputs for these rows, without augmentation: (n, channels, height, width)."""


class Training(Protocol):
    """The training of one experience; for an example of a loop see `_train` in training/loop.py."""

    model: Network
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    experience: Experience
    device: torch.device
    epochs: int

    data: Any
    """TrainingSamples of the stream."""

    timer: Any
    """A PhaseTimer."""

    def begin_epoch(self, epoch: int) -> Iterator[Inputs]:
        """Freeze what the strategy wants frozen in this epoch, and return its batches."""

    def end_epoch(self, epoch: int) -> bool:
        """Return whether the experience ends with this epoch."""

    def begin_step(self) -> None:
        """Stop if the user requested it, and set the learning rate."""

    def batch(self, inputs: Inputs) -> Batch:
        """Return the batch for `loss`, still without logits."""

    def forward(self, batch: Batch) -> Tensor:
        """Compute and return the logits."""

    def loss(self, batch: Batch) -> Tensor:
        """Return the strategy's loss."""

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients."""

    def update(self, batch: Batch) -> None:
        """Update the weights."""

    def end_step(self, loss: Tensor, samples: int) -> None:
        """Record a step on this number of samples."""
