"""All global random states, Python's, NumPy's, torch's and CUDA's: seed, save and restore them together."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

RandomState = dict[str, Any]


def seed_everything(seed: int) -> None:
    """Seed every global random state."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_state() -> RandomState:
    """Return every global random state, picklable.

    CUDA's only if this process already uses CUDA, since initializing it costs memory."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_random_state(state: RandomState) -> None:
    """Restore every global random state to what `random_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def randomness_untouched() -> Iterator[None]:
    """Restore every global random state on leaving."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)
