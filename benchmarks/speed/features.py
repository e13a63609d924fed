"""Compares clbench's extraction of a frozen network's features to disk with a bare loop over the same network."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measuring import SEED, Bench, Row, Unavailable, alternating, need, ours_over_theirs
from clbench.data.datasets import open_dataset
from clbench.data.feature_cache import open_features
from clbench.system.machine import available_cores
from clbench.system.signals import Interruption

SIZE = 128
BATCH = 16
TRAIN, TEST = 480, 96


def features(bench: Bench) -> list[Row]:
    """EfficientNet-Lite0 on images of Split CIFAR-100, on all cores."""
    need(bench, "cifar100")
    if importlib.util.find_spec("timm") is None:
        raise Unavailable("timm is not installed")
    import timm

    torch.manual_seed(SEED)  # the values of the weights do not matter here
    trunk = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval().to(memory_format=torch.channels_last)
    dataset = open_dataset("cifar100", bench.data)
    images = {"train": dataset.x_train[:TRAIN], "test": dataset.x_test[:TEST]}
    pairs = alternating(bench.repeats, lambda: ours(trunk, images), lambda: theirs(trunk, images), warm_up=True)
    what = f"features of EfficientNet-Lite0 at {SIZE} px, extracted and stored"
    return [ours_over_theirs(what, "a bare loop over the network, on all cores", 1.05, pairs)]


def prepare(images: Tensor) -> Tensor:
    """Return the network's input."""
    x = images.permute(0, 3, 1, 2).float().sub_(127).div_(128)
    return F.interpolate(x, size=(SIZE, SIZE), mode="bilinear", antialias=True)


def ours(trunk: nn.Module, images: dict[str, np.ndarray]) -> float:
    """Return the seconds of an extraction into an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        key = {"network": "tf_efficientnet_lite0", "dataset": "cifar100", "size": SIZE}
        open_features(
            key, images, trunk, prepare, torch.device("cpu"), Path(folder), lambda event: None, Interruption()
        )
        return time.perf_counter() - began


def theirs(trunk: nn.Module, images: dict[str, np.ndarray]) -> float:
    """Return the seconds of a loop with all threads, which keeps the features in memory."""
    threads = torch.get_num_threads()
    torch.set_num_threads(available_cores())
    began = time.perf_counter()
    with torch.inference_mode():
        for part in images.values():
            stored = [trunk(prepare(batch)) for batch in torch.from_numpy(np.array(part)).split(BATCH)]
            torch.cat(stored)
    seconds = time.perf_counter() - began
    torch.set_num_threads(threads)
    return seconds
