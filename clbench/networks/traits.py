"""What a network's file declares about its network besides how it is built: `@clbench.network(size=224, …)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

Made = TypeVar("Made", bound=Callable[..., Any])

_ATTRIBUTE = "__clbench_network__"


@dataclass(frozen=True)
class NetworkTraits:
    """What is true of a network whatever its hyper-parameters are. All fields are optional."""

    size: int | None = None
    """Height and width in pixels to which images are resized; None leaves them as they are."""

    channels: int | None = None
    """Channels of its images, if it accepts no other number; for 3, grey images are repeated. None: the images'."""

    mean: tuple[float, ...] | None = None
    """Mean of the pixels, in 0..1, that it expects to be subtracted, per channel; None: as the recipe says."""

    std: tuple[float, ...] | None = None
    """What it then expects the pixels, in 0..1, to be divided by, per channel."""

    head: str | None = "last"
    """The linear layer that gives the class scores, by its name in the module; `last`: the one whose output is the
    module's, if there is one; None: there is none, and the module's output is the features."""

    blocks: Callable[[nn.Module], Sequence[nn.Module]] | None = None
    """Returns the parts of the module that can be frozen one by one, from the input on; None: its children, with
    nn.Sequential and nn.ModuleList among them opened. The children of an nn.Sequential are its blocks."""

    pretrained: Callable[[int | None], Mapping[str, Tensor]] | None = None
    """Returns pretrained weights by name, for images of a given size; None: it has none."""

    weights: Literal["none", "pretrained"] = "none"
    """Weights that it has unless the user chooses others."""

    classifiers: tuple[str, ...] = ()
    """Parts of a library's network, by their names there, that its module is built without, since the head takes their
    place: their weights are ignored."""

    auxiliary: tuple[str, ...] = ()
    """Parts of a library's network that its module is built without, since they do not contribute to its output: their
    weights are ignored."""


def network(
    *,
    size: int | None = None,
    channels: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    head: str | None = "last",
    blocks: Callable[[nn.Module], Sequence[nn.Module]] | None = None,
    pretrained: Callable[[int | None], Mapping[str, Tensor]] | None = None,
    weights: Literal["none", "pretrained"] = "none",
) -> Callable[[Made], Made]:
    """Return a decorator that marks the function or class that a network's file defines; see NetworkTraits.

    A file whose network has the file's name needs no decorator.
    """
    traits = NetworkTraits(size, channels, mean, std, head, blocks, pretrained, weights)

    def mark(made: Made) -> Made:
        setattr(made, _ATTRIBUTE, traits)
        return made

    return mark


def traits_of(made: Any) -> NetworkTraits:
    """Return what the decorator declared about a function or class."""
    found = vars(made).get(_ATTRIBUTE)
    return found if isinstance(found, NetworkTraits) else NetworkTraits()
