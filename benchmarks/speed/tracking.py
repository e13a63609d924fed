"""Measures what tracking costs a run, and the command, which waits for the tracker at its end."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import Bench, Row, alternating, command, need, ours_over_theirs

TRACKERS = ("events", "tensorboard", "wandb", "mlflow")

# The command, which then prints the computing time of its own process, in all threads, without that of the trackers.
COMPUTING = """
import time
from clbench.cli.program import program

try:
    program()
finally:
    print("computed", time.process_time(), flush=True)
"""


def tracking(bench: Bench) -> list[Row]:
    """The MLP on Split MNIST, naive, followed by each tracker, against the same command without a tracker."""
    need(bench, "mnist")
    rows = []
    for name in TRACKERS:
        pairs = alternating(bench.repeats, lambda: _measured(bench, "--track", name), lambda: _measured(bench))  # noqa: B023
        what, against = f"naive on Split MNIST, --track {name}", "the same, not tracked"
        computed = [(ours[0], theirs[0]) for ours, theirs in pairs]
        rows.append(ours_over_theirs(f"{what}: computing time of its process", against, 1.05, computed))
        passed = [(ours[1], theirs[1]) for ours, theirs in pairs]
        rows.append(ours_over_theirs(f"{what}: the whole command", against, 1.5, passed))
    return rows


def _measured(bench: Bench, *options: str) -> tuple[float, float]:
    """Return the computing time of the command's process and the wall time, in seconds."""
    machine = ("--threads", str(bench.threads), "--data", str(bench.data), "--device", "cpu")
    words = command("run", "-s", "naive", "-S", "splitmnist", *machine, *options)[3:]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", COMPUTING, *words], cwd=Path(folder), capture_output=True, text=True, check=True
        )
        passed = time.perf_counter() - began
    return float(done.stdout.split()[-1]), passed
