"""Strategies as a few lines of plain PyTorch, with nothing checked, counted, saved or reported.

The trunks are clbench's networks, kept channels-last as in clbench, so that the mathematics is the same; everything
else is written here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measuring import SEED
from clbench.base.recipe import Recipe
from clbench.data.dataset_info import DatasetInfo
from clbench.data.datasets import Dataset
from clbench.plugins.networks import build
from clbench.results.run_spec import RunSpec

# Pixel values that go through a network at once when no gradients are kept: 128 images of CIFAR-10, 501 of MNIST.
# Measured: convolutions are slower with more at once and the MLP with fewer.
PART_VALUES = 128 * 32 * 32 * 3


@dataclass(frozen=True)
class Task:
    """The data that one experience of a bare loop learns."""

    images: Tensor
    """(n, height, width, channels) of uint8."""

    y: Tensor
    """Class positions, (n,)."""

    old: int
    """Classes learned before; 0 in the first experience."""

    new: int


class BareLearner:
    """Fine-tuning, and the code that the other strategies share."""

    def __init__(self, recipe: Recipe, info: DatasetInfo) -> None:
        plain = {"schedule": "constant", "precision": "float32", "head": "growing", "normalization": "standardized"}
        assert all(getattr(recipe, name) == value for name, value in plain.items()), (
            "the loop below is written for these"
        )
        self.recipe = recipe
        network = build(recipe.network, info.shape, SEED)
        self.trunk, self.features = network.blocks, network.head.features
        self.head: nn.Linear | None = None
        self.mean, self.std = 255 * torch.tensor(info.mean), 255 * torch.tensor(info.std)

    def learn(self, task: Task) -> None:
        """Train on one experience."""
        if task.old:
            self.remember(task)
        self.grow(task)
        self.fit(self.network, task.images, task, self.scaled)

    def accuracy(self, images: Tensor, y: Tensor) -> float:
        """The share of images whose class has the largest output."""
        return (self.in_parts(self.network, images).argmax(1) == y).float().mean().item()

    @property
    def network(self) -> nn.Module:
        """Trunk and head."""
        return nn.Sequential(self.trunk, self.head)

    def scaled(self, images: Tensor) -> Tensor:
        """(n, height, width, channels) of uint8 -> (n, channels, height, width), standardized.

        Called for one batch at a time, which was measured to be faster than all at once.
        """
        return images.float().sub_(self.mean).div_(self.std).permute(0, 3, 1, 2)

    def in_parts(self, network: nn.Module, images: Tensor) -> Tensor:
        """The network's output for every image, in evaluation mode and without gradients."""
        network.eval()
        with torch.no_grad():
            parts = images.split(PART_VALUES // images[0].numel())
            outputs = torch.cat([network(self.scaled(part)) for part in parts])
        network.train()
        return outputs

    def remember(self, task: Task) -> None:
        """Store what is needed of the old network before the head grows."""

    def grow(self, task: Task) -> None:
        """Replace the head with one that also has rows for the new classes."""
        before, self.head = self.head, nn.Linear(self.features, task.old + task.new)
        if before is None:
            return
        with torch.no_grad():
            self.head.weight[: task.old] = before.weight
            self.head.bias[: task.old] = before.bias

    def fit(
        self, network: nn.Module, inputs: Tensor, task: Task, prepare: Callable[[Tensor], Tensor], decay: float = 0.0
    ) -> None:
        """The loop: whole batches by index, one optimizer step for each."""
        optimizer = self.optimizer(network, decay + self.recipe.weight_decay)
        for _ in range(self.recipe.epochs):
            for chosen in torch.randperm(len(inputs)).split(self.recipe.batch_size):
                loss = self.loss(network(prepare(inputs[chosen])), task.y[chosen], chosen, task)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    def optimizer(self, network: nn.Module, decay: float) -> torch.optim.Optimizer:
        """A new optimizer as in the recipe."""
        rate, momentum = self.recipe.lr, self.recipe.momentum
        if self.recipe.optimizer == "adam":
            return torch.optim.Adam(network.parameters(), rate, weight_decay=decay, fused=True)
        return torch.optim.SGD(network.parameters(), rate, momentum, weight_decay=decay, fused=True)

    def loss(self, logits: Tensor, y: Tensor, chosen: Tensor, task: Task) -> Tensor:
        """The loss of a batch, of which `chosen` are the rows."""
        return F.cross_entropy(logits, y)


class BareL2(BareLearner):
    """Penalty of λ = 1 times the squared distance of every old weight from its previous value."""

    def remember(self, task: Task) -> None:
        self.anchors = [w.detach().clone() for w in (*self.trunk.parameters(), *self.head.parameters())]

    def loss(self, logits: Tensor, y: Tensor, chosen: Tensor, task: Task) -> Tensor:
        loss = F.cross_entropy(logits, y)
        if not task.old:
            return loss
        weights = [*self.trunk.parameters(), self.head.weight[: task.old], self.head.bias[: task.old]]
        return loss + sum(((w - anchor) ** 2).sum() for w, anchor in zip(weights, self.anchors, strict=True))


class BareLwF(BareLearner):
    """Cross-entropy over the new classes, and distillation of recorded predictions within each earlier experience."""

    temperature = 2.0

    def grouped(self, logits: Tensor, task: Task) -> Tensor:
        """(n, old) -> (n, earlier experiences, classes of each), divided by the temperature."""
        return logits.view(len(logits), -1, task.new) / self.temperature

    def remember(self, task: Task) -> None:
        self.targets = F.softmax(self.grouped(self.in_parts(self.network, task.images), task), dim=-1)

    def fit(self, *arguments: Any) -> None:
        task: Task = arguments[2]
        super().fit(*arguments, decay=5e-4 if task.old else 0.0)

    def loss(self, logits: Tensor, y: Tensor, chosen: Tensor, task: Task) -> Tensor:
        if not task.old:
            return F.cross_entropy(logits, y)
        new = F.cross_entropy(logits[:, task.old :], y - task.old)
        student = F.log_softmax(self.grouped(logits[:, : task.old], task), dim=-1)
        return new - (self.targets[chosen] * student).sum() / len(y)


class BareFrozen(BareLearner):
    """Training of only the new rows after the first experience, on features that are computed once."""

    def learn(self, task: Task) -> None:
        if not task.old:
            super().learn(task)
            return
        features = self.in_parts(self.trunk, task.images)
        new = nn.Linear(self.features, task.new)
        self.fit(new, features, task, lambda x: x)
        self.grow(task)
        with torch.no_grad():
            self.head.weight[task.old :] = new.weight
            self.head.bias[task.old :] = new.bias

    def loss(self, logits: Tensor, y: Tensor, chosen: Tensor, task: Task) -> Tensor:
        return F.cross_entropy(logits, y - task.old)


BARE = {"naive": BareLearner, "l2": BareL2, "lwf": BareLwF, "frozen": BareFrozen}


@dataclass
class BareRun:
    """The time that a bare loop took for a whole stream."""

    training_seconds: float = 0.0
    """Includes selecting the data."""

    evaluation_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Training and evaluation."""
        return self.training_seconds + self.evaluation_seconds


def bare_run(strategy: str, spec: RunSpec, dataset: Dataset) -> BareRun:
    """Learn the stream of a run of clbench, evaluating the classes seen so far after each experience."""
    position = torch.from_numpy(np.argsort(spec.scenario.class_order))
    learner, run, old = BARE[strategy](spec.recipe.config, dataset.info), BareRun(), 0
    for new in spec.scenario.classes_per_experience:
        began = time.perf_counter()
        images, positions = chosen(dataset.x_train, position[torch.from_numpy(dataset.y_train)], old, old + new)
        learner.learn(Task(images, positions, old, new))
        learned = time.perf_counter()
        learner.accuracy(*chosen(dataset.x_test, position[torch.from_numpy(dataset.y_test)], 0, old + new))
        run.training_seconds += learned - began
        run.evaluation_seconds += time.perf_counter() - learned
        old += new
    return run


def chosen(images: np.ndarray, positions: Tensor, first: int, stop: int) -> tuple[Tensor, Tensor]:
    """Return the images and class positions of the classes from position `first` up to, but not including, `stop`."""
    rows = ((positions >= first) & (positions < stop)).nonzero().flatten()
    return torch.from_numpy(images)[rows], positions[rows]
