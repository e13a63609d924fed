"""What strategies are given: images as a network's inputs, and the features of a frozen trunk in their place."""

from __future__ import annotations

import subprocess
import sys

import pytest

FEATURES_OF_MANY_IMAGES = """
import re
from pathlib import Path

import numpy as np
import torch
from torch import nn

from clbench.data.batches import Images, Scaling
from clbench.extension.learner import Inputs, on_features


def memory():
    return int(re.search(r"RssAnon:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


large = np.ones(30 * 2**20, np.uint8)
del large  # from now on malloc takes inputs from memory that it keeps, as after a large array was freed
device = torch.device("cpu")
pixels = np.zeros((4000, 128, 128, 3), np.uint8)
inputs = Inputs(
    {"new": Images(pixels, device)},
    {"new": np.zeros(len(pixels), np.int64)},
    Scaling("standardized", (0.5,) * 3, (0.5,) * 3, device),
)
trunk = nn.Sequential(nn.AvgPool2d(16), nn.Flatten())
on_features(Inputs({"new": Images(pixels[:64], device)}, {"new": np.zeros(64, np.int64)}, inputs.scaling), trunk)
before = memory()
found = on_features(inputs, trunk)
assert found.images["new"].pixels.shape == (4000, 192)
print(memory() - before - found.images["new"].pixels.numel() * 4 / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_features_of_many_images_take_no_memory_but_their_own():
    words = [sys.executable, "-c", FEATURES_OF_MANY_IMAGES]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert float(done.stdout) < 150  # megabytes; as floats the images have 786
