"""Exports a trained network as one file, which appears only after its predictions match those of the network."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import re
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from clbench.data.datasets import describe, open_dataset
from clbench.deployment.export_formats import FORMATS, Format, Images
from clbench.deployment.trained_network import TrainedNetwork
from clbench.errors import ClbenchError, MachineError, PluginError, UsageError
from clbench.results import manifests
from clbench.results.network_record import STEM, NetworkRecord
from clbench.system import memory
from clbench.system.files import found_at, publish_file, write_synced
from clbench.system.suggestions import did_you_mean

COMPARED = 64
"""Images on which a written file is compared with the network."""

_TOLERANCE = 1e-3
"""Largest difference of two scores, as a share of the largest score. A different rounding order causes about 1e-5."""


class Differs(ClbenchError):
    """The predictions of a written file differ from those of the network."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how it was compared with the network."""

    path: Path
    compared_on: str
    """`64 test images of digits`."""

    images: int
    same_answers: int
    largest_difference: float
    """Largest difference between two scores."""

    largest_score: float


def export(
    network: TrainedNetwork, to: str, out: Path, data: Path, compared: tuple[Images, str] | None = None
) -> Exported:
    """Write a network as `out` in the format `to`, after comparing the scores of the file with those of the network.

    `compared` has the images for that and their description; by default they are test images of the dataset that the
    network was trained on, if it is in the `data` folder, otherwise noise.
    Raises UsageError for an unknown format and a file that exists, MachineError if a package is missing or the disk is
    full, PluginError for a network that cannot be expressed in the format, and Differs.
    """
    form = format_named(to)
    _check_suffix(to, form, out)
    _check_place(out)
    require(to)
    images, what = compared or comparison_images(network.record, data)
    temporary = out.with_name(f".{uuid.uuid4().hex[:8]}{form.suffix}")
    try:
        with _explaining(network, to), _quietly():
            content = form.write(network)
        write_synced(temporary, content)
        with _explaining(network, to), _quietly():
            answers = form.read(network, temporary)
            # Batches of two sizes, both different from the example that operations were traced with.
            theirs = np.concatenate([answers(images[:1]), answers(images[1:])])
        found = _compared(network, images, theirs, what, out)
        publish_file(temporary, out)
    except FileExistsError:
        raise _exists(out) from None
    except OSError as error:
        raise MachineError(
            f"cannot write {out}: {error.strerror or error}", "Choose another file: --out FILE"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return found


def format_named(name: str, option: str = "--to") -> Format:
    """Return a format by name. Raises UsageError if there is none; `option` is where it was given."""
    if name not in FORMATS:
        raise UsageError(f"{option} must be one of {', '.join(FORMATS)} (got '{name}'){did_you_mean(name, FORMATS)}")
    return FORMATS[name]


def default_name(record: NetworkRecord, to: str) -> str:
    """Return the default name of the file: `splitdigits-lwf-seed0.onnx`, or `network.onnx`."""
    origin = record.origin
    if origin is None:
        return STEM + format_named(to).suffix
    parts = (origin.scenario, origin.strategy, f"seed{origin.seed}")
    return "-".join(re.sub(r"[^A-Za-z0-9_]+", "_", part) for part in parts) + format_named(to).suffix


def _check_suffix(to: str, form: Format, out: Path) -> None:
    """Refuse the suffix of another format, which was probably meant."""
    other = next((name for name, each in FORMATS.items() if each.suffix == out.suffix), to)
    if other != to:
        raise UsageError(
            f"{out} has the name of a {other} file, but --to is {to}", f"--to {other}, or --out {out.stem}{form.suffix}"
        )


def _check_place(out: Path) -> None:
    if found_at(out) is not None:
        raise _exists(out)
    if found_at(out.parent) != "folder":
        raise UsageError(f"there is no folder {out.parent}", "Create it, or choose another file: --out FILE")
    if (out.parent / manifests.MANIFEST).exists():
        raise UsageError(f"{out.parent} is a finished run, which is never changed", "Choose another file: --out FILE")


def _exists(out: Path) -> UsageError:
    return UsageError(f"{out} exists, and is not replaced", "Remove it, or choose another file: --out FILE")


def require(to: str, option: str = "--to") -> None:
    """Raise MachineError if a package that a format needs cannot be imported, and UsageError for an unknown format.

    `option` is where the format was given.
    """
    for package in format_named(to, option).packages:
        try:
            with _quietly():
                importlib.import_module(package)
        except ImportError as error:
            raise MachineError(
                f"{option} {to} needs the package {package}, which cannot be imported ({error})",
                "pip install 'clbench[export]'",
            ) from None


def comparison_images(record: NetworkRecord, data: Path) -> tuple[Images, str]:
    """Return images to compare a network on, (n, height, width, channels), and their description."""
    origin, shape = record.origin, record.input.image
    if origin is not None:
        with contextlib.suppress(ClbenchError):  # a damaged dataset, or an invalid name
            info = describe(origin.dataset, data)
            if info is not None and info.sha256 == origin.dataset_sha256:
                test = open_dataset(origin.dataset, data).x_test
                rows = np.linspace(0, len(test) - 1, min(COMPARED, len(test))).astype(np.int64)
                return np.ascontiguousarray(test[rows]), f"{len(rows)} test images of {origin.dataset}"
    size = (COMPARED, shape.height, shape.width, shape.channels)
    noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    why = f", since {origin.dataset} is not in {data}" if origin is not None else ""
    return noise, f"{COMPARED} images of noise{why}"


def _compared(
    network: TrainedNetwork, images: Images, theirs: npt.NDArray[np.float32], what: str, out: Path
) -> Exported:
    with torch.no_grad():
        own = network(torch.stack([network.transform(image) for image in images])).float().numpy()
    largest = float(np.abs(own).max())
    difference = float(np.abs(own - theirs).max()) if own.shape == theirs.shape else float("inf")
    if not difference <= _TOLERANCE * largest:
        raise Differs(
            f"the file's scores differ from the network's: on {what}, by up to {difference:.2g}, with scores up to "
            f"{largest:.2g}. It was removed.",
            f"The network has operations that this format cannot express. Other formats: {', '.join(FORMATS)}",
        )
    same = int((own.argmax(axis=1) == theirs.argmax(axis=1)).sum())
    return Exported(out, what, len(images), same, difference, largest)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the output, warnings and logs of exporters off the terminal."""
    before = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable()
        try:
            yield
        finally:
            logging.disable(before)


@contextlib.contextmanager
def _explaining(network: TrainedNetwork, to: str) -> Iterator[None]:
    """Turn what exporters raise, which varies between them, into a PluginError."""
    try:
        yield
    except (ClbenchError, MemoryError):
        raise
    except Exception as error:
        if memory.is_short(error):
            raise MachineError(f"memory is short: not enough to export the network{memory.limit_in_words()}") from None
        raise PluginError(
            f"the network {network.record.network.name} cannot be exported as {to}: {_reason(error)}",
            f"Other formats: {', '.join(name for name in FORMATS if name != to)}. safetensors, which holds the tensors "
            "alone, always works.",
        ) from None


def _reason(error: Exception) -> str:
    """Return the error in one line, extracted from pages of advice to developers."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    if found := re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", text):
        return f"ONNX has no operator for {found.group(1)}"
    _, _, summary = text.rpartition("## Exception summary")
    lines = [line.strip() for line in summary.splitlines() if line.strip()]
    first = lines[0] if lines else "no reason given"
    return first if first.startswith("<class") else f"{type(error).__name__}: {first}"
