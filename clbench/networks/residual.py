"""Residual networks for small images: the parts that the files of the resnet family share."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)), He et al. 2016 (arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int, projection: bool) -> None:
        """With `projection` the shortcut of a block that changes shape is a 1x1 convolution (option B of the paper);
        without, it takes every second pixel and pads the channels with zeros (option A)."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module
        if inputs == outputs and stride == 1:
            self.shortcut = nn.Identity()
        elif projection:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        else:
            self.shortcut = PadChannels(stride, outputs - inputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x), inplace=True)


class PadChannels(nn.Module):
    """The shortcut without parameters (option A): every `stride`-th pixel, with `extra` channels of zeros around."""

    def __init__(self, stride: int, extra: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, extra

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c + extra, h / stride, w / stride)."""
        half = self.extra // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.extra - half))


def residual_network(channels: int, widths: Sequence[int], depth: int, projection: bool) -> nn.Sequential:
    """Return the trunk of a residual network, (n, channels, h, w) -> (n, widths[-1]): a 3x3 stem, then `depth` blocks
    of each width, the first of which halves the resolution in all but the first stage.

    Convolutions are initialized as in He et al. 2015 (arXiv 1502.01852), by fan-out.
    """
    stem = nn.Sequential(nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
    blocks: list[nn.Module] = [stem]
    inputs = widths[0]
    for stage, width in enumerate(widths):
        for position in range(depth):
            stride = 2 if stage > 0 and position == 0 else 1
            blocks.append(ResidualBlock(inputs, width, stride, projection))
            inputs = width
    blocks[-1] = nn.Sequential(blocks[-1], nn.AdaptiveAvgPool2d(1), nn.Flatten())
    trunk = nn.Sequential(*blocks)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return trunk
