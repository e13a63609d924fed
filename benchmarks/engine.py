"""Measures clbench's engine beside its peers, in one run on one machine.

    python benchmarks/engine.py [--json FILE] [--only GROUP] [--repeats N] [--threads N] [--data DIR]

A row is a ratio within this run, never an absolute time, which would say more about the machine than about the code.
What is compared alternates (A B, B A, …) and a row is the median over the pairs: a neighbour on the machine then slows
both sides of a pair, and one disturbed pair does not count.

Groups:
    training   naive, l2, lwf and frozen on Split MNIST beside bare PyTorch loops that do the same mathematics
    avalanche  naive and lwf beside Avalanche's own strategies over Avalanche's own data path
    commands   `clbench --help` and `clbench list`
    memory     peak memory on Split CIFAR-100 beside the size of its arrays
    flatness   late experiences beside early ones in a stream of 20
    startup    `clbench run` until its first gradient step beside importing torch and Avalanche
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from clbench import environment
from clbench.datasets import Dataset, data_folder, describe, open_dataset
from clbench.events import Event, ExperienceFinished
from clbench.interruption import Interruption
from clbench.runner import Surroundings, execute
from clbench.store import ResultsFolder
from clbench.sweep import Request, plan

STRATEGIES = ("naive", "lwf", "l2", "frozen")
SEED = 0


@dataclass(frozen=True)
class Bench:
    """What every group is told."""

    repeats: int
    threads: int
    data: Path


@dataclass
class Row:
    """One comparison: `ratio` is the median of `ratios`, and is to be at most, or at least, `target`."""

    what: str
    against: str
    target: float
    better: Literal["lower", "higher"]
    ratios: list[float]
    ours: float
    """Median of what was measured of clbench, in `unit`."""

    theirs: float
    """Median of what it is held against, in `unit`."""

    unit: str = "s"
    ratio: float = field(init=False)
    repeats: int = field(init=False)

    def __post_init__(self) -> None:
        self.ratio, self.repeats = statistics.median(self.ratios), len(self.ratios)

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.ratio <= self.target if self.better == "lower" else self.ratio >= self.target


class Unavailable(Exception):
    """A group cannot run here; the message says why."""


def ours_over_theirs(what: str, against: str, target: float, pairs: Sequence[tuple[float, float]]) -> Row:
    """Return the row of pairs (ours, theirs) of seconds, of which ours are to be the fewer."""
    ours, theirs = zip(*pairs, strict=True)
    ratios = [own / other for own, other in pairs]
    return Row(what, against, target, "lower", ratios, statistics.median(ours), statistics.median(theirs))


def alternating(
    repeats: int, ours: Callable[[], Any], theirs: Callable[[], Any], warm_up: bool = False
) -> list[tuple[Any, Any]]:
    """Return what each gave, `repeats` times in pairs, the first of a pair changing from pair to pair.

    With `warm_up`, one pair more is done first and thrown away: kernels, pages and allocators are then warm for both.
    """
    pairs = [pair(bool(repeat % 2), ours, theirs) for repeat in range(repeats + warm_up)]
    return pairs[warm_up:]


def pair(theirs_first: bool, ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[Any, Any]:
    """Return what ours and theirs gave, called in the order asked for."""
    if theirs_first:
        other = theirs()
        return ours(), other
    return ours(), theirs()


# -- clbench ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A finished run of clbench in this process."""

    spec: dict[str, Any]
    result: dict[str, Any]
    boundaries: list[float]
    """When each experience was reported as finished, by the clock of this process."""

    def learning_seconds(self) -> list[float]:
        """Everything of an experience but its evaluation: choosing the data, recording, growing the head, training."""
        return [entry["seconds"] - entry["evaluation_seconds"] for entry in self.result["experiences"]]


def run_clbench(bench: Bench, strategy: str, scenario: str, epochs: int | None = None) -> Run:
    """Do one run as the command does it, in a results folder of its own, so that nothing is skipped."""
    boundaries: list[float] = []

    def notify(event: Event) -> None:
        if isinstance(event, ExperienceFinished):
            boundaries.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        request = Request(
            [strategy],
            [scenario],
            seeds=(SEED,),
            epochs=epochs,
            device="cpu",
            threads=bench.threads,
            results=Path(folder, "results"),
            data=bench.data,
        )
        (planned,) = plan(request, notify)
        around = Surroundings(ResultsFolder(request.results), bench.data, Interruption(), notify)
        outcome = execute(planned.spec, planned.plugin, around)
        if outcome is None or outcome.failed:
            raise RuntimeError(f"{strategy} on {scenario} did not finish: {outcome}")
        result = json.loads((outcome.path / "result.json").read_bytes())
    return Run(planned.spec, result, boundaries)


def command(*arguments: str) -> list[str]:
    """Return the command line of `clbench` under this interpreter."""
    return [sys.executable, "-m", "clbench", *arguments]


def wall_seconds(arguments: Sequence[str], folder: Path | None = None) -> float:
    """Return how long a process takes from its start to its end. Raises CalledProcessError where it fails."""
    began = time.perf_counter()
    subprocess.run(arguments, cwd=folder, capture_output=True, check=True)
    return time.perf_counter() - began


def need(bench: Bench, dataset: str) -> None:
    """Raise Unavailable where the dataset is not prepared: a benchmark does not download."""
    if describe(dataset, bench.data) is None:
        raise Unavailable(f"{dataset} is not in {bench.data}; bring it in with `clbench data fetch {dataset}`")


# -- training beside a bare loop --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What one experience of a bare loop has to learn."""

    images: Tensor
    """(n, height, width, channels) of uint8."""

    y: Tensor
    """Class positions, (n,)."""

    old: int
    """Classes learned before; 0 in the first experience."""

    new: int


def scaled(images: Tensor) -> Tensor:
    """uint8 -> about mean 0 and deviation 1. Done a batch at a time: measured faster than the whole at once."""
    return images.float().sub_(33.3).div_(78.6)


def in_parts(network: nn.Module, images: Tensor) -> Tensor:
    """The network's output for every image, without gradients."""
    with torch.no_grad():
        return torch.cat([network(scaled(part)) for part in images.split(500)])


class BareLearner:
    """A strategy's mathematics as a few lines of plain PyTorch, with nothing checked, counted, saved or reported."""

    def __init__(self, recipe: dict[str, Any]) -> None:
        assert (recipe["model"], recipe["optimizer"]) == ("mlp", "adam"), "the bare loop below is written for these"
        self.recipe = recipe
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU())
        self.head: nn.Linear | None = None

    def learn(self, task: Task) -> None:
        """Train on one experience."""
        if task.old:
            self.remember(task)
        self.grow(task)
        self.fit(nn.Sequential(self.trunk, self.head), task.images, task, scaled)

    def remember(self, task: Task) -> None:
        """What is kept of the old network before the head grows."""

    def grow(self, task: Task) -> None:
        """Replace the head by one that has rows for the new classes too."""
        before, self.head = self.head, nn.Linear(400, task.old + task.new)
        if before is None:
            return
        with torch.no_grad():
            self.head.weight[: task.old] = before.weight
            self.head.bias[: task.old] = before.bias

    def fit(
        self, network: nn.Module, inputs: Tensor, task: Task, prepare: Callable[[Tensor], Tensor], decay: float = 0.0
    ) -> None:
        """The loop: whole batches by index, one optimizer step for each."""
        optimizer = torch.optim.Adam(network.parameters(), self.recipe["lr"], weight_decay=decay, fused=True)
        for _ in range(self.recipe["epochs"]):
            for chosen in torch.randperm(len(inputs)).split(self.recipe["batch_size"]):
                loss = self.loss(network(prepare(inputs[chosen])), task.y[chosen], chosen, task)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    def loss(self, logits: Tensor, y: Tensor, chosen: Tensor, task: Task) -> Tensor:
        """The loss of a batch, of which `chosen` are the rows."""
        return F.cross_entropy(logits, y)


class BareL2(BareLearner):
    """λ = 1 times the squared distance of every old weight from its value before."""

    def remember(self, task: Task) -> None:
        self.anchors = [w.detach().clone() for w in (*self.trunk.parameters(), *self.head.parameters())]

    def loss(self, logits: Tensor, y: Tensor, chosen: Tensor, task: Task) -> Tensor:
        loss = F.cross_entropy(logits, y)
        if not task.old:
            return loss
        weights = [*self.trunk.parameters(), self.head.weight[: task.old], self.head.bias[: task.old]]
        return loss + sum(((w - anchor) ** 2).sum() for w, anchor in zip(weights, self.anchors, strict=True))


class BareLwF(BareLearner):
    """Cross-entropy over the new classes, and distillation of the recorded answers within each earlier experience."""

    temperature = 2.0

    def grouped(self, logits: Tensor, task: Task) -> Tensor:
        """(n, old) -> (n, earlier experiences, classes of each), divided by the temperature."""
        return logits.view(len(logits), -1, task.new) / self.temperature

    def remember(self, task: Task) -> None:
        answers = in_parts(nn.Sequential(self.trunk, self.head), task.images)
        self.targets = F.softmax(self.grouped(answers, task), dim=-1)

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
    """After the first experience only the new rows train, on features that are computed once."""

    def learn(self, task: Task) -> None:
        if not task.old:
            super().learn(task)
            return
        features = in_parts(self.trunk, task.images)
        new = nn.Linear(400, task.new)
        self.fit(new, features, task, lambda x: x)
        self.grow(task)
        with torch.no_grad():
            self.head.weight[task.old :] = new.weight
            self.head.bias[task.old :] = new.bias

    def loss(self, logits: Tensor, y: Tensor, chosen: Tensor, task: Task) -> Tensor:
        return F.cross_entropy(logits, y - task.old)


BARE = {"naive": BareLearner, "l2": BareL2, "lwf": BareLwF, "frozen": BareFrozen}


def bare_seconds(strategy: str, spec: dict[str, Any], dataset: Dataset) -> list[float]:
    """Return how long the bare loop learns each experience of a run of clbench, choosing the data included."""
    images, labels = torch.from_numpy(dataset.x_train), torch.from_numpy(dataset.y_train)
    position = torch.from_numpy(np.argsort(spec["scenario"]["class_order"]))
    learner, seconds, old = BARE[strategy](spec["recipe"]), [], 0
    for new in spec["scenario"]["classes_per_experience"]:
        began = time.perf_counter()
        positions = position[labels]
        rows = ((positions >= old) & (positions < old + new)).nonzero().flatten()
        learner.learn(Task(images[rows], positions[rows], old, new))
        seconds.append(time.perf_counter() - began)
        old += new
    return seconds


def training(bench: Bench) -> list[Row]:
    """Learning time per strategy over the whole stream, and from experience 1 on, where the method begins to act."""
    need(bench, "mnist")
    dataset = open_dataset("mnist", bench.data)
    pairs: dict[str, list[tuple[Run, list[float]]]] = {strategy: [] for strategy in STRATEGIES}
    warm = run_clbench(bench, "naive", "splitmnist")
    bare_seconds("naive", warm.spec, dataset)
    # Every strategy in every round, so that strategies are compared within minutes, too.
    for repeat in range(bench.repeats):
        for strategy, measured in pairs.items():
            ours = partial(run_clbench, bench, strategy, "splitmnist")
            measured.append(pair(bool(repeat % 2), ours, partial(bare_seconds, strategy, warm.spec, dataset)))
    rows = []
    for strategy, measured in pairs.items():
        for first in (0, 1):
            sums = [(sum(run.learning_seconds()[first:]), sum(bare[first:])) for run, bare in measured]
            rows.append(ours_over_theirs(f"{strategy}, experiences {first} to 4", "a bare PyTorch loop", 1.1, sums))
    return [*rows, lwf_beside_naive([run for run, _ in pairs["lwf"]], [run for run, _ in pairs["naive"]])]


def lwf_beside_naive(lwf: Sequence[Run], naive: Sequence[Run]) -> Row:
    """What distillation costs in the gradient steps, where the old network's answers are recorded already."""

    def seconds(run: Run) -> float:
        return sum(entry["training_seconds"] for entry in run.result["experiences"][1:])

    assert all(entry["recorded"] == "recorded" for run in lwf for entry in run.result["experiences"][1:])
    pairs = [(seconds(one), seconds(other)) for one, other in zip(lwf, naive, strict=True)]
    return ours_over_theirs("lwf, gradient steps of experiences 1 to 4", "clbench's naive", 1.1, pairs)


# -- training beside Avalanche ----------------------------------------------------------------------------------------

# Avalanche needs several seconds for each epoch, and its distance from us is a multiple rather than a percentage.
AVALANCHE_REPEATS = 3


def avalanche(bench: Bench) -> list[Row]:
    """Learning time of one epoch per experience, ours beside Avalanche's strategies with its datasets and loaders."""
    need(bench, "mnist")
    if not (bench.data / "MNIST" / "raw").is_dir():
        raise Unavailable(f"torchvision's MNIST files are not in {bench.data / 'MNIST' / 'raw'}")
    with quiet():
        stream = avalanche_stream(bench.data)
    rows = []
    for strategy in ("naive", "lwf"):
        pairs = alternating(
            min(bench.repeats, AVALANCHE_REPEATS),
            lambda name=strategy: sum(run_clbench(bench, name, "splitmnist", epochs=1).learning_seconds()),
            lambda name=strategy: avalanche_seconds(name, stream),
        )
        row = ours_over_theirs(f"{strategy}, speed", f"Avalanche's {strategy}, own data path", 6.0, pairs)
        rows.append(
            Row(row.what, row.against, 6.0, "higher", [1 / ratio for ratio in row.ratios], row.ours, row.theirs)
        )
    return rows


@contextlib.contextmanager
def quiet() -> Any:
    """Keep Avalanche's progress lines and warnings off the terminal."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def avalanche_stream(data: Path) -> Any:
    """Return Split MNIST as an Avalanche user makes it of torchvision's dataset."""
    from avalanche.benchmarks import nc_benchmark
    from torchvision import datasets, transforms

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train, test = (datasets.MNIST(str(data), train=part, transform=transform) for part in (True, False))
    return nc_benchmark(train, test, n_experiences=5, task_labels=False, seed=SEED, shuffle=True)


def avalanche_seconds(strategy: str, stream: Any) -> float:
    """Return how long Avalanche's strategy trains one epoch on each experience, without evaluation."""
    from avalanche.models import SimpleMLP
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import LwF, Naive

    with quiet():
        model = SimpleMLP(num_classes=10, hidden_size=400, hidden_layers=2, drop_rate=0)
        common = {
            "model": model,
            "optimizer": torch.optim.Adam(model.parameters(), lr=1e-3),
            "criterion": nn.CrossEntropyLoss(),
            "train_mb_size": 128,
            "train_epochs": 1,
            "evaluator": EvaluationPlugin(loggers=[]),
        }
        learner = LwF(alpha=1.0, temperature=2.0, **common) if strategy == "lwf" else Naive(**common)
        began = time.perf_counter()
        for experience in stream.train_stream:
            learner.train(experience)
        return time.perf_counter() - began


# -- commands and start-up --------------------------------------------------------------------------------------------


def commands(bench: Bench) -> list[Row]:
    """The commands that a person waits for while typing."""
    rows = []
    for argument in ("--help", "list"):
        pairs = [(wall_seconds(command(argument)), 0.5) for _ in range(bench.repeats)]
        rows.append(ours_over_theirs(f"clbench {argument}", "0.5 s", 1.0, pairs))
    return rows


# Ends the process, without anything that Python does on leaving, when the first gradient step lies behind it.
FIRST_STEP = '''"""Naive training that ends its process after one gradient step."""

import os

import clbench
from clbench import losses


class FirstStep(clbench.Strategy):
    steps = 0

    def loss(self, batch):
        if self.steps:
            os._exit(0)
        self.steps = 1
        return losses.cross_entropy(batch.logits, batch.y)
'''


def startup(bench: Bench) -> list[Row]:
    """What clbench adds to the imports that it cannot do without."""
    with tempfile.TemporaryDirectory() as folder:
        strategy = Path(folder, "first_step.py")
        strategy.write_text(FIRST_STEP)

        def ours() -> float:
            with tempfile.TemporaryDirectory() as results:
                options = ("--threads", str(bench.threads), "--data", str(bench.data), "--device", "cpu")
                arguments = ("run", "-s", str(strategy), "-S", "splitdigits", "--out", results, *options)
                return wall_seconds(command(*arguments), Path(folder))

        def theirs() -> float:
            imports = "import os, torch, avalanche.training.templates; os._exit(0)"
            return wall_seconds([sys.executable, "-W", "ignore", "-c", imports], Path(folder))

        pairs = alternating(bench.repeats, ours, theirs, warm_up=True)
    added = [own - other for own, other in pairs]
    what = "clbench run to its first step, beyond the imports"
    return [ours_over_theirs(what, "1 s beyond importing torch and Avalanche", 1.0, [(extra, 1.0) for extra in added])]


# -- memory -----------------------------------------------------------------------------------------------------------

WITHOUT_DATA = """
import sys

import numpy as np
import torch

import clbench.cli, clbench.api, clbench.runner
from clbench import footprint
from clbench.batches import Images
from clbench.models import build

torch.set_num_threads(int(sys.argv[1]))
images = Images(np.zeros((1, 32, 32, 3), dtype=np.uint8), torch.device("cpu"))
footprint.reset_peak_memory()
network = build("cnn", (32, 32, 3), 0)
network.head.grow(100, 0)
optimizer = torch.optim.Adam(network.parameters(), fused=True)
for step in range(20):
    x = torch.rand(128, 32, 32, 3).permute(0, 3, 1, 2)
    torch.nn.functional.cross_entropy(network(x), torch.randint(100, (128,))).backward()
    optimizer.step()
    optimizer.zero_grad()
with torch.no_grad():
    for batch in range(5):
        network.eval()(torch.rand(images.inference_batch, 32, 32, 3).permute(0, 3, 1, 2))
print(footprint.peak_memory()["host_bytes"])
"""


def memory(bench: Bench) -> list[Row]:
    """Peak resident memory of a run, less that of a process which trains the same network on noise, beside the data.

    The arrays are mapped from the disk. Their pages count as resident once they are touched, although the system may
    drop them whenever it needs the room, so this is the upper end of what a run takes.
    """
    need(bench, "cifar100")
    size = open_dataset("cifar100", bench.data).info.bytes / 1e6
    command_line = [sys.executable, "-c", WITHOUT_DATA, str(bench.threads)]
    without = int(subprocess.run(command_line, capture_output=True, check=True).stdout) / 1e6
    with tempfile.TemporaryDirectory() as results:
        # Two experiences read every image as ten do, and evaluate less often.
        options = ("--threads", str(bench.threads), "--data", str(bench.data), "--device", "cpu")
        short = ("--split", "2", "--epochs", "1")
        wall_seconds(command("run", "-s", "naive", "-S", "splitcifar100", "--out", results, *options, *short))
        (path,) = Path(results).rglob("result.json")
        peak = json.loads(path.read_bytes())["totals"]["peak_memory"]["host_bytes"] / 1e6
    extra = peak - without
    what = "naive on Split CIFAR-100, peak beyond the network's"
    return [Row(what, "the dataset's arrays", 2.0, "lower", [extra / size], extra, size, "MB")]


# -- flatness ---------------------------------------------------------------------------------------------------------

# A small network, so that whatever grows with the stream is not hidden behind convolutions.
LONG_STREAM = '''"""Split CIFAR-100 in 20 experiences, learned by an MLP."""

import clbench


class LongStream(clbench.Scenario):
    dataset = "cifar100"
    split = "20"
    recipes = {"quick": clbench.Recipe(model="mlp", optimizer="adam", lr=1e-3, batch_size=128, epochs=2)}
'''


def flatness(bench: Bench) -> list[Row]:
    """Time from the end of one experience to the end of the next: training, evaluation, checkpoint and accounts."""
    need(bench, "cifar100")
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder, "longstream.py")
        scenario.write_text(LONG_STREAM)
        rows = []
        for strategy in ("naive", "lwf"):
            runs = [run_clbench(bench, strategy, str(scenario)) for _ in range(bench.repeats)]
            # The first interval ends experience 1, and the early ones are those of experiences 2 to 6.
            spans = [np.diff(run.boundaries) for run in runs]
            pairs = [(float(np.median(span[-5:])), float(np.median(span[1:6]))) for span in spans]
            rows.append(ours_over_theirs(f"{strategy}, experiences 15 to 19", "its experiences 2 to 6", 1.1, pairs))
    return rows


# -- the whole --------------------------------------------------------------------------------------------------------

GROUPS: dict[str, Callable[[Bench], list[Row]]] = {
    "training": training,
    "avalanche": avalanche,
    "commands": commands,
    "memory": memory,
    "flatness": flatness,
    "startup": startup,
}


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """Print the table: each ratio with its target and its range over the repeats."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("what", "against"):
        table.add_column(heading)
    for heading in ("ours", "theirs", "ratio", "range", "n", "target", ""):
        table.add_column(heading, justify="right")
    for row in rows:
        sign = "≤" if row.better == "lower" else "≥"
        span = f"{min(row.ratios):.2f}–{max(row.ratios):.2f}" if row.repeats > 1 else ""
        measured = (f"{row.ours:.3g} {row.unit}", f"{row.theirs:.3g} {row.unit}", f"{row.ratio:.2f}", span)
        verdict = "met" if row.met else "[red]missed"
        table.add_row(row.what, row.against, *measured, str(row.repeats), f"{sign} {row.target:g}", verdict)
    console.print(table)


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description="Measure clbench's engine beside its peers.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the machine and the rows there, too")
    parser.add_argument("--only", choices=GROUPS, metavar="GROUP", help=f"one of {', '.join(GROUPS)}")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="pairs a row is the median of [5]")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads torch computes with [2]")
    parser.add_argument("--data", type=Path, metavar="DIR", help="data folder, as for clbench")
    return parser.parse_args()


def main() -> None:
    """Measure, print and write."""
    options = arguments()
    torch.set_num_threads(options.threads)
    bench = Bench(options.repeats, options.threads, data_folder(options.data).resolve())
    machine = environment.describe("cpu") | {"threads": options.threads}
    console, progress = Console(width=None if sys.stdout.isatty() else 200), Console(stderr=True)
    rows: list[Row] = []
    for name, group in GROUPS.items():
        if options.only in (None, name):
            began = time.perf_counter()
            try:
                rows += group(bench)
                progress.print(f"{name}: {time.perf_counter() - began:.0f} s")
            except Unavailable as reason:
                progress.print(f"{name} is skipped: {reason}")
    versions = ", ".join(
        f"{package} {machine['packages'][package]}" for package in ("clbench", "torch", "avalanche-lib")
    )
    console.print(
        f"{machine['processor']}, {machine['cores']} cores, {options.threads} threads; "
        f"Python {machine['python']}, {versions}\n"
    )
    print_rows(console, rows)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
