"""Trains one strategy on the new classes, from a given network to one that knows old and new classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from clbench.base.config import configure
from clbench.base.events import Event, Listener, TrainingProgress
from clbench.base.experience import Experience
from clbench.base.recipe import Recipe
from clbench.base.strategy import Strategy, config_class
from clbench.data.batches import Images, Scaling, TrainingSet, Unscaled
from clbench.data.feature_extraction import Extraction
from clbench.deployment.strategy_states import StrategyState
from clbench.errors import UndefinedScores
from clbench.extension.brought_along import bring_along
from clbench.extension.image_sets import ImageSet
from clbench.networks.network import Network
from clbench.results.extension_result import Role
from clbench.results.network_record import InputRecord
from clbench.results.run_spec import Seeds
from clbench.system.randomness import randomness_untouched
from clbench.system.signals import Interruption
from clbench.training.costs import Costs
from clbench.training.cuda_graphs import GraphRecorder
from clbench.training.experience_data import ExperienceData
from clbench.training.loop import Trainer

Scores = npt.NDArray[np.float32]
"""(n, classes)."""

Score = Callable[[Tensor], Tensor]
"""Returns the scores (n, classes) for a network's inputs."""


@dataclass(frozen=True)
class Inputs:
    """All images of a command as the network's inputs: pixels, or the features of a permanently frozen trunk."""

    images: Mapping[Role, Images]
    labels: Mapping[Role, npt.NDArray[np.int64]]
    scaling: Scaling

    @torch.no_grad()
    def scores(self, role: Role, score: Score) -> Scores:
        """Return the scores of all images for a purpose, (n, classes). Raises UndefinedScores for NaN."""
        images = self.images[role]
        rows = torch.arange(len(self.labels[role])).split(images.inference_batch)
        with randomness_untouched():
            found = torch.cat([score(self.scaling(pixels)).float().cpu() for pixels in images.read_batches(rows)])
        if count := int(found.isnan().any(dim=1).sum()):
            raise UndefinedScores(f"predict gave NaN scores to {count:,} of {len(found):,} images")
        return found.numpy()

    def data(self, seed: int) -> ExperienceData:
        """Return the training data: images of old classes, if any, as the first experience, then the new ones."""
        parts: list[Role] = [role for role in ("old_images", "new") if role in self.images]
        together = (
            torch.cat([self.images[role].pixels for role in parts]) if len(parts) > 1 else self.images["new"].pixels
        )
        device = self.images["new"].device
        labels = torch.from_numpy(np.concatenate([self.labels[role] for role in parts])).to(device)
        old = len(self.labels["old_images"]) if "old_images" in self.images else 0
        rows = torch.arange(len(labels))
        images = Images(together.cpu().numpy(), device)
        return ExperienceData((rows[:old], rows[old:]), images, self.scaling, labels, seed)


def as_inputs(sets: Mapping[Role, ImageSet], expected: InputRecord, device: torch.device) -> Inputs:
    """Return images as inputs of a network that expects this kind of input."""
    scaling = Scaling(
        "standardized",
        expected.mean,
        expected.std,
        device,
        expected.height if expected.resizing else None,
        expected.channels if expected.channels != expected.image.channels else None,
    )
    p, values = expected.padding, expected.height * expected.width * expected.channels
    images = {
        role: Images(np.pad(own.images, ((0, 0), (p, p), (p, p), (0, 0))) if p else own.images, device, None, values)
        for role, own in sets.items()
    }
    return Inputs(images, {role: own.labels for role, own in sets.items()}, scaling)


def on_features(inputs: Inputs, trunk: nn.Module) -> Inputs:
    """Return the features of a frozen trunk as inputs instead of images."""
    device = inputs.images["new"].device
    found = {}
    with Extraction(trunk, inputs.scaling, device) as extraction:
        for role, images in inputs.images.items():
            found[role] = Images(_features(extraction, images.pixels.cpu().numpy()), device)
    return Inputs(found, inputs.labels, Unscaled(device))


def _features(extraction: Extraction, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the features of images, (n, features).

    No batch is kept: it would lie scattered in the memory of much larger inputs, which could then not be reused.
    """
    features, done = np.empty((len(images), 0), np.float32), 0
    for batch in extraction.batches(images):
        if not done:
            features = np.empty((len(images), batch.shape[1]), np.float32)
        features[done : done + len(batch)] = batch
        done += len(batch)
    return features


@dataclass(frozen=True)
class Task:
    """The data and settings that every strategy is given."""

    sizes: tuple[int, ...]
    """Number of classes of each experience: old and new, or those of a first network."""

    inputs: Inputs
    recipe: Recipe
    seeds: Seeds
    new_network: Callable[[], Network]
    """Returns the network as given, or with its initial weights."""

    interruption: Interruption
    notify: Listener

    @property
    def index(self) -> int:
        """Index of the experience that is trained."""
        return len(self.sizes) - 1


@dataclass(frozen=True)
class Learned:
    """The result of training a strategy."""

    strategy: Strategy[Any]
    network: Network
    costs: Costs
    where: Experience

    def score(self, x: Tensor) -> Tensor:
        """Return the scores (n, classes) of inputs (n, …), as the strategy predicts."""
        network = self.network.eval()
        return self.strategy.predict(network, x, self.where)[:, : self.where.seen_classes]

    def classifier(self) -> nn.Module:
        """Return the classifier of the trunk's features."""
        with torch.no_grad(), randomness_untouched():
            return self.strategy.classifier(self.network.in_evaluation(), self.where)


def begin(
    task: Task, cls: type[Strategy[Any]], config: Mapping[str, Any], name: str, state: StrategyState | None
) -> Trainer:
    """Return a trainer whose strategy has been started, and given what is available of the old classes.

    Raises CannotExtend, and UsageError for a configuration that the network cannot meet.
    """
    strategy = cls(configure(config_class(cls), dict(config), name))
    network, data = task.new_network(), task.inputs.data(task.seeds.training)
    network.head.initialization = task.recipe.head_initialization  # which trainers set in a first experience only
    strategy.start(network)
    asynchronous = data.images.device.type == "cuda"
    trainer = Trainer(
        model=network,
        strategy=strategy,
        recipe=task.recipe.for_strategy(name),
        data=replace(data, rows=data.rows[-len(task.sizes) :]),
        classes_per_experience=task.sizes,
        setting="class_incremental",
        seeds={"model": task.seeds.network, "training": task.seeds.training},
        new_model=task.new_network,
        run=name,
        interruption=task.interruption,
        notify=_counting_from_zero(task.notify),
        recorder=GraphRecorder() if asynchronous else None,
    )
    if task.index:
        old = _samples(trainer.data, 0)
        bring_along(strategy, trainer.model, (task.sizes[0], task.sizes[1]), state, old, trainer)
    return trainer


def learn(task: Task, trainer: Trainer) -> Learned:
    """Train the strategy on the new classes."""
    costs = trainer.learn(task.index)
    return Learned(trainer.strategy, trainer.model, costs, Experience(task.index, task.sizes))


def _samples(data: ExperienceData, index: int) -> TrainingSet | None:
    return data.divided(index, Recipe())[0] if len(data.rows[index]) else None


def _counting_from_zero(notify: Listener) -> Listener:
    """Return a listener that sees the one trained experience as number 0."""

    def send(event: Event) -> None:
        notify(replace(event, experience=0) if isinstance(event, TrainingProgress) else event)

    return send
