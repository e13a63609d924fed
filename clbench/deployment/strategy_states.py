"""Stores the state that a strategy keeps besides the weights in a file: tensors and plain values, no images, no code.

A strategy that uses feature statistics, or measures how important each weight is, cannot extend a network without its
state from the old classes. Stored next to the network as `state-STRATEGY.safetensors`, the state makes that possible.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clbench.base.exemplars import ExemplarMemory
from clbench.base.strategy import Strategy
from clbench.errors import DataError
from clbench.results import manifests
from clbench.ridge import RidgeRegression
from clbench.system.files import open_plain, read_plain

_PREFIX, _SUFFIX = "state-", ".safetensors"
_ABOUT = "clbench"
"""The entry of the file's metadata with everything except the tensors."""

_DEEPEST = 8


class NotStorable(Exception):
    """A strategy keeps something that is neither tensors nor plain values; the message says what."""


@dataclass(frozen=True)
class StrategyState:
    """The state of one strategy."""

    strategy: str
    """The strategy's name."""

    sha256: str
    """Hash of the strategy's source file."""

    config: Mapping[str, Any]
    """Its hyper-parameters."""

    trunk_sha256: str
    """Hash of the tensors of the trunk whose features it describes."""

    values: Mapping[str, Any]
    """The attributes of the strategy, in JSON, with tensors given by name."""

    tensors: Mapping[str, Tensor]
    """Empty if they are still in the file at `path`: some are hundreds of megabytes, and most are not needed."""

    path: Path | None = None

    def restore(self, strategy: Strategy[Any]) -> None:
        """Set the attributes on a strategy that has been started. Raises DataError if the file is damaged."""
        tensors = self.tensors if self.path is None else _read_tensors(self.path)
        try:
            found = {name: _decoded(value, tensors) for name, value in self.values.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(self.path, error) from None
        for name in found:
            if name == "config" or name.startswith("__") or callable(getattr(type(strategy), name, None)):
                raise _damaged(self.path, ValueError(f"{name} is not something that a strategy keeps"))
        vars(strategy).update(found)


def state_of(strategy: Strategy[Any], name: str, sha256: str, config: Mapping[str, Any], trunk: str) -> StrategyState:
    """Return what a strategy keeps. Raises NotStorable for images and for objects of other types."""
    tensors: dict[str, Tensor] = {}
    values = {}
    for attribute, value in vars(strategy).items():
        if attribute == "config" or isinstance(value, nn.Module):  # a classifier, which `learn` makes from the rest
            continue
        values[attribute] = _encoded(value, tensors, attribute)
    return StrategyState(name, sha256, config, trunk, values, tensors)


def file_name(strategy: str) -> str:
    """Return the name of the file with a strategy's state."""
    return f"{_PREFIX}{strategy}{_SUFFIX}"


def state_file(state: StrategyState) -> bytes:
    """Return the file's content."""
    from safetensors.torch import save

    about = {
        "strategy": state.strategy,
        "sha256": state.sha256,
        "config": dict(state.config),
        "trunk_sha256": state.trunk_sha256,
        "values": dict(state.values),
    }
    tensors = {name: value.contiguous() for name, value in state.tensors.items()}
    # One entry, since safetensors writes several in a different order each time.
    return save(tensors, metadata={_ABOUT: json.dumps(about)})


def stored_states(folder: Path) -> dict[str, StrategyState]:
    """Return the states in a network's folder by the strategy's name, their tensors unread.

    Raises DataError for a damaged one.
    """
    return {
        path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX): _read(path)
        for path in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"))
    }


def missing_states(folder: Path) -> list[str]:
    """Return the strategies whose state is listed in the manifest of a network's folder but is missing."""
    return [
        name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
        for name in manifests.listed(folder)
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX) and not (folder / name).exists()
    ]


def _read(path: Path) -> StrategyState:
    from safetensors import SafetensorError, safe_open

    try:
        with open_plain(path), safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})[_ABOUT])
        values, config = dict(about["values"]), dict(about["config"])
        return StrategyState(about["strategy"], about["sha256"], config, about["trunk_sha256"], values, {}, path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from None


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = read_plain(path, manifests.LARGEST_RUN)
        written = manifests.listed(path.parent).get(path.name)
        if written is not None and hashlib.sha256(content).hexdigest() != written.sha256:
            raise ValueError(f"it is not what {manifests.MANIFEST} says")
        return load(content)
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path | None, error: Exception) -> DataError:
    return DataError(f"{path} is damaged: {type(error).__name__}: {error}", "Remove it, and continue without it.")


def _encoded(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """Return a value in JSON; tensors are put into `tensors`, under names that begin with `name`."""
    if name.count(".") > _DEEPEST:
        raise NotStorable(f"{name} is nested too deeply")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, (list, tuple)):
        parts = [_encoded(each, tensors, f"{name}.{place}") for place, each in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": parts}
    if isinstance(value, dict) and all(isinstance(key, (str, int)) for key in value):
        pairs = enumerate(value.items())
        return {"dict": [[key, _encoded(each, tensors, f"{name}.{place}")] for place, (key, each) in pairs]}
    if isinstance(value, RidgeRegression):
        return {"ridge": _encoded(value.packed(), tensors, name)}
    if isinstance(value, ExemplarMemory):
        raise NotStorable(f"{name} holds images")
    raise NotStorable(f"{name} is a {type(value).__name__}")


def _decoded(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise ValueError(f"unexpected {type(value).__name__}")
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content].clone()
    if kind in ("list", "tuple"):
        parts = [_decoded(each, tensors) for each in content]
        return parts if kind == "list" else tuple(parts)
    if kind == "dict":
        return {key: _decoded(each, tensors) for key, each in content}
    if kind == "ridge":
        return RidgeRegression.unpacked(*_decoded(content, tensors))
    raise ValueError(f"unexpected {kind}")
