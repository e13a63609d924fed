"""Compares training and whole runs of three networks with bare PyTorch loops that do the same mathematics."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measuring import Bench, Row, Run, need, ours_over_theirs, pair, plan_run, run_clbench
from benchmarks.speed.bare_loops import BareRun, bare_run
from clbench.data.datasets import open_dataset
from clbench.data.importing import import_dataset

WHOLE = "whole run, evaluation and bookkeeping included"

Pairs = list[tuple[Run, BareRun]]


@dataclass(frozen=True)
class Part:
    """A network that trains on the first images of each class of CIFAR-10."""

    network: str
    recipe: str
    train_size: int


PARTS = (
    Part("CNN", 'network="cnn", optimizer="adam", lr=1e-3, batch_size=128, epochs=4', 10_000),
    Part("ResNet-32", 'network="resnet32", optimizer="sgd", lr=0.1, momentum=0.9, batch_size=128, epochs=4', 2_560),
)

SCENARIO = '''"""A part of Split CIFAR-10."""

import clbench


class Part(clbench.Scenario):
    dataset = "part"
    split = "5"
    recipes = {{"quick": clbench.Recipe({recipe})}}
'''


def training(bench: Bench) -> list[Row]:
    """The MLP on Split MNIST with four strategies, and two convolutional networks with naive and lwf, the costliest."""
    need(bench, "mnist")
    need(bench, "cifar10")
    rows = beside_bare_loops(bench, "MLP", "splitmnist", "mnist", ("naive", "l2", "lwf", "frozen"))
    for part in PARTS:
        with part_of_cifar10(bench, part) as (its_bench, scenario):
            rows += beside_bare_loops(its_bench, part.network, scenario, "part", ("naive", "lwf"))
    return rows


@contextmanager
def part_of_cifar10(bench: Bench, part: Part) -> Iterator[tuple[Bench, str]]:
    """Provide a data folder with the part and an equal share of the test images, and a scenario file for it."""
    whole = open_dataset("cifar10", bench.data)
    train = first_of_each_class(whole.y_train, part.train_size)
    test = first_of_each_class(whole.y_test, part.train_size * whole.info.test_size // whole.info.train_size)
    arrays = {
        "x_train": whole.x_train[train],
        "y_train": whole.y_train[train],
        "x_test": whole.x_test[test],
        "y_test": whole.y_test[test],
    }
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        np.savez(folder / "part.npz", **arrays)
        import_dataset("part", folder / "part.npz", folder / "data")
        scenario = folder / "part.py"
        scenario.write_text(SCENARIO.format(recipe=part.recipe))
        yield replace(bench, data=folder / "data"), str(scenario)


def first_of_each_class(labels: np.ndarray, size: int) -> np.ndarray:
    """Return, ascending, the rows of the first images of each class: `size` in total, rounded down to equal classes."""
    classes = labels.max() + 1
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[: size // classes] for label in range(classes)]))


def beside_bare_loops(bench: Bench, network: str, scenario: str, dataset: str, strategies: Sequence[str]) -> list[Row]:
    """Rows of each strategy; all are run in every round, so that strategies, too, are compared within minutes."""
    data = open_dataset(dataset, bench.data)
    planned = {strategy: plan_run(bench, strategy, scenario) for strategy in strategies}
    brief = plan_run(bench, "naive", scenario, epochs=1)
    run_clbench(bench, brief)  # kernels, pages and allocators are warm after these
    bare_run("naive", brief.spec, data)
    pairs: dict[str, Pairs] = {strategy: [] for strategy in strategies}
    for repeat in range(bench.repeats):
        for strategy, measured in pairs.items():
            ours = partial(run_clbench, bench, planned[strategy])
            theirs = partial(bare_run, strategy, planned[strategy].spec, data)
            measured.append(pair(bool(repeat % 2), ours, theirs))
    rows = [row for strategy, measured in pairs.items() for row in rows_of(f"{network}, {strategy}", measured)]
    return [*rows, unevaluated(network, pairs["naive"]), lwf_beside_naive(network, pairs["lwf"], pairs["naive"])]


def rows_of(name: str, pairs: Pairs) -> list[Row]:
    """Training alone, and the whole run."""
    learning = [(run.learning_seconds, bare.training_seconds) for run, bare in pairs]
    whole = [(run.seconds, bare.seconds) for run, bare in pairs]
    return [
        ours_over_theirs(f"{name}: training", "a bare PyTorch loop", 1.1, learning),
        ours_over_theirs(f"{name}: {WHOLE}", "a bare loop that evaluates", 1.1, whole),
    ]


def unevaluated(network: str, naive: Pairs) -> Row:
    """A whole run against the least that a loop takes: training without evaluation."""
    pairs = [(run.seconds, bare.training_seconds) for run, bare in naive]
    return ours_over_theirs(f"{network}, naive: {WHOLE}", "a bare loop that never evaluates", 1.1, pairs)


def lwf_beside_naive(network: str, lwf: Pairs, naive: Pairs) -> Row:
    """Cost of distillation in the gradient steps, when the old network's predictions are already recorded."""

    def seconds(run: Run) -> float:
        return sum(each.training_seconds for each in run.costs.experiences[1:])

    assert all(each.teacher == "recorded" for run, _ in lwf for each in run.result.experiences[1:])
    pairs = [(seconds(one), seconds(other)) for (one, _), (other, _) in zip(lwf, naive, strict=True)]
    return ours_over_theirs(f"{network}, lwf: gradient steps of experiences 1 to 4", "clbench's naive", 1.1, pairs)
