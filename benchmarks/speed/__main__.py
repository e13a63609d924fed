"""Measures clbench against its peers, in one run on one machine.

    python -m benchmarks.speed [--json FILE] [--only GROUP] [--repeats N] [--threads N] [--data DIR]

A row is a ratio within this run, never an absolute time, which would say more about the machine than about the code.
The two sides of a comparison alternate (A B, B A, …) and a row is the median over the pairs. Another process on the
machine then slows both sides of a pair, and a single disturbed pair does not matter.

Groups:
    training       an MLP on Split MNIST, and a CNN and a ResNet-32 on parts of Split CIFAR-10, against bare PyTorch
                   loops with the same mathematics: training alone, and whole runs
    avalanche      naive and lwf against Avalanche's own strategies with Avalanche's own data path
    grid           25 runs in one command against 25 Avalanche scripts
    commands       interactive commands, for which a person waits
    memory         peak memory on Split CIFAR-100 against the size of its arrays
    flatness       late experiences against early ones in a stream of 20
    startup        `clbench run` until its first gradient step, beyond what importing torch takes
    threads        the default number of threads against one and two, idle and with a busy neighbour
    channels_last  a training step of ResNet-32 in clbench's memory format against torch's default
    decoding       importing a folder of JPEGs against a bare loop over the decoder
    online         er on Split MNIST as an online stream, evaluated within experiences, against a bare loop
    tracking       a run that is followed by a tracker against one that is not
    features       a frozen network's features, extracted and stored, against a bare loop over the network
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.measuring import Bench, Row, Unavailable, open_console, print_rows
from benchmarks.speed.costs import commands, flatness, memory, startup
from benchmarks.speed.decoding import decoding
from benchmarks.speed.features import features
from benchmarks.speed.memory_format import channels_last
from benchmarks.speed.online import online
from benchmarks.speed.peers import avalanche, grid
from benchmarks.speed.threads import threads
from benchmarks.speed.tracking import tracking
from benchmarks.speed.training import training
from clbench.data.datasets import data_folder
from clbench.results import environment

GROUPS: dict[str, Callable[[Bench], list[Row]]] = {
    "training": training,
    "avalanche": avalanche,
    "grid": grid,
    "commands": commands,
    "memory": memory,
    "flatness": flatness,
    "startup": startup,
    "threads": threads,
    "channels_last": channels_last,
    "decoding": decoding,
    "features": features,
    "online": online,
    "tracking": tracking,
}


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description="Measure clbench against its peers.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the machine and the rows there, too")
    parser.add_argument("--only", choices=GROUPS, metavar="GROUP", help=f"one of {', '.join(GROUPS)}")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="pairs a row is the median of [5]")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads torch computes with [2]")
    parser.add_argument("--data", type=Path, metavar="DIR", help="data folder, as for clbench")
    options = parser.parse_args()
    if min(options.repeats, options.threads) < 1:
        parser.error("--repeats and --threads: at least 1")
    return options


def measure(bench: Bench, only: str | None) -> list[Row]:
    """Return the rows of one or all groups; report on standard error how long each took, or why it cannot run here."""
    progress, rows = Console(stderr=True), []
    for name, group in GROUPS.items():
        if only in (None, name):
            began = time.perf_counter()
            try:
                rows += group(bench)
                progress.print(f"{name}: {time.perf_counter() - began:.0f} s")
            except Unavailable as reason:
                progress.print(f"{name} is skipped: {reason}")
    return rows


def main() -> None:
    """Measure, print the table and write the file."""
    options = arguments()
    torch.set_num_threads(options.threads)
    bench = Bench(options.repeats, options.threads, data_folder(options.data).resolve())
    machine = environment.describe("cpu") | {"threads": options.threads}
    rows = measure(bench, options.only)
    console = open_console()
    packages = ("clbench", "torch", "avalanche-lib")
    versions = ", ".join(f"{package} {machine['packages'][package]}" for package in packages)
    console.print(
        f"{machine['processor']}, {machine['cores']} cores, {options.threads} threads; "
        f"Python {machine['python']}, {versions}\n"
    )
    print_rows(console, rows)
    if options.json:
        described = {"machine": machine, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()
