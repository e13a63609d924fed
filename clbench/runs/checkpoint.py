"""The state of a run at the boundary between two experiences, from which it goes on bit for bit.

A checkpoint is a pickle and therefore only ever read from the work folder of the user who wrote it. No random state is
in it: every generator is made from the run's seed and the number of the experience (see system/seeds.py). What was
predicted after each experience lies in a file of its own beside it, written once, so that a boundary costs the same
however many lie behind it.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from clbench.errors import PluginError
from clbench.networks.network import Network
from clbench.results.run_costs import ExperienceCosts
from clbench.results.run_result import ExperienceResult
from clbench.system.files import replacing

NAME = "checkpoint"
_DIGEST_SIZE = hashlib.sha256().digest_size


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

    experiences: list[ExperienceResult]
    """What result.json says of each finished experience."""

    costs: list[ExperienceCosts]
    """What costs.json says of each."""

    notes: list[str]
    findings: list[Any] = field(default_factory=list)
    """What the audit has found."""

    optimizer: dict[str, Any] | None = None
    """What the optimizer carries on, where the recipe says that it does."""


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in `folder` at once. Raises PluginError for a strategy whose state cannot be pickled."""
    latest = checkpoint.finished - 1
    keep(_predictions(folder, latest), {"predictions": checkpoint.predictions[latest]})
    try:
        keep(folder / NAME, {name: value for name, value in vars(checkpoint).items() if name != "predictions"})
    except OSError:
        raise
    except Exception as error:
        raise PluginError(
            f"the strategy's state cannot be saved between experiences: {type(error).__name__}: {error}",
            "What a strategy sets on itself must be picklable: no lambdas, open files or generators.",
        ) from error


def load(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in `folder`; None where there is none, or where its bytes are not those that were saved."""
    values = unpacked(folder / NAME)
    if values is None:
        return None
    predictions = [unpacked(_predictions(folder, index)) for index in range(values["finished"])]
    if None in predictions:
        return None
    return Checkpoint(**values, predictions=[each["predictions"] for each in predictions if each is not None])


def _predictions(folder: Path, index: int) -> Path:
    return folder / f"predictions-{index}"


def keep(path: Path, values: dict[str, Any]) -> None:
    """Put a pickle of `values` behind its SHA-256 in the place of `path`, without a copy of it all in memory.

    Raises OSError, and whatever cannot be pickled raises.
    """
    with replacing(path) as file:
        file.write(bytes(_DIGEST_SIZE))
        hashed = _Hashed(file)
        try:
            torch.save(values, cast(IO[bytes], hashed))
        except Exception:
            if hashed.failure is not None:
                raise hashed.failure from None
            raise
        file.seek(0)
        file.write(hashed.digest.digest())


class _Hashed:
    """A file that is written to and hashed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.failure: OSError | None = None
        """What the disk said; torch reports it as something else."""

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self._file.flush()


def unpacked(path: Path) -> dict[str, Any] | None:
    """Return what `keep` was given; None where there is no such file, or its bytes are not those that were saved."""
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, content = stored[:_DIGEST_SIZE], memoryview(stored)[_DIGEST_SIZE:]
    if hashlib.sha256(content).digest() != digest:
        return None
    values: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=False)
    return values
