"""ResNet-18 with a 3x3 stem for 32x32 images: 64-128-256-512 channels, two blocks a stage, as in Mammoth.

Source: He et al. 2016 (arXiv 1512.03385), table 1, with the stem of section 4.2.
Variant: shortcuts of option B. Convolutions are initialized as in He et al. 2015; Mammoth leaves them as torch draws
them, and recipes that follow it say `initialization="torch"`.
"""

from typing import Annotated

from annotated_types import Ge
from torch import nn

import clbench
from clbench.networks.residual import residual_network


@clbench.config
class Config:
    width: Annotated[int, Ge(1)] = 64
    """Channels of the first stage; each further stage has twice as many. The paper and Mammoth use 64."""


def resnet18(shape: tuple[int, int, int], config: Config) -> nn.Module:
    """(n, channels, height, width) -> (n, 8·width); `shape` is (height, width, channels)."""
    widths = tuple(config.width * factor for factor in (1, 2, 4, 8))
    return residual_network(shape[2], widths, depth=2, projection=True)
