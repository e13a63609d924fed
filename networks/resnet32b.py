"""ResNet-32 for 32x32 images with projections as shortcuts, as in FACIL: 16-32-64 channels, five blocks a stage.

Source: He et al. 2016 (arXiv 1512.03385), section 4.2.
Variant: shortcuts of option B of the paper.
"""

from typing import Annotated

from annotated_types import Ge
from torch import nn

import clbench
from clbench.networks.residual import residual_network


@clbench.config
class Config:
    width: Annotated[int, Ge(1)] = 16
    """Channels of the first stage; each further stage has twice as many. The paper uses 16."""


def resnet32b(shape: tuple[int, int, int], config: Config) -> nn.Module:
    """(n, channels, height, width) -> (n, 4·width); `shape` is (height, width, channels)."""
    widths = tuple(config.width * factor for factor in (1, 2, 4))
    return residual_network(shape[2], widths, depth=5, projection=True)
