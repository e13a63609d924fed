"""Measures how much of a processor's or GPU's capacity a training step uses: images per second and share of the peak.

    python -m benchmarks.device [--device cpu|cuda] [--networks LIST] [--batches LIST] [--steps N] [--threads N]
                                [--json FILE]

A step is forward, backward and the optimizer's update, on a batch of noise that is already on the device. Its peak is
that of a large matrix product in the same arithmetic, measured in the same run; its bound is the time that its
floating-point operations would take at that peak. On CUDA, every step is also measured as a replayed graph.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring import SEED, open_console
from clbench.plugins.discovery import discover
from clbench.plugins.networks import build
from clbench.results import environment
from clbench.training.cuda_graphs import GraphRecorder

CLASSES = 100
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WARM_UP = 3

# Large enough that the time to start them is negligible, and small enough for a CPU to finish within a second.
MATRIX = {"cpu": 2048, "cuda": 8192}
COPIED_BYTES = {"cpu": 2**28, "cuda": 2**32}


@dataclass(frozen=True)
class Device:
    """The device that is measured, and its limits."""

    kind: str
    peaks: dict[str, float]
    """Floating-point operations per second of a large matrix product, by precision."""

    bandwidth: float
    """Bytes per second, read and written, of a large copy."""


@dataclass(frozen=True)
class Step:
    """A measured training step."""

    network: str
    batch: int
    precision: str
    how: str
    """`eager`, or `graph`: replayed."""

    seconds: float
    flops: int
    images_per_second: float
    share_of_peak: float
    bound_seconds: float


# -- what the device can do -------------------------------------------------------------------------------------------


def seconds_of(do: Callable[[], Any], times: int, device: str) -> float:
    """Return the mean duration of one call over `times` calls, after a few warm-up calls that are not counted."""
    for _ in range(WARM_UP):
        do()
    finish(device)
    began = time.perf_counter()
    for _ in range(times):
        do()
    finish(device)
    return (time.perf_counter() - began) / times


def finish(device: str) -> None:
    """Wait until a GPU has finished all queued work."""
    if device == "cuda":
        torch.cuda.synchronize()


def measured(device: str, steps: int) -> Device:
    """Measure the device's peaks and its bandwidth."""
    peaks = {name: peak(device, dtype, steps) for name, dtype in PRECISIONS.items()}
    source = torch.ones(COPIED_BYTES[device], dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    seconds = seconds_of(lambda: target.copy_(source), steps, device)
    return Device(device, peaks, 2 * source.nbytes / seconds)


def peak(device: str, dtype: torch.dtype, steps: int) -> float:
    """Return the operations per second of a product of square matrices."""
    n = MATRIX[device]
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    products, before = torch.backends.cuda.matmul, torch.backends.cuda.matmul.allow_tf32
    # If convolutions in float32 may use TF32, which is torch's default, their peak is that of products in TF32.
    products.allow_tf32 = torch.backends.cudnn.allow_tf32
    seconds = seconds_of(lambda: a @ b, steps, device)
    products.allow_tf32 = before
    return 2 * n**3 / seconds


# -- a training step --------------------------------------------------------------------------------------------------


def training_step(name: str, batch: int, precision: str, device: str) -> Callable[[], Tensor]:
    """Return a function that performs a step and returns the loss."""
    network = build(name, (32, 32, 3), SEED)
    network.head.grow(CLASSES, SEED)
    network = network.to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=True)
    # In the memory format in which clbench serves batches.
    x = torch.rand(batch, 32, 32, 3, device=device).permute(0, 3, 1, 2)
    y = torch.randint(CLASSES, (batch,), device=device)
    lower = precision != "float32"

    def step() -> Tensor:
        optimizer.zero_grad()
        # Cast weights are used once in a step; a cache of them would keep a graph from being captured.
        with torch.autocast(device, PRECISIONS[precision] if lower else None, enabled=lower, cache_enabled=False):
            logits = network(x)
        loss = F.cross_entropy(logits.float(), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def ways(step: Callable[[], Tensor], device: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the plain step and, on CUDA, also the step replayed from a graph."""
    yield "eager", step
    if device == "cuda":
        recorder = GraphRecorder()
        with recorder.aside():
            for _ in range(WARM_UP):
                step()
        replay, _ = recorder.record(step)
        yield "graph", replay


def measure(device: Device, name: str, batch: int, precision: str, steps: int) -> Iterator[Step]:
    """Yield the measured steps of one network, batch and precision."""
    step = training_step(name, batch, precision, device.kind)
    with FlopCounterMode(display=False) as counter:
        step()
    flops, bound = counter.get_total_flops(), counter.get_total_flops() / device.peaks[precision]
    for how, do in ways(step, device.kind):
        seconds = seconds_of(do, steps, device.kind)
        yield Step(name, batch, precision, how, seconds, flops, batch / seconds, bound / seconds, bound)


# -- the whole --------------------------------------------------------------------------------------------------------


def print_steps(console: Console, device: Device, steps: list[Step]) -> None:
    """Print the device's limits and the table."""
    for precision, rate in device.peaks.items():
        console.print(f"matrix product, {precision}: {rate / 1e12:.3g} TFLOP/s")
    console.print(f"copy: {device.bandwidth / 1e9:.3g} GB/s, read and written\n")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("network", "batch", "precision", "step"):
        table.add_column(heading)
    for heading in ("ms", "images/s", "GFLOP", "of the peak", "bound, ms"):
        table.add_column(heading, justify="right")
    for step in steps:
        what = (step.network, str(step.batch), step.precision, step.how)
        times = (f"{1e3 * step.seconds:.3g}", f"{step.images_per_second:,.0f}", f"{step.flops / 1e9:.4g}")
        table.add_row(*what, *times, f"{100 * step.share_of_peak:.1f} %", f"{1e3 * step.bound_seconds:.3g}")
    console.print(table)


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description="Measure a training step against the device's limits.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute [cpu]")
    known = ", ".join(plugin.name for plugin in discover("network"))
    parser.add_argument("--networks", default="resnet18,resnet32", metavar="LIST", help=f"of {known}")
    parser.add_argument("--batches", default="128,512", metavar="LIST", help="batch sizes [128,512]")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="steps that are averaged [20]")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads torch computes with on a CPU [2]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the machine and the measurements there, too")
    return parser.parse_args()


def main() -> None:
    """Measure, print the table and write the file."""
    options = arguments()
    torch.set_num_threads(options.threads)
    device = measured(options.device, options.steps)
    steps = [
        step
        for name in options.networks.split(",")
        for batch in map(int, options.batches.split(","))
        for precision in PRECISIONS
        for step in measure(device, name, batch, precision, options.steps)
    ]
    machine = environment.describe(options.device) | {"threads": options.threads}
    console = open_console()
    console.print(f"{machine.get('gpu', machine['processor'])}; torch {machine['packages']['torch']}\n")
    print_steps(console, device, steps)
    if options.json:
        described = {"machine": machine, "device": asdict(device), "steps": [asdict(step) for step in steps]}
        options.json.write_text(json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()
