"""Initial weights as other codebases draw them."""

from __future__ import annotations

import torch
from torch import nn


def draw_truncated_normal(layer: nn.Conv2d | nn.Linear, generator: torch.Generator | None = None) -> None:
    """Draw the weights from N(0, 0.1²), cut off at two standard deviations, and set the biases, if any, to 0.1.

    TensorFlow's first tutorials initialized networks so; facebookresearch/agem (Chaudhry et al. 2019) still does, in
    weight_variable and bias_variable of model/model.py at 4542149.
    """
    nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2, generator=generator)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, 0.1)
