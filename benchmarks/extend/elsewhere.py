"""Networks as users might have them: trained with plain PyTorch, without clbench, and saved as a .pt file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision import transforms

from benchmarks.extend.photos import Photos

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_EPOCHS = 30

MODULE = '''"""A small network of somebody's own."""

from torch import nn


class module(nn.Module):
    def __init__(self, num_classes: int = 20) -> None:
        super().__init__()
        layers, channels = [], 3
        for width in (32, 64, 128, 256):
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2))
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x):
        return self.fc(self.body(x))
'''


def trained_elsewhere(photos: Photos, network: str, size: int, seed: int) -> dict[str, Any]:
    """Train a network with plain PyTorch, once, and return the arguments that describe it to `clbench.extend`."""
    weights, classes, file = (photos.place / name for name in ("prod.pt", "classes.txt", "module.py"))
    file.write_text(MODULE)
    if not weights.exists():
        images = torchvision.datasets.ImageFolder(str(photos.base), _transform(size))
        classes.write_text("\n".join(images.classes) + "\n")
        torch.manual_seed(seed)
        torch.save({"state_dict": _trained(network, file, images).state_dict()}, weights)
    return {
        "network": str(file) if network == "module" else network,
        "weights": weights,
        "classes": classes,
        "size": size,
        "mean": MEAN,
        "std": STD,
    }


def _transform(size: int) -> transforms.Compose:
    steps = [transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor()]
    return transforms.Compose([*steps, transforms.Normalize(MEAN, STD)])


def _trained(network: str, file: Path, images: torchvision.datasets.ImageFolder) -> nn.Module:
    classes = len(images.classes)
    if network == "module":
        defined: dict[str, Any] = {}
        exec(file.read_text(), defined)
        model: nn.Module = defined["module"](classes)
    else:
        model = torchvision.models.resnet18(num_classes=classes)
    x = torch.stack([image for image, _ in images])
    y = torch.tensor(images.targets)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS)
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(x)).split(32):
            batch = x[rows]
            if torch.rand(()) < 0.5:
                batch = batch.flip(3)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), y[rows]).backward()
            optimizer.step()
        schedule.step()
    return model.eval()
