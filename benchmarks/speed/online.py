"""Compares an online stream, with its many small steps, with a bare loop that trains and evaluates the same."""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measuring import Bench, Row, need, ours_over_theirs, pair, plan_run, run_clbench
from benchmarks.speed.bare_loops import BareLearner, Task, chosen
from clbench.base.recipe import Recipe
from clbench.data.dataset_info import DatasetInfo
from clbench.data.datasets import Dataset, open_dataset
from clbench.results.run_spec import RunSpec


def online(bench: Bench) -> list[Row]:
    """Split MNIST once in batches of ten, with experience replay, evaluated every hundred steps."""
    need(bench, "mnist")
    dataset = open_dataset("mnist", bench.data)
    planned = plan_run(bench, "er", "splitmnist", stream="online")
    run_clbench(bench, plan_run(bench, "naive", "splitmnist", epochs=1))  # which warms up both
    pairs = []
    for repeat in range(bench.repeats):
        run, seconds = pair(
            bool(repeat % 2), lambda: run_clbench(bench, planned), lambda: bare_seconds(planned.spec, dataset)
        )
        pairs.append((run.seconds, seconds))
    what = "er, online: Split MNIST once in batches of 10, evaluated every 100 steps"
    return [ours_over_theirs(what, "a bare loop that does and evaluates the same", 1.15, pairs)]


class BareER(BareLearner):
    """Replay from a reservoir, a batch of exemplars with each batch."""

    def __init__(self, recipe: Recipe, info: DatasetInfo, memory: int, batch: int) -> None:
        super().__init__(recipe, info)
        self.memory, self.batch, self.offered = memory, batch, 0
        self.kept = torch.empty((memory, *info.shape), dtype=torch.uint8)
        self.labels = torch.empty(memory, dtype=torch.int64)

    def pass_once(self, task: Task, every: int, images: Tensor, y: Tensor) -> None:
        """Learn an experience in one pass, with evaluations on the test images of the classes so far in between."""
        self.grow(task)
        optimizer = self.optimizer(self.network, self.recipe.weight_decay)
        network = self.network
        for step, rows in enumerate(torch.randperm(len(task.images)).split(self.recipe.batch_size), start=1):
            loss = F.cross_entropy(network(self.scaled(task.images[rows])), task.y[rows])
            if size := min(self.offered, self.memory):
                old = torch.randperm(size)[: self.batch]
                share = len(old) / (len(old) + len(rows))
                replayed = F.cross_entropy(network(self.scaled(self.kept[old])), self.labels[old])
                loss = (1 - share) * loss + share * replayed
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for row in rows.tolist():
                place = self.offered if self.offered < self.memory else int(torch.randint(self.offered + 1, (1,)))
                self.offered += 1
                if place < self.memory:
                    self.kept[place], self.labels[place] = task.images[row], task.y[row]
            if step % every == 0:
                self.accuracy(images, y)


def bare_seconds(spec: RunSpec, dataset: Dataset) -> float:
    """Return the seconds of a bare loop over the stream of a run, evaluation included."""
    assert spec.scenario.stream is not None
    every = spec.scenario.stream.options["evaluate_every"]
    began = time.perf_counter()
    position = torch.from_numpy(np.argsort(spec.scenario.class_order))
    config = spec.strategy.config
    learner, old = BareER(spec.recipe.config, dataset.info, config["memory"], config["batch"]), 0
    for new in spec.scenario.classes_per_experience:
        images, positions = chosen(dataset.x_train, position[torch.from_numpy(dataset.y_train)], old, old + new)
        tested = chosen(dataset.x_test, position[torch.from_numpy(dataset.y_test)], 0, old + new)
        learner.pass_once(Task(images, positions, old, new), every, *tested)
        learner.accuracy(*tested)
        old += new
    return time.perf_counter() - began
