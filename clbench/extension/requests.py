"""What the user asks of `clbench train` and `clbench extend`, before anything is looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clbench.data.image_files import Fit
from clbench.system.machine import available_cores


@dataclass(frozen=True, kw_only=True)
class Common:
    """What both commands are asked for."""

    images: Path
    """Folder with the images of the classes that are learned: CLASS/*, or train/CLASS/* and test/CLASS/*."""

    out: Path
    """The folder that is written. It must not exist."""

    set: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters by `strategy.name`, `recipe.name` or `network.name`."""

    epochs: int | None = None
    """Passes over the images; None: the recipe's."""

    seed: int = 0
    """Draws batches, new rows of the head, and which images are held out."""

    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""

    threads: int = field(default_factory=available_cores)
    """Threads that torch computes with. Another number rounds differently."""

    held_out: float | None = None
    """Share of each class's images that is tested on, if the folder has no test part; None: a fifth."""

    size: int | None = None
    """Height and width of the images in pixels; None: the network's own."""

    export: str | None = None
    """Format of a file that is written next to the network."""

    data: Path | None = None
    """The data folder, for weights; None: the usual one."""

    network: str | None = None
    """The architecture; of `extend`, of a network from elsewhere, or the file of the one in `source`."""

    @property
    def network_file(self) -> Path | None:
        """The file of the network's architecture, if it is a user's."""
        return Path(self.network) if self.network is not None and self.network.endswith(".py") else None

    @property
    def share_held_out(self) -> float:
        """Share of each class's images that is tested on, if the folder has no test part."""
        return 0.2 if self.held_out is None else self.held_out


@dataclass(frozen=True, kw_only=True)
class TrainRequest(Common):
    """What `clbench train` is asked for."""

    network: str
    """Its architecture, as of `clbench run`."""

    weights: str | None = None
    """`none`, `pretrained` or a file; None leaves it to the network."""

    fit: Fit = "crop"
    """How images of other proportions become square."""

    prepare: Sequence[str] | None = None
    """Strategies that shall be able to extend the network: what they need of the training images is kept, without
    images. None: those whose files say that they are prepared by default."""


@dataclass(frozen=True, kw_only=True)
class ExtendRequest(Common):
    """What `clbench extend` is asked for."""

    source: Path | None
    """The folder of the network, as `train`, `extend` or `run --keep-networks` wrote it; None: it is from elsewhere."""

    strategy: Sequence[str] = ()
    """Strategies by name, each of which is tried; empty: the default."""

    old_test: Path | None = None
    """Folder with test images of old classes, a few a class."""

    old_images: Path | None = None
    """Folder with images of old classes that may be trained on."""

    unlabelled: Path | None = None
    """Folder of any images, on which the answers before and after are compared."""

    also_old: bool = False
    """Whether images of a class that the network knows already are trained on as that class."""

    weights: Path | None = None
    """The weights of a network from elsewhere, head included."""

    classes: Path | None = None
    """The names of its classes in the order of its outputs."""

    head: str | None = None
    """The name of its head in the module, if it is not found by its shape."""

    mean: tuple[float, ...] | None = None
    """What it expects to be subtracted from pixels in 0..1, per channel."""

    std: tuple[float, ...] | None = None
    """What it expects them to be divided by then, per channel."""

    fit: Fit | None = None
    """How images of other proportions become square; None: as in its training, or cropped."""
