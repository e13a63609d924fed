"""The features of a frozen trunk, which a run gets in the place of images if only the head trains."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from clbench.networks.trunk import Blocks
from clbench.results.run_spec import RunSpec
from clbench.runs.context import RunContext
from clbench.streams.stream import Stream

Features = npt.NDArray[np.float32]


def frozen_features(spec: RunSpec, stream: Stream, trunk: Blocks, around: RunContext) -> tuple[Features, Features]:
    """Return the features of all training and of all test images, (n, f) each."""
    parts = []
    for images in (stream.images, stream.test_set.images):
        rows = torch.arange(len(images.pixels)).split(64)
        with torch.inference_mode():
            parts.append(torch.cat([trunk(stream.scaling(images.read(own))) for own in rows]).cpu().numpy())
    return parts[0], parts[1]
