"""Compares the default number of threads with others, on an idle machine and while another process computes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import Bench, Row, alternating, command, need, ours_over_theirs, wall_seconds

FIRST_COMMAND = ("run", "-s", "lwf", "-S", "splitdigits")
SPLIT_MNIST = ("run", "-s", "naive", "-S", "splitmnist", "--epochs", "1")
TARGETS = {1: 1.2, 2: 2.0}
"""By the number of threads that the default is held against; two threads can be twice as fast on an idle machine."""


def threads(bench: Bench) -> list[Row]:
    """The default against one thread and against two, and `--jobs 2` against `--jobs auto`."""
    need(bench, "mnist")
    rows = []
    for name, arguments in (("README's first command", FIRST_COMMAND), ("Split MNIST, naive, 1 epoch", SPLIT_MNIST)):
        for neighbours in (0, 1):
            with _busy(neighbours):
                for count in (1, 2):
                    pairs = alternating(
                        bench.repeats,
                        lambda arguments=arguments: _training_seconds(bench, *arguments),
                        lambda arguments=arguments, count=count: _training_seconds(
                            bench, *arguments, "--threads", str(count)
                        ),
                    )
                    beside = " beside a busy core" if neighbours else ""
                    rows.append(
                        ours_over_theirs(f"{name}{beside}: training", f"--threads {count}", TARGETS[count], pairs)
                    )
    grid = (*SPLIT_MNIST, "--seeds", "6")
    pairs = alternating(
        bench.repeats,
        lambda: _wall_seconds(bench, *grid, "--jobs", "2"),
        lambda: _wall_seconds(bench, *grid, "--jobs", "auto"),
    )
    return [*rows, ours_over_theirs("six runs on Split MNIST, --jobs 2", "--jobs auto", 1.2, pairs)]


@contextlib.contextmanager
def _busy(neighbours: int) -> Iterator[None]:
    """Keep that many other processes computing without a pause, within the context."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(neighbours)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def _training_seconds(bench: Bench, *arguments: str) -> float:
    """Return the seconds of training that a command's run reports, with the threads that the command chooses."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            command(*arguments, "--data", str(bench.data)), cwd=folder, env=environment, capture_output=True, check=True
        )
        (costs,) = Path(folder).rglob("costs.json")
        seconds: float = json.loads(costs.read_bytes())["totals"]["training_seconds"]
    return seconds


def _wall_seconds(bench: Bench, *arguments: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return wall_seconds(command(*arguments, "--data", str(bench.data)), Path(folder))
