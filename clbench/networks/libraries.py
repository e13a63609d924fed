"""Networks of timm and torchvision, by their names there: `timm:resnet18`, `torchvision:mobilenet_v3_small`."""

from __future__ import annotations

import contextlib
import importlib
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

from clbench.errors import DataError, MachineError, PluginError, UsageError
from clbench.networks.traits import NetworkTraits

if TYPE_CHECKING:
    from torch import Tensor, nn

LIBRARIES = ("timm", "torchvision")


def is_librarys(name: str) -> bool:
    """Return whether this is the name of a library's network."""
    return name.partition(":")[0] in LIBRARIES and ":" in name


def package(name: str) -> str:
    """Return the library with its version. Raises MachineError if it is not installed."""
    library = name.partition(":")[0]
    _imported(library)
    return f"{library} {version(library)}"


def traits(name: str, weights: str) -> NetworkTraits:
    """Return the traits of a library's network. With `weights` pretrained, its input is the one used in their training.

    Raises UsageError for a name that the library does not have.
    """
    library, _, own = name.partition(":")
    return (_timms if library == "timm" else _torchvisions)(own, weights == "pretrained")


def build(name: str, size: int | None, weights: str) -> nn.Module:
    """Return a network of a library for images of `size` px, with weights drawn at random.

    With `weights` pretrained, it transforms its input as in their training.
    """
    library, _, own = name.partition(":")
    return _timm_model(own, size) if library == "timm" else _torchvision_model(own, size, weights == "pretrained")


def _imported(library: str) -> ModuleType:
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise MachineError(f"{library} is not installed ({error})", "pip install 'clbench[pretrained]'") from None


def _unknown(library: str, own: str, known: list[str], hint: str = "") -> UsageError:
    import difflib

    close = difflib.get_close_matches(own, known, n=3)
    meant = f", did you mean {', '.join(f'{library}:{name}' for name in close)}?" if close else ""
    return UsageError(f"{library} has no network '{own}'{meant} ({len(known)} known)", hint)


def _fetched(library: str, own: str, size: int | None, get: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """Return pretrained weights for images of `size` px. Raises DataError if they cannot be fetched."""
    try:
        return get()
    except Exception as error:  # errors of the connection, the hub and its cache differ between libraries
        what = textwrap.shorten(f"{type(error).__name__}: {error}", 120, placeholder=" …")
        raise DataError(
            f"the pretrained weights of {library}:{own} cannot be fetched ({what})",
            "Fetch them on a machine with a network connection, and give the file: "
            f"--weights FILE --set network.size={size}. Images are then normalized as the recipe says; for the "
            "normalization of the pretraining, write a network file with @clbench.network(mean=…, std=…).",
        ) from None


# -- timm -------------------------------------------------------------------------------------------------------------


def _timms(own: str, pretrained: bool) -> NetworkTraits:
    timm = _imported("timm")
    architecture, dot, _ = own.partition(".")
    if not timm.is_model(architecture):
        raise _unknown("timm", own, timm.list_models())
    tagged = timm.list_models(architecture, include_tags=True)
    if dot and tagged and own not in tagged:
        raise _unknown("timm", own, tagged, f"Known: {', '.join(f'timm:{name}' for name in tagged)}")
    config = timm.get_pretrained_cfg(own)
    there = config is not None and config.has_weights
    if pretrained and not there:
        raise UsageError(f"timm has no pretrained weights for {own}", "Give a file: --weights FILE")

    def weights(size: int | None) -> Mapping[str, Tensor]:
        with _hub_offline_if_out_of_reach():
            return _fetched("timm", own, size, lambda: _timm_model(own, size, pretrained=True).state_dict())

    fixed = config is not None and config.fixed_input_size
    return NetworkTraits(
        size=config.input_size[-1] if config is not None and (pretrained or fixed) else None,
        channels=3,
        mean=config.mean if config is not None and pretrained else None,
        std=config.std if config is not None and pretrained else None,
        head=None,
        pretrained=weights if there else None,
        classifiers=_classifiers(config.classifier if config is not None else None),
    )


def _classifiers(layers: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the parts of a network that `layers` are in: a classifier may have others, as LeViT's `head.linear` comes
    after `head.bn`."""
    listed = (layers,) if isinstance(layers, str) else layers or ()
    return tuple(layer.partition(".")[0] for layer in listed)


@contextlib.contextmanager
def _hub_offline_if_out_of_reach() -> Iterator[None]:
    """A context in which an unreachable hub's files come only from its cache: it would keep trying for a minute."""
    from huggingface_hub import constants

    before, reachable = constants.HF_HUB_OFFLINE, True
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except OSError:
        reachable = False
    constants.HF_HUB_OFFLINE = before or not reachable
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _timm_model(own: str, size: int | None, pretrained: bool = False) -> nn.Module:
    timm = _imported("timm")
    config = timm.get_pretrained_cfg(own)
    sized: dict[str, Any] = {}
    if size is not None and config is not None and config.fixed_input_size and config.input_size[-1] != size:
        sized = {"img_size": size}
    try:
        model: nn.Module = timm.create_model(own, pretrained=pretrained, num_classes=0, **sized)
    except (TypeError, ValueError, AssertionError) as error:
        raise PluginError(f"timm:{own} cannot be built for images of {size} px: {error}") from error
    return model


# -- torchvision ------------------------------------------------------------------------------------------------------

_AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}
"""Classifiers in the middle of a network, whose outputs it returns as well in training mode. The pretrained weights of
these networks expect pixels in -1..1, to which `transform_input` brings pixels that are normalized as for ImageNet."""


def _torchvisions(own: str, pretrained: bool) -> NetworkTraits:
    models = _imported("torchvision.models")
    known = models.list_models(module=models)
    if own not in known:
        raise _unknown("torchvision", own, known)
    there = models.get_model_weights(own)
    if pretrained and not len(there):
        raise UsageError(f"torchvision has no pretrained weights for {own}", "Give a file: --weights FILE")
    preset = there.DEFAULT.transforms() if len(there) else None

    def weights(size: int | None) -> Mapping[str, Tensor]:
        return _fetched("torchvision", own, size, lambda: there.DEFAULT.get_state_dict(progress=False))

    side = preset.crop_size[0] if preset is not None else None
    return NetworkTraits(
        size=side if pretrained or _is_sized(own) else None,
        channels=3,
        mean=tuple(preset.mean) if preset is not None and pretrained else None,
        std=tuple(preset.std) if preset is not None and pretrained else None,
        pretrained=weights if len(there) else None,
        auxiliary=_AUXILIARY.get(own, ()),
    )


def _is_sized(own: str) -> bool:
    """Return whether a network is built for one size of images."""
    return own.startswith("vit_")


def _torchvision_model(own: str, size: int | None, pretrained: bool) -> nn.Module:
    models = _imported("torchvision.models")
    given: dict[str, Any] = {"transform_input": pretrained} if own in _AUXILIARY else {}
    if size is not None and _is_sized(own):
        given = {"image_size": size}
    try:
        model: nn.Module = models.get_model(own, weights=None, **given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PluginError(f"torchvision:{own} cannot be built for images of {size} px: {error}") from error
    for name in _AUXILIARY.get(own, ()):  # not left out above, so that a seed draws the others as before
        setattr(model, name, None)
        vars(model)["aux_logits"] = False
    return model
