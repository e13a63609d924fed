"""The network that the user chose for a run: name, hyper-parameters, weights, image size, and which part trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from clbench.base.config import config, configure, typed
from clbench.data.weights import keep_weights
from clbench.errors import UsageError
from clbench.networks.weights import fitted, read_weights
from clbench.plugins.networks import NetworkSource, Weights, network_source
from clbench.results.protocol_building import Protocol
from clbench.results.run_spec import NetworkSpec
from clbench.system.files import found_at
from clbench.system.suggestions import did_you_mean

Shape = tuple[int, int, int]


@config
class NetworkUse:
    """Settings that every network has: `--set network.size=128 --set network.train=head`."""

    size: Annotated[int, Ge(1), Le(2048)] | None = None
    """Height and width in pixels to which images are resized; None: the network's own, or unchanged."""

    train: Annotated[int, Ge(1)] | Literal["all", "head"] = "all"
    """How much of it trains: all of it, the head alone, or this many of the trunk's blocks, counted from the head."""


@dataclass(frozen=True)
class NetworkRequest:
    """What the user asked for instead of the recipe's unchanged network."""

    weights: str | None
    """`none`, `pretrained`, or a file; None leaves it to the network."""

    use: NetworkUse
    values: Mapping[str, Any]
    """The network's own hyper-parameters."""

    used: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `use` that the user set."""

    def under(self, config: Mapping[str, Any]) -> NetworkRequest:
        """Return the request with the recipe's settings of the network where the user has set nothing else."""
        use = {name: value for name, value in config.items() if name in NetworkUse.__dataclass_fields__}
        values = {name: value for name, value in config.items() if name not in use}
        return replace(
            self, use=configure(NetworkUse, {**use, **self.used}, "network"), values={**values, **self.values}
        )

    def changes(self, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the changes to the network `name` of a recipe that has `config` for it; they name the recipe.

        Values are those that the network has, so that equal ones are the same change however they are written.
        """
        source = network_source(name, _weights(self.weights))
        usual, asked = (each.under(config) for each in (NetworkRequest(None, NetworkUse(), {}), self))
        _check_names(source, asked.values)
        before, after = source.config(usual.values), source.config(asked.values)
        found: dict[str, Any] = {name: typed(value) for name, value in after.items() if value != before[name]}
        if self.weights is not None:
            found["weights"] = Path(self.weights).stem
        if asked.use.train != usual.use.train:
            found["train"] = asked.use.train
        if (asked.use.size or source.traits.size) != (usual.use.size or source.traits.size):
            found["size"] = asked.use.size
        return {f"network.{name}": value for name, value in found.items()}


def asked(values: Mapping[str, Any], weights: str | None) -> NetworkRequest:
    """Return the request that `--set network.NAME=VALUE` and `--weights` make."""
    own = {name: value for name, value in values.items() if name in NetworkUse.__dataclass_fields__}
    used = {name: None if value == "none" else value for name, value in own.items()}
    use = configure(NetworkUse, used, "network")
    return NetworkRequest(weights, use, {name: value for name, value in values.items() if name not in own}, used)


def choose_network(name: str, request: NetworkRequest, shape: Shape, folder: Path) -> tuple[NetworkSpec, Path | None]:
    """Return the network of a run, for images of `shape` (height, width, channels), and its file if it is a user's.

    Weights are stored in the data `folder`, from where the run loads them. Raises UsageError, DataError, PluginError or
    MachineError if the request cannot be met.
    """
    kind = _weights(request.weights)
    source = network_source(name, kind)
    _check_names(source, request.values)
    if kind is None:
        kind = source.traits.weights
    if kind == "pretrained" and source.traits.pretrained is None:
        raise UsageError(f"network {source.name} has no pretrained weights", "Give a file: --weights FILE")
    traits = source.traits
    spec = NetworkSpec(
        name=source.name,
        sha256=source.sha256,
        package=source.package,
        config=source.differing(request.values),
        size=request.use.size or traits.size,
        channels=_channels(source, shape),
        mean=traits.mean,
        std=traits.std,
        train=request.use.train,
    )
    if kind != "none":
        trunk, _, head = source.trunk(input_shape(spec, shape), spec.config, 0, "architecture")
        module = getattr(trunk, "module", trunk)
        if kind == "pretrained":
            assert traits.pretrained is not None
            values, what = traits.pretrained(spec.size), f"the pretrained weights of {source.name}"
        else:
            given = Path(str(request.weights))
            values, what = read_weights(given), f"the weights in {given}"
        cut_off = [*traits.auxiliary, *(traits.classifiers if head is None else [head])]
        own = fitted(values, module, cut_off, what)
        spec = spec.model_copy(update={"weights": kind, "weights_sha256": keep_weights(own, folder)})
    file = source.file if source.sha256 is not None else None
    _check_depth(spec, source, shape)
    if spec.train != "head" and not source.built_in:
        source.check_training(input_shape(spec, shape), spec.config)
    return spec, file


def network_name(selector: str) -> str:
    """Return the name of a network that is selected by name or by path."""
    return Path(selector).stem if selector.endswith(".py") or "/" in selector else selector


def without_augmentation(protocol: Protocol) -> str | None:
    """Return a note if the recipe's augmentation is left out because only the head trains."""
    if not protocol.augmentation_left_out:
        return None
    return (
        f"{protocol.plugin.name}, recipe {protocol.recipe_name}: images are not augmented, since with "
        "network.train=head the features of each are computed once"
    )


def padded(shape: Shape, padding: int) -> Shape:
    """Return the shape of images (height, width, channels) with `padding` pixels on each side."""
    return shape[0] + 2 * padding, shape[1] + 2 * padding, shape[2]


def input_shape(spec: NetworkSpec, shape: Shape) -> Shape:
    """Return the (height, width, channels) of the network's input for images of `shape`."""
    height, width, channels = shape
    return spec.size or height, spec.size or width, spec.channels or channels


def _weights(given: str | None) -> Weights | None:
    if given is None or given in ("none", "pretrained"):
        return given  # type: ignore[return-value]
    if found_at(Path(given)) is None and "/" not in given and "." not in given:
        words = ("none", "pretrained")
        raise UsageError(f"--weights must be none, pretrained or a file (got {given}){did_you_mean(given, words)}")
    return "file"


def _check_names(source: NetworkSource, values: Mapping[str, Any]) -> None:
    own = list(source.config_class.__dataclass_fields__)
    known = [*NetworkUse.__dataclass_fields__, *own]
    for name in values:
        if name not in own:
            raise UsageError(
                f"network {source.name} has no setting '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})"
            )


def _channels(source: NetworkSource, shape: Shape) -> int | None:
    """Return the number of channels to which gray images are repeated, or None. Raises UsageError for other images."""
    wanted, given = source.traits.channels, shape[2]
    if wanted in (None, given):
        return None
    if given != 1:
        raise UsageError(f"network {source.name} accepts images with {wanted} channels, but these have {given}")
    return wanted


def _check_depth(spec: NetworkSpec, source: NetworkSource, shape: Shape) -> None:
    if not isinstance(spec.train, int):
        return
    trunk, _, _ = source.trunk(input_shape(spec, shape), spec.config, 0, "architecture")
    if spec.train > len(trunk):
        raise UsageError(f"network.train = {spec.train}: the trunk of {source.name} has {len(trunk)} blocks")
