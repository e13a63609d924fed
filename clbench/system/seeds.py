"""One seed per run, from which every purpose gets its own random stream.

No random state is carried from one experience to the next: every generator is created from the run's seed, the purpose
and the experience. So a resumed run draws the same numbers as an uninterrupted one, and a method that draws more
numbers than another sees the same images in the same order. Only their augmentation may differ: exemplars are augmented
from the same stream.
"""

from __future__ import annotations

import hashlib

LARGEST = 2**32 - 1


def derive(seed: int, *purpose: str | int) -> int:
    """Return the seed, from 0 to 2^32 - 1, of `purpose` in a run with `seed`; different purposes are independent."""
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def run_seeds(seed: int) -> dict[str, int]:
    """Return the seeds of a run: of its class order, its initial weights, and its training."""
    return {"run": seed} | {purpose: derive(seed, purpose) for purpose in ("class_order", "model", "training")}
