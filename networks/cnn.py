"""Three 3x3 convolutions of 32, 64 and 128 channels, each with 2x2 max pooling, batch normalisation and ReLU.

Pooling precedes normalisation, which then processes a quarter of the values.
"""

from typing import Annotated

from annotated_types import Gt
from torch import nn

import clbench


@clbench.config
class Config:
    width: Annotated[float, Gt(0)] = 1.0
    """Factor on the number of channels, which is rounded; dimensionless."""


def cnn(shape: tuple[int, int, int], config: Config) -> nn.Module:
    """(n, channels, height, width) -> (n, 128·width); `shape` is (height, width, channels)."""
    first, second, third = (max(1, round(config.width * channels)) for channels in (32, 64, 128))
    # Drawn before the others, so that a seed gives the weights that it has always given.
    last = nn.Sequential(_block(second, third), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(_block(shape[2], first), _block(first, second), last)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU())
