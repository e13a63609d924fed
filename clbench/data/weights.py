"""Initial weights of runs, stored in the data folder under their hash: `weights/<SHA-256>.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.errors import DataError, MachineError
from clbench.system.files import replace_file

if TYPE_CHECKING:
    from torch import Tensor


def keep_weights(weights: Mapping[str, Tensor], folder: Path) -> str:
    """Store weights in the data `folder`, unless they are there already, and return their SHA-256.

    Each is stored as a copy of its own, since tensors in a safetensors file cannot share memory, as those of a module
    with two names do. Raises MachineError if they cannot be written.
    """
    import torch
    from safetensors.torch import save

    from clbench.networks.weights import weights_sha256

    digest = weights_sha256(weights)
    place = weights_file(digest, folder)
    if not place.is_file():
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            copies = {name: value.clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
            replace_file(place, save(copies))
        except OSError as error:
            raise MachineError(
                f"weights could not be written to {folder}: {error}", "Choose another folder with --data."
            ) from error
    return digest


def kept_weights(digest: str, folder: Path) -> dict[str, Tensor]:
    """Return stored weights, with every byte checked. Raises DataError if they are missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from clbench.networks.weights import weights_sha256

    place = weights_file(digest, folder)
    again = "Rerun the command that names the weights."
    try:
        weights: dict[str, Tensor] = load_file(place)
    except FileNotFoundError:
        raise DataError(f"the initial weights of the run are no longer in {folder}", again) from None
    except (OSError, SafetensorError) as error:
        raise DataError(f"{place} is damaged: {error}", f"Delete it. {again}") from None
    if weights_sha256(weights) != digest:
        raise DataError(f"{place} is damaged: its content has another hash", f"Delete it. {again}")
    return weights


def weights_file(digest: str, folder: Path) -> Path:
    """Return where the data `folder` has the weights of this hash."""
    return folder / "weights" / f"{digest}.safetensors"
