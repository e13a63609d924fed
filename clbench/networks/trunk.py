"""Turns any nn.Module into a trunk: its head cut off, and its parts as blocks that can be frozen from the input on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast, overload

import torch
from torch import Tensor, nn

from clbench.errors import PluginError
from clbench.networks.traits import NetworkTraits


class OwnParameters(nn.Module):
    """A module's own parameters, outside of its parts, as a part that can be frozen (such as a ViT's class token)."""

    def __init__(self, owner: nn.Module) -> None:
        super().__init__()
        for name, parameter in owner.named_parameters(recurse=False):
            self.register_parameter(name, parameter)


class Trunk(nn.Module):
    """Someone else's module with its blocks: (n, channels, height, width) -> (n, features).

    As in an nn.Sequential, the blocks can be counted, indexed and iterated over; but they are not run one by one, since
    only the module knows their order.
    """

    def __init__(self, module: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.module = module
        self._blocks = tuple(blocks)  # in a tuple, so that they do not become children a second time

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) -> (n, features)."""
        return cast(Tensor, self.module(x))

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._blocks)

    @overload
    def __getitem__(self, at: int) -> nn.Module: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[nn.Module, ...]: ...

    def __getitem__(self, at: int | slice) -> nn.Module | tuple[nn.Module, ...]:
        return self._blocks[at]


Blocks = nn.Sequential | Trunk
"""A trunk whose parts can be counted, indexed and frozen."""


def as_trunk(module: nn.Module, shape: tuple[int, int, int], traits: NetworkTraits) -> tuple[Blocks, int, str | None]:
    """Return a module as a trunk, the number of its features, and the name of the head that was cut off, if any.

    `shape` is (height, width, channels) of its images. Raises PluginError if the module does not accept them, or does
    not return (n, features).
    """
    head = _head(module, shape) if traits.head == "last" else traits.head
    whole = _probe_if_whole(module, shape) if traits.head not in (None, "last") else None
    layer = _cut(module, head) if head is not None else None
    try:
        features = _features(module, shape)
    except PluginError as error:
        if head is None or layer is None or traits.head == "last":
            raise
        _put(module, head, layer)
        raise _as_wrong_head(error, module, shape, head) from None
    if whole is not None and isinstance(layer, nn.Linear):
        _check_last(module, shape, layer, whole, str(head))
    if isinstance(module, nn.Sequential):
        return module, features, head
    blocks = list(traits.blocks(module)) if traits.blocks else _parts(module)
    return Trunk(module, blocks), features, head


def check_training(trunk: nn.Module, shape: tuple[int, int, int]) -> None:
    """Raise PluginError if a trunk does not return a tensor in training mode, in which some networks return more.

    This changes the running statistics of batch normalisation, so the trunk should not be used afterwards. torch's
    global random state is unchanged.
    """
    with torch.random.fork_rng(devices=[]):
        _probe(trunk, shape, training=True)


def tolerate_single_values(trunk: nn.Module) -> None:
    """Have batch normalisation use its running statistics for a batch that has one value per channel.

    Such a batch, a single last sample whose map has shrunk to 1×1, has no variance, and torch rejects it.
    """
    for part in trunk.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.register_forward_pre_hook(_begin_single)
            part.register_forward_hook(_end_single)


def _begin_single(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    if part.training and inputs[0].numel() == inputs[0].shape[1]:
        part.eval()
        vars(part)["single"] = True


def _end_single(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    if vars(part).pop("single", False):
        part.train()


def _probe(module: nn.Module, shape: tuple[int, int, int], training: bool = False) -> Tensor:
    """Return the module's output for two images of noise, in training or evaluation mode."""
    height, width, channels = shape
    x = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))
    was_training, when = module.training, " in training mode" if training else ""
    try:
        with torch.no_grad():
            output = module.train(training)(x)
    except Exception as error:  # someone else's module may raise anything
        what = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise PluginError(
            f"the network does not accept images of {height}×{width} px with {channels} channel"
            f"{'s' if channels > 1 else ''}{when} ({what})",
            "For another size: --set network.size=224. For other channels: give it a parameter in_channels, "
            "or have grey images repeated by @clbench.network(channels=3).",
        ) from error
    finally:
        module.train(was_training)
    if not isinstance(output, Tensor):
        raise PluginError(
            f"the network returns a {type(output).__name__}{when}, but must return a tensor (n, features)",
            "Let its forward return nothing else, or train only the head: --set network.train=head" if training else "",
        )
    return output


def _head(module: nn.Module, shape: tuple[int, int, int]) -> str | None:
    """Return the name of the linear layer whose output is the module's output, or None if there is none."""
    outputs: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = [
        layer.register_forward_hook(lambda _, __, made, name=name: outputs.__setitem__(name, (made, made.clone())))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    try:
        output = _probe(module, shape)
    finally:
        for hook in hooks:
            hook.remove()
    # An output that is changed in place after the layer, as by a ReLU, is the same tensor with other values.
    found = next((name for name, (own, made) in outputs.items() if own is output and torch.equal(made, output)), None)
    if found is None and output.dim() == 2 and outputs and _is_softmax(output):
        raise PluginError(
            "the network ends with a softmax, so that its last linear layer cannot be cut off",
            "Let it return the logits, or the features before them.",
        )
    return None if found == "" else found


def _as_wrong_head(error: PluginError, module: nn.Module, shape: tuple[int, int, int], head: str) -> PluginError:
    """Return the error for a module that fails without the layer that was named as its head."""
    try:
        last = _head(module, shape)
    except PluginError:
        return error
    if last in (None, head):
        return error
    return PluginError(f"the network does not work without '{head}', which is not its head", f"Its head is '{last}'.")


def _probe_if_whole(module: nn.Module, shape: tuple[int, int, int]) -> Tensor | None:
    """Return what `_probe` does; None for a module that works only without its head."""
    try:
        return _probe(module, shape)
    except PluginError:
        return None


def _check_last(module: nn.Module, shape: tuple[int, int, int], layer: nn.Linear, whole: Tensor, head: str) -> None:
    """Raise PluginError if the `whole` output of a module is not that of the layer that was cut off as its head."""
    features = _probe(module, shape)
    if features.shape[1] != layer.in_features:
        return  # which is an error of its own, said with the weights
    with torch.no_grad():
        own = layer(features.to(layer.weight.dtype)).to(whole.dtype)
    if whole.shape != own.shape or not torch.allclose(whole, own, rtol=1e-3, atol=1e-4):
        raise PluginError(
            f"the network's output is not that of '{head}': its forward does something else with it, such as a softmax "
            "or a scaling, which would be applied to the features instead",
            f"Let its forward return the output of '{head}' as it is.",
        )


def _is_softmax(output: Tensor) -> bool:
    """Return whether rows are probabilities or their logarithms."""
    sums = output.sum(dim=1), output.exp().sum(dim=1)
    return output.shape[1] > 1 and any(bool(((each - 1).abs() < 1e-4).all()) for each in sums)


def _cut(module: nn.Module, head: str) -> nn.Module:
    """Replace a layer by the identity, and return the layer."""
    try:
        layer = module.get_submodule(head)
    except AttributeError:
        linear = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
        raise PluginError(
            f"the network has no layer '{head}' to cut off as its head",
            f"Its linear layers: {', '.join(linear) or 'none'}",
        ) from None
    _put(module, head, nn.Identity())
    return layer


def _put(module: nn.Module, place: str, layer: nn.Module) -> None:
    parent, _, name = place.rpartition(".")
    setattr(module.get_submodule(parent), name, layer)


def _features(module: nn.Module, shape: tuple[int, int, int]) -> int:
    output = _probe(module, shape)
    if output.dim() != 2 or len(output) != 2:
        raise PluginError(
            f"the network returns {tuple(output.shape)} for two images, but must return (n, features)",
            "Pool and flatten at its end: nn.AdaptiveAvgPool2d(1), nn.Flatten().",
        )
    if not bool(output.isfinite().all()):
        raise PluginError("the network returns NaN or infinite features for images of noise")
    return int(output.shape[1])


def _parts(module: nn.Module) -> list[nn.Module]:
    """Return the children with parameters or buffers, containers opened, after the module's own parameters."""
    own = [OwnParameters(module)] if list(module.named_parameters(recurse=False)) else []
    return [*own, *(part for child in module.children() for part in _opened(child) if part.state_dict())]


def _opened(child: nn.Module) -> Iterator[nn.Module]:
    # Subclasses of nn.Sequential, such as torchvision's Conv2dNormActivation, are parts in their own right.
    if type(child) in (nn.Sequential, nn.ModuleList):
        for part in child.children():
            yield from _opened(part)
    else:
        yield child
