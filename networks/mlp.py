"""Two hidden layers of ReLU units on the pixels of the whole image.

Source: Hsu et al. 2018 (arXiv 1810.12488), section 4, with 400 units in each layer.
"""

from typing import Annotated

from annotated_types import Ge
from torch import nn

import clbench


@clbench.config
class Config:
    units: Annotated[int, Ge(1)] = 400
    """Units of each hidden layer. The paper uses 400."""


def mlp(shape: tuple[int, int, int], config: Config) -> nn.Module:
    """(n, channels, height, width) -> (n, units); `shape` is (height, width, channels)."""
    height, width, channels = shape
    first = nn.Sequential(nn.Flatten(), nn.Linear(height * width * channels, config.units), nn.ReLU())
    second = nn.Sequential(nn.Linear(config.units, config.units), nn.ReLU())
    return nn.Sequential(first, second)
