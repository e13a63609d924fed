"""Builds a TrainedNetwork from one made outside clbench: its code, its weights and the names of its classes."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clbench.data.image_fit import Fit
from clbench.deployment.storing import tensors
from clbench.deployment.trained_network import TrainedNetwork, own_module
from clbench.errors import DataError, PluginError, UsageError
from clbench.networks import libraries
from clbench.networks.head import linear_layer
from clbench.networks.traits import NetworkTraits
from clbench.networks.trunk import Blocks
from clbench.networks.weights import fitted, read_weights, weights_sha256, without_prefix
from clbench.plugins.networks import NetworkSource, network_source
from clbench.results.network_record import (
    ClassifierRecord,
    ImageShape,
    InputRecord,
    LineageStep,
    NetworkRecord,
    Versions,
)
from clbench.results.run_spec import NetworkSpec
from clbench.results.spec_building import ENGINE

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation that the libraries' pretrained networks expect, like most others."""

_SIZE = 224
_LARGEST_LIST = 2**24


@dataclass(frozen=True)
class Foreign:
    """What must be stated about a network from elsewhere; None leaves a value to the network's own source."""

    network: str
    """Its architecture: a file, `timm:NAME`, `torchvision:NAME`, or a name."""

    weights: Path
    """Its weights, head included: .safetensors or .pt."""

    classes: Path
    """Names of its classes in the order of its outputs: a name per line, or a JSON list."""

    head: str | None = None
    """The linear layer that gives the class scores, by its name in the module; None: found by its shape."""

    size: int | None = None
    """Height and width of its images in pixels."""

    mean: tuple[float, ...] | None = None
    """What it expects to be subtracted from pixels in 0..1: a value per channel, or one for all."""

    std: tuple[float, ...] | None = None
    """What it then expects them to be divided by, likewise."""

    fit: Fit = "crop"
    """How images that are not square become square."""

    config: Mapping[str, Any] = field(default_factory=dict)
    """The network's own hyper-parameters."""


def foreign_network(given: Foreign) -> tuple[TrainedNetwork, list[str]]:
    """Return the network, and the assumptions made about it, in words.

    Raises UsageError, DataError and PluginError if code, weights and classes do not fit together.
    """
    source = network_source(given.network, "file")
    stored = read_weights(given.weights)
    _check_statistics(given, source.traits.channels)
    assumed: list[str] = []
    size = given.size or source.traits.size
    if size is None:
        size = _SIZE
        assumed.append(f"images of {size} px (--size)")
    if given.head is not None:
        source = source.with_head(given.head)
    shapes = [(size, size, channels) for channels in _channels(given, source.traits, stored)]
    shape, (trunk, features, head) = _built(source, shapes, given.config)
    mean, std = _statistics(given, source.traits, shape[2], source.name, assumed)
    module = own_module(trunk)
    values = without_prefix(stored, module.state_dict())
    _check_finite(values, module, given.weights)
    names = read_classes(given.classes)
    rows, head_name = _head_rows(values, module, features, given, head, len(names))
    what = f"the weights in {given.weights}"
    module.load_state_dict(fitted(values, module, [head_name, *source.traits.auxiliary], what))
    spec = NetworkSpec(
        name=source.name,
        sha256=source.sha256,
        package=source.package,
        config=source.differing(given.config),
        weights="file",
        size=shape[0],
        mean=mean,
        std=std,
    )
    record = NetworkRecord(
        origin=None,
        network=spec,
        network_seed=0,
        head=given.head,
        setting="class_incremental",
        classes=names,
        experiences=(len(names),),
        input=InputRecord(
            image=ImageShape(height=shape[0], width=shape[1], channels=shape[2], fit=given.fit),
            padding=0,
            channels=shape[2],
            mean=mean,
            std=std,
            height=shape[0],
            width=shape[1],
            resizing=None,
        ),
        classifier=ClassifierRecord(name="Linear"),
        weights_sha256="0" * 64,
        probe=(),
        versions=Versions(clbench=version("clbench"), engine=ENGINE, torch=torch.__version__),
    )
    network = TrainedNetwork(trunk.to(memory_format=torch.channels_last), rows, record, head_name).eval()
    digest = weights_sha256(tensors(network))
    step = LineageStep(command="given", id=digest, classes=names, images=None, strategy=None, seed=None)
    network.record = record.model_copy(update={"weights_sha256": digest, "lineage": (step,)})
    return network, assumed


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the names of classes from a text file, a name per line, or from JSON. Raises DataError."""
    try:
        if path.stat().st_size > _LARGEST_LIST:
            raise ValueError(f"it is larger than {_LARGEST_LIST:,} bytes")
        text = path.read_text(encoding="utf-8-sig")
        listed = json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"the classes cannot be read from {path}: {error}", "Give a name per line, or a JSON list."
        ) from None
    if isinstance(listed, dict):
        listed = _in_order(listed, path)
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise DataError(f"{path} is not a list of names", 'Give a name per line, or JSON: ["cat", "dog"].')
    names = [name.strip() for name in listed]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise DataError(f"{path} has no names", "Give a name per line, in the order of the outputs.")
    for output, name in enumerate(names):
        if not (name and name.isprintable()):
            raise DataError(
                f"{path}: the name of output {output} is {'empty' if not name else 'unprintable'}",
                "Give a name per line, in the order of the outputs, which begin with 0.",
            )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path} names {twice[0]} twice", "Each output needs its own class.")
    return tuple(names)


def _in_order(listed: Mapping[str, Any], path: Path) -> list[Any]:
    """Return the names from a mapping of outputs to names, or of names to outputs; both are common."""
    by_output = {str(key): value for key, value in listed.items()}
    if not all(key.isdecimal() for key in by_output):
        by_output = {str(value): key for key, value in listed.items()}
    wanted = [str(output) for output in range(len(by_output))]
    if sorted(by_output, key=lambda key: (len(key), key)) != wanted:
        raise DataError(
            f"{path} does not name a class for each output 0, 1, …", 'Give {"0": "cat", "1": "dog"}, or a list.'
        )
    return [by_output[output] for output in wanted]


def _check_statistics(given: Foreign, channels: int | None) -> None:
    if (given.mean is None) != (given.std is None):
        raise UsageError("give both --mean and --std, or neither", "For unchanged pixels in 0..1: --mean 0 --std 1")
    for name, values in (("--mean", given.mean), ("--std", given.std)):
        if values is not None and len(values) not in (1, channels or 3):
            raise UsageError(f"{name} must have one value, or one for each channel (got {len(values)})")
    if not all(map(math.isfinite, (*(given.mean or ()), *(given.std or ())))) or min(given.std or (1,)) <= 0:
        raise UsageError("--mean must be finite, and --std also above 0")


def _built(
    source: NetworkSource, shapes: Sequence[tuple[int, int, int]], config: Mapping[str, Any]
) -> tuple[tuple[int, int, int], tuple[Blocks, int, str | None]]:
    """Return the first of the shapes that the network accepts, and the network for it; see NetworkSource.trunk.

    Raises PluginError, which is about the first shape, if it accepts none.
    """
    for shape in shapes:
        with contextlib.suppress(PluginError):
            return shape, source.trunk(shape, config, 0, "architecture")
    return shapes[0], source.trunk(shapes[0], config, 0, "architecture")


def _channels(given: Foreign, traits: NetworkTraits, weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Return how many channels its images may have, the likeliest first: as many as there are means or deviations, or
    what the first convolution in the weights takes."""
    if traits.channels is not None:
        return (traits.channels,)
    listed = max(len(values) if values is not None else 0 for values in (given.mean, given.std, traits.mean))
    if listed > 1:
        return (listed,)
    first = next((value for value in weights.values() if value.dim() == 4), None)
    return (1, 3) if first is not None and first.shape[1] == 1 else (3, 1)


def _check_finite(weights: Mapping[str, Tensor], module: nn.Module, path: Path) -> None:
    buffers = {name for name, _ in module.named_buffers()}  # which may be infinite, as the mask of an attention
    for name, value in weights.items():
        wrong = value.isnan() if name in buffers else ~value.isfinite()
        if bool(wrong.any()):
            raise DataError(f"{name} in {path} has NaN or infinite values")


def _statistics(
    given: Foreign, traits: NetworkTraits, channels: int, name: str, assumed: list[str]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if given.mean is not None and given.std is not None:
        mean, std = (values * channels if len(values) == 1 else values for values in (given.mean, given.std))
        return mean, std
    if traits.mean is not None and traits.std is not None:
        return traits.mean, traits.std
    if libraries.is_librarys(name) and channels == 3:
        assumed.append("pixels normalized as for ImageNet (--mean, --std)")
        return _IMAGENET
    assumed.append("pixels in 0..1, not normalized (--mean, --std)")
    return (0.0,) * channels, (1.0,) * channels


def _head_rows(
    values: Mapping[str, Tensor], module: nn.Module, features: int, given: Foreign, head: str | None, classes: int
) -> tuple[nn.Linear, str]:
    """Return the head as a linear layer, and its name. Raises DataError if the weights have none that fits."""
    own = module.state_dict()
    candidates = [
        name.removesuffix(".weight")
        for name, value in values.items()
        if name.endswith(".weight") and name not in own and value.dim() == 2 and value.shape[1] == features
    ]
    wanted = given.head or (head if head in candidates else None)
    found = [name for name in candidates if wanted is None or name == wanted]
    named = values.get(f"{given.head}.weight")
    if not found and named is not None and named.dim() != 2:
        raise UsageError(
            f"--head {given.head} is no linear layer: its weight has the shape {tuple(named.shape)}, not (classes, "
            "features)",
            "Only networks that end with an nn.Linear can be extended.",
        )
    if not found and given.head is not None:
        fitting = [
            name.removesuffix(".weight") for name, value in values.items() if value.dim() == 2 and len(value) == classes
        ]
        raise UsageError(
            f"--head {given.head} is not the head: without it the network outputs {features} values per image, which "
            "does not match its inputs",
            f"{given.classes} names {classes} classes. Layers with as many outputs: {', '.join(fitting) or 'none'}.",
        )
    if not found and head is None and features == classes:
        raise DataError(
            f"the output of {given.network} is not that of a linear layer: its forward does something with it, such as "
            "a scaling or a ReLU, or the network ends with another layer",
            "Let its forward return the output of an nn.Linear as it is. If it does (as with .float()): --head NAME.",
        )
    if len(found) != 1:
        two_dimensional = [name for name, value in values.items() if value.dim() == 2]
        raise DataError(
            f"{given.weights} has {'several layers' if found else 'no layer'} that could be the head, "
            f"(classes, {features}): {', '.join(found or two_dimensional[:5]) or 'nothing of that shape'}",
            "Name it: --head NAME. The network is built for its features, and the head is read from the weights.",
        )
    (name,) = found
    weight = values[f"{name}.weight"].float()
    bias = values.get(f"{name}.bias", torch.zeros(len(weight))).float()
    if len(weight) != classes:
        raise DataError(
            f"{given.weights} has a head with {len(weight)} outputs, but {given.classes} names {classes} classes",
            "--classes needs a name for each output, in their order.",
        )
    return linear_layer(weight, bias), name
