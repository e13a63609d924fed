"""Initial weights as other codebases draw them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Drawn = Literal["xavier_uniform", "truncated_normal"]


def draw_weights(layer: nn.Conv2d | nn.Linear, how: Drawn, generator: torch.Generator | None = None) -> None:
    """Draw the layer's weights, and set its biases, if any, to a constant.

    xavier_uniform    U(-√(6/(m+n)), √(6/(m+n))) for m inputs and n outputs (Glorot & Bengio 2010), and biases of 0;
                      as aimagelab/mammoth does at 7ab9db9, xavier in backbone/__init__.py
    truncated_normal  N(0, 0.1²), cut off at two standard deviations, and biases of 0.1; as facebookresearch/agem does
                      at 4542149, weight_variable and bias_variable in model/model.py
    """
    if how == "xavier_uniform":
        nn.init.xavier_uniform_(layer.weight, generator=generator)
    else:
        nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2, generator=generator)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, 0.0 if how == "xavier_uniform" else 0.1)
