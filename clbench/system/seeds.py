"""One seed per run, and from it a separate stream of random numbers for every purpose.

Nothing random is carried from one experience to the next: every generator is made afresh from the run's seed, the
purpose and the experience. So a resumed run draws the numbers of an uninterrupted one, and a method that draws more
numbers than another does not shift the batches of either.
"""

from __future__ import annotations

import hashlib

LARGEST = 2**32 - 1


def derive(seed: int, *purpose: str | int) -> int:
    """Return the seed, from 0 to 2^32 - 1, that `purpose` has under `seed`; different purposes are independent."""
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def run_seeds(seed: int) -> dict[str, int]:
    """Return the streams of a run: its class order, its initial weights, and its training."""
    return {"run": seed} | {purpose: derive(seed, purpose) for purpose in ("class_order", "model", "training")}
