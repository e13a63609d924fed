"""Measures what clbench costs besides training: commands, start-up, memory, and late against early experiences."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measuring import (
    Bench,
    Row,
    Run,
    Unavailable,
    alternating,
    command,
    need,
    ours_over_theirs,
    plan_run,
    run_clbench,
    wall_seconds,
)
from clbench.data.datasets import open_dataset

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "splitmnist.zip"
HEAVY = {"torch", "avalanche"}


def commands(bench: Bench) -> list[Row]:
    """Time interactive commands, and check that no command that trains nothing imports torch."""
    if not REFERENCE.is_file():
        raise Unavailable(f"there are no runs in {REFERENCE}")
    rows = []
    for argument in ("--help", "list"):
        pairs = [(wall_seconds(command(argument)), 0.25) for _ in range(bench.repeats)]
        rows.append(ours_over_theirs(f"clbench {argument}", "0.25 s", 1.0, pairs))
    with tempfile.TemporaryDirectory() as folder:
        report = ("report", str(REFERENCE), "--out", str(Path(folder, "page")))
        for arguments in (("--help",), ("list",), ("show", "lwf"), ("compare", str(REFERENCE)), report):
            refuse_heavy_imports(*arguments)
    return rows


def refuse_heavy_imports(*arguments: str) -> None:
    """Raise RuntimeError if a command imports torch or Avalanche, which take seconds."""
    timed = [sys.executable, "-X", "importtime", *command(*arguments)[1:]]
    lines = subprocess.run(timed, capture_output=True, check=True, text=True).stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    if found := sorted(HEAVY & imported):
        raise RuntimeError(f"`clbench {' '.join(arguments)}` imports {' and '.join(found)}")


# -- start-up ---------------------------------------------------------------------------------------------------------

# The command, which ends after an optimizer's first step, without Python's own shutdown.
FIRST_STEP = """
import os
from torch.optim.optimizer import register_optimizer_step_post_hook
from clbench.cli.program import program

end = os._exit  # which a command refuses to strategies
register_optimizer_step_post_hook(lambda *_: end(0))
program()
"""


def startup(bench: Bench) -> list[Row]:
    """Time of `clbench run` until its first gradient step, beyond that of `import torch` alone."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)

        def ours() -> float:
            results = tempfile.mkdtemp(dir=folder)
            options = ("--threads", str(bench.threads), "--data", str(bench.data), "--device", "cpu", "--out", results)
            run = ("run", "-s", "lwf", "-S", "splitdigits", *options)
            return wall_seconds([sys.executable, "-c", FIRST_STEP, *run], here)

        def theirs() -> float:
            return wall_seconds([sys.executable, "-c", "import os, torch; os._exit(0)"], here)

        pairs = alternating(bench.repeats, ours, theirs, warm_up=True)
    added = [(own - other, 1.0) for own, other in pairs]
    return [ours_over_theirs("clbench run to its first step, beyond `import torch`", "1 s", 1.0, added)]


# -- memory -----------------------------------------------------------------------------------------------------------

WITHOUT_DATA = """
import sys

import numpy as np
import torch

import clbench.cli.program, clbench.api.comparing, clbench.runs.run
from clbench.data.batches import Images
from clbench.plugins.networks import build
from clbench.system.peak_memory import peak_memory, reset_peak_memory

torch.set_num_threads(int(sys.argv[1]))
images = Images(np.zeros((1, 32, 32, 3), dtype=np.uint8), torch.device("cpu"))
reset_peak_memory()
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
print(peak_memory()["host_bytes"])
"""


def memory(bench: Bench) -> list[Row]:
    """Peak resident memory of a run, less that of training the same network on noise, against the size of the data.

    The arrays are mapped from the disk. Their pages count as resident once they are touched, although the system may
    drop them whenever it needs the room, so this is an upper bound of what a run takes.
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
        (path,) = Path(results).rglob("costs.json")
        peak = json.loads(path.read_bytes())["peak_memory"]["host_bytes"] / 1e6
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
    recipes = {"quick": clbench.Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=128, epochs=2)}
'''


def flatness(bench: Bench) -> list[Row]:
    """Late experiences against early ones: everything except evaluation, and evaluation per tested image.

    An evaluation tests all classes seen so far, whose number grows.
    """
    need(bench, "cifar100")
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder, "longstream.py")
        scenario.write_text(LONG_STREAM)
        rows = []
        for strategy in ("naive", "lwf"):
            planned = plan_run(bench, strategy, str(scenario))
            runs = [run_clbench(bench, planned) for _ in range(bench.repeats)]
            late, early = f"{strategy}, experiences 15 to 19", "its experiences 2 to 6"
            learning = [late_and_early(np.diff(run.boundaries) - evaluations(run)) for run in runs]
            rows.append(ours_over_theirs(f"{late}, without evaluation", early, 1.1, learning))
            # All experiences have the same number of images, so after experience i, i + 1 times as many are tested.
            tested = [late_and_early(evaluations(run) / np.arange(2, len(run.boundaries) + 1)) for run in runs]
            rows.append(ours_over_theirs(f"{late}, evaluation of as many images", early, 1.1, tested))
    return rows


def evaluations(run: Run) -> np.ndarray:
    """Return the seconds of each evaluation except the first."""
    return np.array([each.evaluation_seconds for each in run.costs.experiences[1:]])


def late_and_early(seconds: np.ndarray) -> tuple[float, float]:
    """Return the medians of experiences 15 to 19 and 2 to 6, of values that begin with experience 1."""
    return float(np.median(seconds[-5:])), float(np.median(seconds[1:6]))
