"""The state of a run at the boundary between two experiences, from which it goes on bit for bit.

A checkpoint is a pickle and therefore only ever read from the work folder of the user who wrote it. No random state is
in it: every generator is made from the run's seed and the number of the experience (see seeds.py).
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from clbench.durability import replace_file
from clbench.errors import PluginError
from clbench.models import Network

NAME = "checkpoint"


@dataclass
class Checkpoint:
    """What the next experience starts from."""

    finished: int
    """Experiences that are trained and evaluated."""

    model: Network
    strategy: dict[str, Any]
    """The strategy's attributes. Saved in one piece with the model, so that references to it stay references to it."""

    predictions: list[Any]
    """For each finished experience the predicted classes by reading, None where not evaluated."""

    experiences: list[dict[str, Any]]
    """What result.json says of each finished experience."""

    notes: list[str]
    findings: list[Any] = field(default_factory=list)
    """What the audit has found."""

    optimizer: dict[str, Any] | None = None
    """What the optimizer carries on, where the recipe says that it does."""


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in `folder` at once. Raises PluginError for a strategy whose state cannot be pickled."""
    buffer = io.BytesIO()
    try:
        torch.save(vars(checkpoint), buffer)
    except Exception as error:
        raise PluginError(
            f"the strategy's state cannot be saved between experiences: {type(error).__name__}: {error}",
            "What a strategy sets on itself must be picklable: no lambdas, open files or generators.",
        ) from error
    content = buffer.getvalue()
    replace_file(folder / NAME, hashlib.sha256(content).digest() + content)


def load(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in `folder`; None where there is none, or where its bytes are not those that were saved."""
    try:
        stored = (folder / NAME).read_bytes()
    except FileNotFoundError:
        return None
    digest, content = stored[:32], stored[32:]
    if hashlib.sha256(content).digest() != digest:
        return None
    return Checkpoint(**torch.load(io.BytesIO(content), weights_only=False))
