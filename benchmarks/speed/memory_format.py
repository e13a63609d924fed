"""Compares a training step of ResNet-32 in clbench's memory format, channels-last, with torch's default format."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.measuring import SEED, Bench, Row, alternating, ours_over_theirs
from clbench.plugins.networks import build

BATCH = 128
STEPS = 3


def channels_last(bench: Bench) -> list[Row]:
    """Seconds of a few steps in either format, alternating."""
    pairs = alternating(bench.repeats, steps(torch.channels_last), steps(torch.contiguous_format), warm_up=True)
    what = f"ResNet-32, training step at batch {BATCH}, channels last"
    return [ours_over_theirs(what, "the same, channels first", 1.0, pairs)]


def steps(memory_format: torch.memory_format) -> Callable[[], float]:
    """Return a function that trains a network in that format for a few steps and returns the seconds of one."""
    network = build("resnet32", (32, 32, 3), SEED)
    network.head.grow(10, SEED)
    network.to(memory_format=memory_format)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
    x = torch.rand(BATCH, 3, 32, 32).contiguous(memory_format=memory_format)
    y = torch.randint(10, (BATCH,))

    def train() -> float:
        began = time.perf_counter()
        for _ in range(STEPS):
            optimizer.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
        return (time.perf_counter() - began) / STEPS

    return train
