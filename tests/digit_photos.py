"""The bundled handwritten digits as image files in folders, as people have their photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from sklearn.datasets import load_digits


def write_digits(folder: Path, classes: Sequence[int], first: int, count: int) -> Path:
    """Write `count` images of each class, from its image number `first` on, as FOLDER/digit-N/0042.png; return FOLDER.

    The pixels are scaled up to 16x16, in grey.
    """
    bundled = load_digits()
    for digit in classes:
        own = np.flatnonzero(bundled.target == digit)[first : first + count]
        place = folder / f"digit-{digit}"
        place.mkdir(parents=True, exist_ok=True)
        for row in own.tolist():
            pixels = (bundled.images[row] * 15).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
            PIL.Image.fromarray(pixels).save(place / f"{row:04}.png")
    return folder
