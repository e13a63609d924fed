"""You have a trained network as a .pt file, its data are gone, and it must learn one more class.

    python examples/extend_a_network.py [FOLDER]

It writes everything to FOLDER (default: extend-example): a network trained with plain PyTorch on the handwritten digits
0 to 7, photographs of the new class, the extended network, and an ONNX file, which is then run with onnxruntime. Needs
`pip install '.[export]'`. It takes a minute.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import PIL.Image
import torch
from sklearn.datasets import load_digits
from torch import nn

import clbench

SIZE = 32
OLD, NEW = range(8), 8
DIGITS = load_digits()

NETWORK = '''"""The network as its author wrote it, independent of clbench."""

from torch import nn


class digits_net(nn.Module):
    def __init__(self, num_classes: int = 8) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.fc(self.body(x))
'''


def photograph(row: int) -> PIL.Image.Image:
    """Return a digit as an image of SIZE x SIZE."""
    pixels = (DIGITS.images[row] * 15).astype(np.uint8)
    return PIL.Image.fromarray(pixels).resize((SIZE, SIZE), PIL.Image.Resampling.BILINEAR).convert("RGB")


def rows_of(digit: int) -> list[int]:
    """Return the row indices of a digit's images."""
    return [int(row) for row in np.flatnonzero(DIGITS.target == digit)]


def as_input(images: list[PIL.Image.Image]) -> torch.Tensor:
    """Return images in the form that the network was trained on: (n, 3, SIZE, SIZE), in -1..1."""
    pixels = np.stack([np.asarray(image, dtype=np.float32) / 255 for image in images])
    return torch.from_numpy((pixels - 0.5) / 0.5).permute(0, 3, 1, 2)


def train_elsewhere(folder: Path) -> None:
    """Train a network with plain PyTorch and save what such projects usually have: code, weights, a list of classes."""
    (folder / "digits_net.py").write_text(NETWORK)
    defined: dict[str, type[nn.Module]] = {}
    exec(NETWORK, defined)
    torch.manual_seed(0)
    model = defined["digits_net"](len(OLD))
    rows = [(row, digit) for digit in OLD for row in rows_of(digit)[:120]]
    x, y = as_input([photograph(row) for row, _ in rows]), torch.tensor([digit for _, digit in rows])
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(15):
        for batch in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    torch.save(model.state_dict(), folder / "prod.pt")
    (folder / "classes.txt").write_text("".join(f"digit {digit}\n" for digit in OLD))


def take_photographs(folder: Path) -> None:
    """Save photographs of the new class, and a few test images of each old one."""
    for part, digits, first, count in (("new", [NEW], 0, 60), ("old-test", OLD, 120, 25)):
        for digit in digits:
            place = folder / part / f"digit {digit}"
            place.mkdir(parents=True, exist_ok=True)
            for row in rows_of(digit)[first : first + count]:
                photograph(row).save(place / f"{row}.png")


def main(folder: Path) -> float:
    """Run the whole example; return the share of further photographs of the new class that the ONNX file recognizes."""
    folder.mkdir(parents=True, exist_ok=True)
    train_elsewhere(folder)
    take_photographs(folder)

    extended = clbench.extend(
        network=folder / "digits_net.py",
        weights=folder / "prod.pt",
        classes=folder / "classes.txt",
        size=SIZE,
        mean=[0.5, 0.5, 0.5],
        std=[0.5, 0.5, 0.5],
        images=folder / "new",
        old_test=folder / "old-test",
        out=folder / "extended",
        export="onnx",
    )
    print(extended)
    print(f"the report: {extended.page}")

    session = onnxruntime.InferenceSession(str(folder / "extended" / "network.onnx"))
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    unseen = [photograph(row) for row in rows_of(NEW)[60:]]
    (scores,) = session.run(None, {"images": np.stack([np.asarray(image) for image in unseen])})
    answers = [classes[best] for best in scores.argmax(axis=1)]
    print(f"ONNX answers {answers.count(f'digit {NEW}')} of {len(unseen)} further photographs with 'digit {NEW}'")
    return answers.count(f"digit {NEW}") / len(unseen)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "extend-example"))
