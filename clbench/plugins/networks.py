"""Finds a network by its name, in a plug-in's file, timm or torchvision, and builds it."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from clbench.base.config import NoConfig, configure, plain
from clbench.errors import PluginError
from clbench.networks import libraries
from clbench.networks.initialization import draw_weights
from clbench.networks.network import Network
from clbench.networks.traits import NetworkTraits, traits_of
from clbench.networks.trunk import Blocks, as_trunk, check_training
from clbench.plugins.discovery import Plugin, builtin_folder, select
from clbench.plugins.foreign_code import calling
from clbench.plugins.loading import load

Initialization = Literal["architecture", "torch", "xavier_uniform", "truncated_normal"]
Weights = Literal["none", "pretrained", "file"]

_CHANNELS = ("channels", "in_channels", "in_chans", "input_channels")
_CLASSES = ("num_classes", "classes", "n_classes")
_ANY_NUMBER_OF_CLASSES = 10
"""Passed to a network that requires it: the layer that depends on it is replaced by the head."""


@dataclass(frozen=True)
class NetworkSource:
    """Where a network comes from, loaded and ready to build it."""

    name: str
    traits: NetworkTraits
    make: Callable[[tuple[int, int, int], Any], nn.Module]
    """Returns the module for images of (height, width, channels), with its hyper-parameters."""

    config_class: type[Any] = NoConfig
    file: Path | None = None
    sha256: str | None = None
    """Hash of its source file; None for clbench's own, whose numbers `engine` stands for, and for a library's."""

    package: str | None = None
    """The library with its version."""

    @property
    def built_in(self) -> bool:
        """Whether it is one of clbench's own."""
        return self.sha256 is None and self.package is None

    def with_head(self, name: str) -> NetworkSource:
        """Return the same network with another layer as its head, by its name in the module."""
        return replace(self, traits=replace(self.traits, head=name))

    def config(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return all hyper-parameters, as JSON. Raises UsageError for an unknown one or an invalid value."""
        return plain(configure(self.config_class, dict(values), f"network {self.name}"))

    def differing(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the hyper-parameters that are not at their defaults, as JSON."""
        defaults = plain(self.config_class())
        return {name: value for name, value in self.config(values).items() if value != defaults[name]}

    def trunk(
        self, shape: tuple[int, int, int], values: Mapping[str, Any], seed: int, initialization: Initialization
    ) -> tuple[Blocks, int, str | None]:
        """Return the network as a trunk, the number of its features, and the name of the head that was cut off.

        Weights for images of `shape` (height, width, channels) are drawn from `seed`, including those of lazy layers,
        which have none before they see an image. With the `initialization` torch, convolutions are initialized as torch
        does by default, U(-1/√n, 1/√n) for n inputs; with xavier_uniform or truncated_normal, convolutions
        and linear layers as `draw_weights` does. torch's global random state is unchanged. Raises PluginError for what
        the network's own code raises.
        """
        config = configure(self.config_class, dict(values), f"network {self.name}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self._module(shape, config)
            if initialization == "torch":
                for part in module.modules():
                    if isinstance(part, nn.Conv2d):
                        part.reset_parameters()
            elif initialization != "architecture":
                for part in module.modules():
                    if isinstance(part, nn.Conv2d | nn.Linear):
                        draw_weights(part, initialization)
            with self._named():
                return as_trunk(module, shape, self.traits)

    def check_training(self, shape: tuple[int, int, int], values: Mapping[str, Any]) -> None:
        """Raise PluginError if the network does not return a tensor in training mode; arguments as in `trunk`.

        A trunk is built for this check alone, which changes it.
        """
        trunk, _, _ = self.trunk(shape, values, 0, "architecture")
        with self._named():
            check_training(trunk, shape)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """A context in which what the network's own code raises becomes a PluginError with the network's name."""
        try:
            with calling(f"network {self.name}", "cannot be used"):
                yield
        except PluginError as error:
            raise PluginError(f"{self.name}: {error.message}", error.hint) from error

    def _module(self, shape: tuple[int, int, int], config: Any) -> nn.Module:
        with calling(f"network {self.name}", "cannot be built"):
            module = self.make(shape, config)
        if not isinstance(module, nn.Module):
            raise PluginError(f"network {self.name} returns a {type(module).__name__}, but must return an nn.Module")
        return module


def network_source(name: str, weights: Weights | None = None, file: Path | None = None) -> NetworkSource:
    """Return the network that `name` stands for; `file` is the path of a plug-in of that name, if it is known.

    `weights` are those that it will have, by default those that it chooses itself: with pretrained weights, a library's
    network expects other images. Raises UsageError if there is none, and PluginError if its file cannot be a network.
    """
    if libraries.is_librarys(name):
        traits = libraries.traits(name, weights or "none")
        return NetworkSource(
            name,
            traits,
            lambda shape, _: libraries.build(name, shape[0], weights or "none"),
            package=libraries.package(name),
        )
    plugin = select("network", str(file or name))
    made = _loaded(plugin.path, plugin.sha256, plugin.name)
    traits = traits_of(made)
    own = builtin_folder("network").resolve() / f"{plugin.name}.py"
    is_own = own.is_file() and own.read_bytes() == plugin.path.read_bytes()
    return NetworkSource(
        name=plugin.name,
        traits=traits,
        make=_maker(plugin, made),
        config_class=_config_class(plugin, made),
        file=plugin.path,
        sha256=None if is_own else plugin.sha256,
    )


@cache
def _loaded(path: Path, sha256: str, name: str) -> Any:
    """Load a network's file once in this process, so that all its networks are of one class, as pickling requires."""
    return load(select("network", str(path)))


def _config_class(plugin: Plugin, made: Any) -> type[Any]:
    if not plugin.fields:
        return NoConfig
    found = [
        value
        for value in vars(sys.modules[made.__module__]).values()
        if isinstance(value, type) and value.__module__ == made.__module__ and hasattr(value, "__pydantic_config__")
    ]
    return found[0] if found else NoConfig


def _maker(plugin: Plugin, made: Callable[..., nn.Module]) -> Callable[[tuple[int, int, int], Any], nn.Module]:
    """Return a function that calls a network's function or class with the arguments for which it has parameters."""
    parameters = inspect.signature(made).parameters
    required = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    known = ("shape", "config", *_CHANNELS, *_CLASSES)
    if unknown := [name for name in required if name not in known]:
        raise PluginError(
            f"network {plugin.name} ({plugin.path}) needs {', '.join(unknown)}, which clbench does not pass",
            f"Give them defaults. Arguments that clbench can pass: {', '.join(known)}",
        )

    def make(shape: tuple[int, int, int], config: Any) -> nn.Module:
        given: dict[str, Any] = {"shape": shape, "config": config} | dict.fromkeys(_CHANNELS, shape[2])
        given |= {name: _ANY_NUMBER_OF_CLASSES for name in _CLASSES if name in required}
        return made(**{name: value for name, value in given.items() if name in parameters})

    return make


def build(
    name: str, shape: tuple[int, int, int], seed: int, initialization: Initialization = "architecture"
) -> Network:
    """Return the network `name` with its default hyper-parameters, for images of `shape` (height, width, channels).

    Its weights are drawn from `seed`; the head has no rows yet. Convolutions are in channels-last memory format, in
    which the images are stored and which CPU kernels prefer.
    """
    trunk, features, _ = network_source(name).trunk(shape, {}, seed, initialization)
    return Network(trunk, features).to(memory_format=torch.channels_last)
