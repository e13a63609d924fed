"""The architectures that a recipe can choose, and how one is initialized from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.networks.network import Network


def mlp(shape: tuple[int, int, int]) -> Network:
    """Two hidden layers of 400 ReLU units, as in Hsu et al. 2018 (arXiv 1810.12488)."""
    height, width, channels = shape
    first = nn.Sequential(nn.Flatten(), nn.Linear(height * width * channels, 400), nn.ReLU())
    second = nn.Sequential(nn.Linear(400, 400), nn.ReLU())
    return Network([first, second], features=400)


def cnn(shape: tuple[int, int, int]) -> Network:
    """Three 3x3 convolutions of 32, 64 and 128 channels, each with 2x2 max pooling, batch normalisation and ReLU.

    Pooling precedes normalisation, which then processes a quarter of the values.
    """

    def block(inputs: int, outputs: int) -> nn.Sequential:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU())

    pooled = nn.Sequential(block(64, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network([block(shape[2], 32), block(32, 64), pooled], features=128)


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
    """The shortcut without parameters (option A): every `stride`-th pixel, and `extra` channels of zeros around."""

    def __init__(self, stride: int, extra: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, extra

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c + extra, h / stride, w / stride)."""
        half = self.extra // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.extra - half))


def _resnet(channels: int, widths: Sequence[int], depth: int, projection: bool) -> Network:
    """Return a residual network whose convolutions are drawn as in He et al. 2015 (arXiv 1502.01852), by fan-out."""
    stem = nn.Sequential(nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
    blocks: list[nn.Module] = [stem]
    inputs = widths[0]
    for stage, width in enumerate(widths):
        for position in range(depth):
            stride = 2 if stage > 0 and position == 0 else 1
            blocks.append(ResidualBlock(inputs, width, stride, projection))
            inputs = width
    blocks[-1] = nn.Sequential(blocks[-1], nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in nn.Sequential(*blocks).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return Network(blocks, features=widths[-1])


def resnet32(shape: tuple[int, int, int]) -> Network:
    """ResNet-32 for 32x32 images: 16-32-64 channels, five blocks a stage, option-A shortcuts; He et al. 2016, §4.2."""
    return _resnet(shape[2], (16, 32, 64), depth=5, projection=False)


def resnet32b(shape: tuple[int, int, int]) -> Network:
    """ResNet-32 with option-B shortcuts, as in FACIL."""
    return _resnet(shape[2], (16, 32, 64), depth=5, projection=True)


def resnet18(shape: tuple[int, int, int]) -> Network:
    """ResNet-18 with a 3x3 stem for 32x32 images: 64-128-256-512 channels, two blocks a stage, as in Mammoth.

    Mammoth leaves the convolutions as torch initializes them; recipes that follow it say `initialization="torch"`.
    """
    return _resnet(shape[2], (64, 128, 256, 512), depth=2, projection=True)


ARCHITECTURES = {"mlp": mlp, "cnn": cnn, "resnet18": resnet18, "resnet32": resnet32, "resnet32b": resnet32b}


def build(
    name: str, shape: tuple[int, int, int], seed: int, initialization: Literal["architecture", "torch"] = "architecture"
) -> Network:
    """Return the network `name` for images of `shape` (height, width, channels), its weights drawn from `seed`.

    With the `initialization` torch, convolutions are initialized as torch does by default, U(-1/√n, 1/√n) for n inputs.
    The head has no rows yet. The global random state is unchanged. Convolutions are in channels-last memory format, in
    which the images are stored and which CPU kernels prefer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ARCHITECTURES[name](shape)
        if initialization == "torch":
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    module.reset_parameters()
    return network.to(memory_format=torch.channels_last)
