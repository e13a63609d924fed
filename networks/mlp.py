"""Hidden layers of ReLU units on the pixels of the whole image.

Source: Hsu et al. 2018 (arXiv 1810.12488), section 4, with two layers of 400 units.
"""

from typing import Annotated, Literal

from annotated_types import Ge
from torch import nn

import clbench

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


@clbench.config
class Config:
    units: Annotated[int, Ge(1)] = 400
    """Units of each hidden layer. The paper uses 400."""

    layers: Annotated[int, Ge(1)] = 2
    """Hidden layers. The paper uses 2."""

    activation: Literal["relu", "tanh", "gelu"] = "relu"
    """What follows each layer. The paper uses ReLU."""

    batch_norm: bool = False
    """Whether batch normalisation, with ε = 1e-6, follows each layer, which then has no biases, as in GDumb's code."""


def mlp(shape: tuple[int, int, int], config: Config) -> nn.Module:
    """(n, channels, height, width) -> (n, units); `shape` is (height, width, channels). A block is a layer."""
    height, width, channels = shape
    activation = ACTIVATIONS[config.activation]
    first = nn.Sequential(nn.Flatten(), *_linear(height * width * channels, config), activation())
    further = [nn.Sequential(*_linear(config.units, config), activation()) for _ in range(config.layers - 1)]
    return nn.Sequential(first, *further)


def _linear(inputs: int, config: Config) -> list[nn.Module]:
    if config.batch_norm:
        return [nn.Linear(inputs, config.units, bias=False), nn.BatchNorm1d(config.units, eps=1e-6)]
    return [nn.Linear(inputs, config.units)]
