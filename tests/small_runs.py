"""Runs small enough for a test: a trainer on a few images, without files, experience by experience."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits

from clbench.base.config import configure
from clbench.base.incremental_setting import Setting
from clbench.base.recipe import Recipe
from clbench.base.strategy import Strategy, config_class
from clbench.data.batches import Images, Scaling
from clbench.evaluation.test_set import TestSet
from clbench.networks.network import Network
from clbench.plugins.discovery import builtin_folder, select
from clbench.plugins.loading import load
from clbench.plugins.networks import build
from clbench.streams.stream_kind import experience_rows
from clbench.system.seeds import run_seeds
from clbench.system.signals import Interruption
from clbench.training.costs import Costs
from clbench.training.cuda_graphs import Recorder
from clbench.training.experience_data import ExperienceData
from clbench.training.loop import Trainer

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Samples:
    """Images (n, height, width, channels) of uint8 and their class ids (n,)."""

    x: npt.NDArray[np.uint8]
    y: npt.NDArray[np.int64]


def digits(count: int = 300) -> Samples:
    """The first of scikit-learn's 8x8 handwritten digits."""
    bundled = load_digits()
    return Samples((bundled.images[:count, :, :, None] * 15).astype(np.uint8), bundled.target[:count].astype(np.int64))


def colours(classes: int = 5, per_class: int = 20) -> Samples:
    """Noise of 8x8 pixels in a colour of its own for each class, `per_class` images of each, mixed."""
    draw = np.random.default_rng(7)
    y = draw.permutation(np.repeat(np.arange(classes), per_class))
    tint = draw.integers(0, 128, (classes, 1, 1, 3))
    return Samples((tint[y] + draw.integers(0, 128, (len(y), 8, 8, 3))).astype(np.uint8), y.astype(np.int64))


def strategy_class(name: str) -> type[Any]:
    """The class of a built-in strategy."""
    return load(select("strategy", str(builtin_folder("strategy") / f"{name}.py")))


def configured(cls: type[Any], **config: Any) -> Any:
    """A strategy of this class with these hyper-parameters."""
    return cls(configure(config_class(cls), config, cls.__name__))


def builtin(name: str, **config: Any) -> Any:
    """A built-in strategy with these hyper-parameters."""
    return configured(strategy_class(name), **config)


class SmallRun:
    """A trainer on `samples`, which serve as training and as test set."""

    def __init__(
        self,
        strategy: Strategy[Any],
        recipe: Recipe,
        samples: Samples,
        sizes: tuple[int, ...],
        order: tuple[int, ...] | None = None,
        seed: int = 0,
        setting: Setting = "class_incremental",
        recorder: Recorder | None = None,
        device: torch.device = CPU,
    ) -> None:
        torch.set_num_threads(1)  # two threads on so little work wait for each other most of the time
        order = order or tuple(range(sum(sizes)))
        self.positions = torch.from_numpy(np.argsort(order)[samples.y])
        self.seeds = run_seeds(seed)
        self.images = Images(samples.x, device)
        pixels = samples.x.reshape(-1, samples.x.shape[-1]) / 255
        self.scaling = Scaling(recipe.normalization, tuple(pixels.mean(0)), tuple(pixels.std(0)), device)
        self.test_set = TestSet(self.images, self.scaling, self.positions, order, sizes, recipe.precision, setting)
        self.new_model: Callable[[], Network] = lambda: build(
            recipe.network, samples.x.shape[1:], self.seeds["model"], recipe.initialization
        )
        self.sizes = sizes
        labels = self.positions % sizes[0] if setting == "domain_incremental" else self.positions
        rows = experience_rows(self.positions, sizes)
        self.data = ExperienceData(rows, self.images, self.scaling, labels.to(device), self.seeds["training"])
        self.trainer = Trainer(
            model=self.new_model(),
            strategy=strategy,
            recipe=recipe,
            data=self.data,
            classes_per_experience=sizes,
            setting=setting,
            seeds=self.seeds,
            new_model=self.new_model,
            run="small",
            interruption=Interruption(),
            notify=lambda event: None,
            recorder=recorder,
        )
        self.models: list[Network] = []
        """The network as each experience left it."""
        self.experience_costs: list[Costs] = []

    def learn(self, experiences: int | None = None) -> SmallRun:
        """Learn the next experiences, all by default."""
        done = len(self.models)
        for index in range(done, len(self.sizes) if experiences is None else done + experiences):
            self.experience_costs.append(self.trainer.learn(index))
            self.models.append(copy.deepcopy(self.trainer.model))
        return self

    def rows(self, index: int) -> list[int]:
        """The training rows of the classes that experience `index` brings, counted from the labels alone."""
        first = sum(self.sizes[:index])
        own = (self.positions >= first) & (self.positions < first + self.sizes[index])
        return torch.nonzero(own).flatten().tolist()


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether every parameter and buffer of two modules has the same bytes."""
    ours, theirs = one.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(
        ours[name].cpu().contiguous().numpy().tobytes() == theirs[name].cpu().contiguous().numpy().tobytes()
        for name in ours
    )
