"""Compares clbench with Avalanche as users run it: one epoch in this process, and a whole grid of runs as commands."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measuring import (
    SEED,
    Bench,
    Row,
    Unavailable,
    alternating,
    command,
    need,
    ours_over_theirs,
    plan_run,
    run_clbench,
    speed,
    wall_seconds,
)
from clbench.system.machine import available_cores

SCRIPT = Path(__file__).with_name("avalanche_script.py")

# Avalanche needs several seconds for each epoch, and it differs from us by a factor rather than by a few percent.
AVALANCHE_REPEATS = 3


def avalanche(bench: Bench) -> list[Row]:
    """Learning time of one epoch per experience, against Avalanche's strategies with its datasets and loaders."""
    need_mnist_twice(bench)
    with quiet():
        from benchmarks.speed import avalanche_script

        stream = avalanche_script.stream(str(bench.data), SEED)
    rows = []
    for strategy in ("naive", "lwf"):
        planned = plan_run(bench, strategy, "splitmnist", epochs=1)
        pairs = alternating(
            min(bench.repeats, AVALANCHE_REPEATS),
            lambda planned=planned: run_clbench(bench, planned).learning_seconds,
            partial(avalanche_seconds, strategy, stream),
        )
        rows.append(speed(f"{strategy}, speed", f"Avalanche's {strategy}, own data path", 6.0, pairs))
    return rows


def need_mnist_twice(bench: Bench) -> None:
    """Raise Unavailable unless MNIST is there for clbench and, as torchvision's files, for Avalanche."""
    need(bench, "mnist")
    if not (bench.data / "MNIST" / "raw").is_dir():
        raise Unavailable(f"torchvision's MNIST files are not in {bench.data / 'MNIST' / 'raw'}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Avalanche's progress lines and warnings off the terminal."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def avalanche_seconds(strategy: str, stream: Any) -> float:
    """Return how long Avalanche's strategy trains one epoch on each experience, without evaluation."""
    with quiet():
        from benchmarks.speed import avalanche_script

        learner = avalanche_script.learner(strategy, avalanche_script.EvaluationPlugin(loggers=[]), epochs=1)
        began = time.perf_counter()
        for experience in stream.train_stream:
            learner.train(experience)
        return time.perf_counter() - began


# -- a grid -----------------------------------------------------------------------------------------------------------

SEEDS = 5

# The script that stands for each strategy; see avalanche_script.py.
SCRIPT_OF = {"naive": "naive", "l2": "naive", "frozen": "naive", "lwf": "lwf", "joint": "joint"}


# None of these strategies takes so long that the time saved by sharing would be lost in the noise.
SHARING = ("naive", "l2", "frozen", "lwf")
SHARING_SEEDS = 2


def grid(bench: Bench) -> list[Row]:
    """Five strategies with five seeds, as processes from their start to their end; and the time saved by sharing.

    The large grid is measured once: it takes minutes.
    """
    need_mnist_twice(bench)
    ours = grid_seconds(bench, tuple(SCRIPT_OF), SEEDS, "--share")
    scripts = {name: script_seconds(bench, name) for name in sorted(set(SCRIPT_OF.values()))}
    theirs = SEEDS * sum(scripts[name] for name in SCRIPT_OF.values())
    runs = SEEDS * len(SCRIPT_OF)
    against = f"{runs} Avalanche scripts ({len(scripts)} timed, naive for l2 and frozen, too; × {SEEDS} seeds)"
    return [speed(f"{runs} runs of Split MNIST by one command, speed", against, 12.0, [(ours, theirs)]), shared(bench)]


def shared(bench: Bench) -> Row:
    """Time saved by training a shared first experience only once."""
    pairs = alternating(
        min(bench.repeats, AVALANCHE_REPEATS),
        partial(grid_seconds, bench, SHARING, SHARING_SEEDS, "--share"),
        partial(grid_seconds, bench, SHARING, SHARING_SEEDS, "--no-share"),
    )
    what = f"{SHARING_SEEDS * len(SHARING)} runs by one command, first experiences shared"
    return ours_over_theirs(what, "the same with --no-share", 1.0, pairs)


def grid_seconds(bench: Bench, strategies: Sequence[str], seeds: int, sharing: str) -> float:
    """Return how long one command takes for all runs on Split MNIST."""
    runs = ("-s", ",".join(strategies), "-S", "splitmnist", "--seeds", str(seeds), "--jobs", "auto", sharing)
    with tempfile.TemporaryDirectory() as results:
        where = ("--out", results, "--data", str(bench.data), "--device", "cpu")
        return wall_seconds(command("run", *runs, *where))


def script_seconds(bench: Bench, strategy: str) -> float:
    """Return how long one script takes with every core."""
    script = (str(SCRIPT), strategy, str(SEED), str(bench.data), str(available_cores()))
    return wall_seconds([sys.executable, *script])
