"""Reads weights from a file without running anything in it, and matches them to a network's tensors by name."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clbench.errors import DataError

_NESTED = ("state_dict", "model_state_dict", "model", "network", "net", "weights")
"""Names under which training scripts store the weights in a checkpoint that also has other things."""

_SHOWN = 5


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors or .pt file by name. Code in a pickle is never run.

    Raises DataError if the file is missing, damaged, or holds something else.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file() raises for too long a name
        raise DataError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle's protocol; real problems are reported below
            values = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} contains more than weights, and was not read: {_first_line(error)}",
            'Save the weights alone: torch.save(model.state_dict(), "weights.pt"), or as safetensors.',
        ) from None
    except Exception as error:  # zip, pickle and safetensors each raise many different ones
        if "TorchScript" in str(error):
            raise DataError(
                f"{path} is a TorchScript program, and was not read",
                'Save its weights alone: torch.save(torch.jit.load("program.pt").state_dict(), "weights.pt")',
            ) from None
        # A bare key or an unexpected end of file would tell the reader nothing.
        why = "" if isinstance(error, (KeyError, EOFError)) else f": {_first_line(error)}"
        raise DataError(f"{path} cannot be read as weights; it may be empty, damaged or cut off{why}") from None
    return _tensors(values, path)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    # torch puts advice before and after the reason, some of it to run whatever is in the file.
    for marker in ("Weights only load failed. ", "from a trusted source.", "WeightsUnpickler error: "):
        if marker in text:
            text = text.rpartition(marker)[2].strip()
    text = text.partition(" Please use `torch.serialization")[0].partition(" This is an internal")[0]
    return f"{type(error).__name__}: {text.partition(chr(10))[0][:200]}"


def _tensors(values: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(values, Mapping):
        nested = next((values[name] for name in _NESTED if isinstance(values.get(name), Mapping)), values)
        found = {name: value for name, value in nested.items() if isinstance(name, str) and isinstance(value, Tensor)}
        if found:
            return found
    raise DataError(f"{path} contains no named tensors", 'Save them with torch.save(model.state_dict(), "weights.pt")')


def fitted(weights: Mapping[str, Tensor], module: nn.Module, cut_off: Collection[str], what: str) -> dict[str, Tensor]:
    """Return the weights under the module's own names. A prefix that most of them have, like `module.`, is dropped.

    `cut_off` are the names of parts that the module lacks, wholly or but for some layers; their weights are left out.
    Raises DataError if tensors are missing, left over, of another shape or not finite real numbers; `what` names the
    weights.
    """
    expected = module.state_dict()
    named = without_prefix(weights, expected)
    ignored = tuple(f"{part}." for part in cut_off)
    named = {name: value for name, value in named.items() if name in expected or not name.startswith(ignored)}
    missing = [name for name in expected if name not in named and not name.endswith("num_batches_tracked")]
    surplus = [name for name in named if name not in expected]
    misshapen = [
        f"{name} {tuple(named[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in named and named[name].shape != value.shape
    ]
    odd = [name for name in expected if name in named and not _is_dense_and_real(named[name])]
    parameters = dict(module.named_parameters())  # buffers may be infinite, as attention masks are
    broken = [
        name for name in parameters if name in named and name not in odd and not bool(named[name].isfinite().all())
    ]
    faults = [
        f"{len(names)} {fault}: {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
        for fault, names in (
            ("missing", missing),
            ("left over", surplus),
            ("of another shape", misshapen),
            ("sparse, complex, quantized or without values", odd),
            ("with NaN or infinite values", broken),
        )
        if names
    ]
    if faults and not (missing or surplus or misshapen):
        raise DataError(f"{what} cannot be used: of {len(expected)} tensors {'; '.join(faults)}")
    if faults:
        raise DataError(
            f"{what} do not fit the network, which has {len(expected)} tensors: {'; '.join(faults)}",
            "Name the network that they were trained with, in the same configuration: --network, --set network.…",
        )
    return {name: named[name].to(value.dtype) if name in named else value for name, value in expected.items()}


def _is_dense_and_real(value: Tensor) -> bool:
    return value.layout == torch.strided and not (value.is_meta or value.is_complex() or value.is_quantized)


def without_prefix(weights: Mapping[str, Tensor], expected: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights without the prefix that makes most of their names the expected ones."""
    prefixes = [""]
    for name in list(weights)[:1]:
        parts = name.split(".")
        prefixes += [".".join(parts[:count]) + "." for count in range(1, len(parts))]

    def known(prefix: str) -> int:
        return sum(name.startswith(prefix) and name.removeprefix(prefix) in expected for name in weights)

    best = max(prefixes, key=known)
    return {name.removeprefix(best): value for name, value in weights.items()}


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values, whatever file format they come in."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
