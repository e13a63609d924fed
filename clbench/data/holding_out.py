"""Chooses the images held out for testing if a dataset does not: a share of each class, by a separate seed."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

SHARE = 0.2
"""Of each class."""

SEED = 0
"""Another seed gives another dataset, so it is not an option of a run."""


def held_out(name: str, images: int, share: float = SHARE, seed: int = SEED) -> npt.NDArray[np.bool_]:
    """Return which of a class's images are held out, (images,): this share of them, and at least one.

    It depends on the seed, the class's name and its number of images, so that another class does not change it.
    A class with one image keeps it for training.
    """
    chosen = np.zeros(images, dtype=bool)
    if images > 1:
        own = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big")
        size = min(images - 1, max(1, round(share * images)))
        chosen[np.random.default_rng([seed, own]).permutation(images)[:size]] = True
    return chosen
