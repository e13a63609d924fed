"""Saves the state of a run between two experiences, from which it resumes bit for bit.

A checkpoint is a pickle, which can run any code when it is read. It is therefore only ever read from a work folder that
belongs to this user and that nobody else can write to. It contains no random state: every generator is made from the
run's seed and the number of the experience (see system/seeds.py). The predictions after each experience are in separate
files next to it, written once, so that saving takes the same time after every experience. Each file names, before its
pickle, the versions of torch and clbench that made it: a run does not mix two versions of torch, and this clbench may
not be able to read what another has saved.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from clbench.base.incremental_setting import Setting
from clbench.errors import MachineError, PluginError
from clbench.networks.network import Network
from clbench.results import environment
from clbench.results.run_costs import ExperienceCosts
from clbench.results.run_result import ExperienceResult
from clbench.results.store import CHECKPOINT, WORK
from clbench.system.files import Exposed, open_plain, read_private, replacing

_DIGEST_SIZE = hashlib.sha256().digest_size
_LONGEST_VERSIONS = 1000
"""Bytes of the line with the versions that made a file."""


class OfAnotherVersion(Exception):
    """A file from another version of torch or clbench, from which this one cannot resume; the message says which."""


@dataclass
class Checkpoint:
    """What the next experience starts from."""

    finished: int
    """How many experiences are trained and evaluated."""

    model: Network
    strategy: dict[str, Any]
    """The strategy's attributes. Saved in one piece with the model, so that references to it stay references to it."""

    predictions: list[Any]
    """For each finished experience the predicted classes by reading, None if it was not evaluated."""

    experiences: list[ExperienceResult]
    """What result.json says about each finished experience."""

    costs: list[ExperienceCosts]
    """What costs.json says about each."""

    notes: list[str]
    findings: list[Any] = field(default_factory=list)
    """What the audit has found."""

    within: list[tuple[int, int, dict[Setting, tuple[int, ...]]]] = field(default_factory=list)
    """Each evaluation within an experience: the gradient steps since the start of the stream, the experience, and by
    reading the correct predictions for each experience so far."""

    untrained: Any = None
    """The classes (n,) that the network predicts with its initial weights; None if they are not needed."""

    optimizer: dict[str, Any] | None = None
    """The state that the optimizer carries over to the next experience, if the recipe says so."""


def has_begun(results: Path, run_id: str) -> bool:
    """Return whether a run in progress has a checkpoint in a results folder from which this torch can resume.

    Only the line with its versions is read.
    """
    try:
        with open_plain(results / WORK / run_id / CHECKPOINT) as file:
            line = file.read(_DIGEST_SIZE + _LONGEST_VERSIONS)[_DIGEST_SIZE:].partition(b"\n")[0]
        return _versions_in(line)["torch"] == _versions()["torch"]
    except (OSError, OfAnotherVersion):
        return False


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in `folder` atomically. Raises PluginError if the strategy's state cannot be pickled."""
    latest = checkpoint.finished - 1
    keep(_predictions(folder, latest), {"predictions": checkpoint.predictions[latest]})
    try:
        keep(folder / CHECKPOINT, {name: value for name, value in vars(checkpoint).items() if name != "predictions"})
    except OSError:
        raise
    except Exception as error:
        raise PluginError(
            f"the strategy's state cannot be saved between experiences: {type(error).__name__}: {error}",
            "What a strategy sets on itself must be picklable: no lambdas, open files or generators.",
        ) from error


def load(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in `folder`; None if there is none, or if its bytes are not those that were saved.

    Raises MachineError if somebody else may have written it, and OfAnotherVersion.
    """
    folders = (folder.parent, folder)
    try:
        values = unpacked(folder / CHECKPOINT, folders)
        if values is None:
            return None
        if values.keys() != {each.name for each in fields(Checkpoint)} - {"predictions"}:
            raise OfAnotherVersion("another version of clbench")
        predictions = [unpacked(_predictions(folder, index), folders) for index in range(values["finished"])]
    except Exposed as exposed:
        owner = "chmod go-w" if exposed.path.lstat().st_uid == os.geteuid() else "chown -R $(id -un)"
        place = shlex.quote(str(exposed.path))
        raise MachineError(
            f"{exposed.path} {exposed.problem}: the checkpoint is not read, because it could run somebody else's code",
            f"If you trust what is in it: {owner} {place}. Otherwise remove it, and the run starts over: rm -r {place}",
        ) from exposed
    if None in predictions:
        return None
    return Checkpoint(**values, predictions=[each["predictions"] for each in predictions if each is not None])


def _predictions(folder: Path, index: int) -> Path:
    return folder / f"predictions-{index}"


def keep(path: Path, values: dict[str, Any]) -> None:
    """Replace `path` by a pickle of `values`, preceded by its SHA-256 and the versions that made it.

    The pickle is not copied as a whole in memory. Raises OSError, and whatever pickling raises.
    """
    with replacing(path) as file:
        os.fchmod(file.fileno(), 0o600)  # whatever the umask: what others can write is not read again
        file.write(bytes(_DIGEST_SIZE))
        hashed = _Hashed(file)
        hashed.write(json.dumps(_versions()).encode() + b"\n")
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
        """The error of the disk, which torch reports as something else."""

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self._file.flush()


def unpacked(path: Path, folders: Sequence[Path]) -> dict[str, Any] | None:
    """Return what `keep` was given; None if there is no such file, or its bytes are not those that were saved.

    Raises Exposed unless the file and the `folders` that hold it are this user's alone, and OfAnotherVersion.
    """
    try:
        stored = read_private(path, folders)
    except FileNotFoundError:
        return None
    digest, content = stored[:_DIGEST_SIZE], memoryview(stored)[_DIGEST_SIZE:]
    if hashlib.sha256(content).digest() != digest:
        return None
    line = content[:_LONGEST_VERSIONS].tobytes().partition(b"\n")[0]
    made_with = _versions_in(line)
    if made_with["torch"] != (torch_here := _versions()["torch"]):
        raise OfAnotherVersion(f"torch {made_with['torch']}, and this is {torch_here}")
    try:
        values: dict[str, Any] = torch.load(io.BytesIO(content[len(line) + 1 :]), weights_only=False)
    except MemoryError:
        raise
    except Exception as error:
        if made_with == _versions():
            raise
        raise OfAnotherVersion(f"clbench {made_with['clbench']}") from error
    return values


def _versions() -> dict[str, str | None]:
    here = environment.versions()
    return {name: here[name] for name in ("torch", "clbench")}


def _versions_in(line: bytes) -> dict[str, str | None]:
    try:
        versions: dict[str, str | None] = json.loads(line)
    except ValueError:  # it has none, as in earlier versions
        raise OfAnotherVersion("an earlier version of clbench") from None
    return versions
