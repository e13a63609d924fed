"""The options of `clbench train` and `clbench extend`, as the user gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from clbench.data.image_fit import FITS, Fit
from clbench.errors import UsageError
from clbench.runs.option import Option, accepted, options_of
from clbench.runs.option_values import assignments, name_or_path, names_in, names_of, values_of
from clbench.runs.request import DATA_FOLDER, DEVICE
from clbench.system.machine import available_cores
from clbench.system.suggestions import did_you_mean

SMALL = 32
"""Pixels. On smaller images, several threads wait for each other longer than they compute, above all if another process
keeps a core busy."""

Asked = TypeVar("Asked", bound="Common")


def _fit_of(given: Any) -> Fit | None:
    """Return the way of fitting with this name. Raises UsageError."""
    how = next((each for each in FITS if each == given), None)
    if given is not None and how is None:
        raise UsageError(f"--fit must be crop, pad or stretch (got {given}){did_you_mean(str(given), FITS)}")
    return how


def _channels_in(text: str | None) -> tuple[float, ...] | None:
    """Return the numbers that the text lists, one for each channel. Raises UsageError."""
    try:
        return None if text is None else tuple(float(each) for each in text.split(","))
    except ValueError:
        raise UsageError(
            f"--mean and --std must be a number, or one for each channel: 0.485,0.456,0.406 (got {text})"
        ) from None


def _channels_of(numbers: Any) -> tuple[float, ...]:
    if isinstance(numbers, str) or not isinstance(numbers, Sequence):
        raise TypeError("a sequence of numbers, one for each channel")
    return tuple(float(each) for each in numbers)


def _listed_in(text: str | None) -> list[str] | None:
    return None if text is None else text.split(",")


def _listed_of(names: Any) -> list[str]:
    return names.split(",") if isinstance(names, str) else names_of(names) or ["none"]


def _strategies_in(texts: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(names_in(texts))


def _strategies_of(names: Any) -> tuple[str, ...]:
    return _strategies_in([names] if isinstance(names, str) else names_of(names))


_FIT = Option("How images become square.", "crop|pad|stretch", unset="crop", parse=_fit_of, accept=_fit_of)


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options that both commands have."""

    images: Annotated[
        Path, Option("Images of the classes to learn: CLASS/*, or train/CLASS/* and test/CLASS/*.", "FOLDER")
    ]
    out: Annotated[Path, Option("Folder to write; it must not exist.", "DIR")]
    network: str | None = None
    """The architecture; for `extend`, that of a network from elsewhere, or the file of the one in `source`."""

    size: Annotated[int | None, Option("Height and width in pixels.", "N", unset="the network's own")] = None
    epochs: Annotated[int | None, Option("Passes over the images.", "N", unset="the recipe's")] = None
    set: Annotated[
        Mapping[str, Any],
        Option(
            "A hyper-parameter, or recipe.NAME=VALUE or network.NAME=VALUE.",
            "STRATEGY.NAME=VALUE",
            parse=assignments,
            accept=values_of,
            repeated=True,
            default=None,
        ),
    ] = field(default_factory=dict)
    held_out: Annotated[
        float | None,
        Option("Share of each class's images to test on, if there is no test part.", "SHARE", unset="0.2"),
    ] = None
    export: Annotated[
        str | None, Option("Also write the network for use without clbench.", "onnx|pt2|torchscript|safetensors")
    ] = None
    seed: Annotated[int, Option("Seed for batches, new weights and held-out images.", "N")] = 0
    device: Annotated[str, DEVICE] = "auto"
    threads: Annotated[
        int | None,
        Option("Threads to compute with; part of the identity.", "N", unset=f"1 up to {SMALL} px, otherwise the cores"),
    ] = None
    data: Annotated[Path | None, DATA_FOLDER] = None

    @classmethod
    def from_python(cls: type[Asked], given: Mapping[str, Any], **others: Any) -> Asked:
        """Return the request for options given in Python, and for `others`, fields that are not options.

        None means that an option is left out. Raises UsageError for an option of the wrong type.
        """
        known = options_of(cls)
        return cls(
            **{name: accepted(known, name, value) for name, value in given.items() if value is not None}, **others
        )

    def threads_at(self, size: int) -> int:
        """Return the number of threads for images of `size` pixels in height and width."""
        if self.threads is not None:
            return self.threads
        return 1 if size <= SMALL else available_cores()

    @property
    def network_file(self) -> Path | None:
        """The file of the network's architecture, if it is the user's own."""
        return Path(self.network) if self.network is not None and self.network.endswith(".py") else None

    @property
    def share_held_out(self) -> float:
        """Share of each class's images that is held out for testing, if the folder has no test part."""
        return 0.2 if self.held_out is None else self.held_out


@dataclass(frozen=True, kw_only=True)
class TrainRequest(Common):
    """The options of `clbench train`."""

    network: Annotated[
        str, Option("Network, by name or file, timm:NAME or torchvision:NAME.", "NAME", accept=name_or_path)
    ] = field()  # otherwise it would inherit the default of the class above
    weights: Annotated[
        str | None,
        Option(
            "Initial weights.",
            "FILE|pretrained|none",
            unset="the network's own, if it has any",
            accept=name_or_path,
        ),
    ] = None
    fit: Annotated[Fit, _FIT] = "crop"
    prepare: Annotated[
        Sequence[str] | None,
        Option(
            "Keep what these strategies need to extend it: statistics, no images.",
            "STRATEGY[,…]|none",
            unset="small ones",
            parse=_listed_in,
            accept=_listed_of,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ExtendRequest(Common):
    """The options of `clbench extend`."""

    source: Path | None = None
    """The network's folder, written by `train`, `extend` or `run --keep-networks`; None if it is from elsewhere."""

    strategy: Annotated[
        Sequence[str],
        Option(
            "Strategies to try.",
            "NAME[:PRESET][,NAME…]|all",
            ("--strategy", "-s"),
            unset="ncm if the network keeps its statistics, otherwise imprint",
            parse=_strategies_in,
            accept=_strategies_of,
            repeated=True,
            default=None,
        ),
    ] = ()
    old_test: Annotated[Path | None, Option("Test images of old classes, a few per class.", "FOLDER")] = None
    old_images: Annotated[Path | None, Option("Images of old classes to train on.", "FOLDER")] = None
    unlabelled: Annotated[Path | None, Option("Any images, to compare predictions before and after.", "FOLDER")] = None
    also_old: Annotated[
        bool,
        Option("Train on images of classes that the network knows, as those classes.", flags=("--also-old",)),
    ] = False
    network: Annotated[
        str | None,
        Option(
            "A network from elsewhere: file, timm:NAME, torchvision:NAME; or the file that defines NETWORK.",
            "NAME",
            accept=name_or_path,
        ),
    ] = None
    weights: Annotated[Path | None, Option("Its weights, head included: .safetensors or .pt.", "FILE")] = None
    classes: Annotated[
        Path | None, Option("Its classes in the order of its outputs: a name per line, or JSON.", "FILE")
    ] = None
    head: Annotated[str | None, Option("Its last linear layer.", "NAME", unset="found by its shape")] = None
    mean: Annotated[
        tuple[float, ...] | None,
        Option(
            "Mean of pixels in 0..1 that it expects to be subtracted.",
            "M[,M,M]",
            parse=_channels_in,
            accept=_channels_of,
        ),
    ] = None
    std: Annotated[
        tuple[float, ...] | None,
        Option(
            "Standard deviation that it expects them to be divided by.",
            "S[,S,S]",
            parse=_channels_in,
            accept=_channels_of,
        ),
    ] = None
    fit: Annotated[Fit | None, _FIT] = None
    """None: as in the network's training, or cropped."""
