"""Where the built-in datasets come from: scikit-learn's digits, and torchvision's MNIST, FashionMNIST and CIFAR."""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import socket
import ssl
import sys
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from clbench.errors import DataError

STALL_SECONDS = 60.0


@dataclass(frozen=True)
class Builtin:
    """What a built-in dataset must be, and where torchvision keeps it.

    `shape` is (height, width, channels). `layout` is the folder, inside the data folder, in which torchvision looks
    for the files; `torchvision_class` is the class that reads them. Digits has neither: scikit-learn ships it.
    """

    shape: tuple[int, int, int]
    classes: int
    train_size: int
    test_size: int
    torchvision_class: str = ""
    layout: str = ""
    download_megabytes: int = 0


BUILTIN: dict[str, Builtin] = {
    "digits": Builtin((8, 8, 1), 10, 1442, 355),
    "mnist": Builtin((28, 28, 1), 10, 60_000, 10_000, "MNIST", "MNIST/raw", 12),
    "fashion": Builtin((28, 28, 1), 10, 60_000, 10_000, "FashionMNIST", "FashionMNIST/raw", 31),
    "cifar10": Builtin((32, 32, 3), 10, 50_000, 10_000, "CIFAR10", "cifar-10-batches-py", 171),
    "cifar100": Builtin((32, 32, 3), 100, 50_000, 10_000, "CIFAR100", "cifar-100-python", 169),
}

# MD5 of the unpacked files. torchvision checks only the .gz, so it would read a copied file that is truncated or
# corrupted.
MNIST_CHECKSUMS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "mnist": {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        "fashion": {
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    }
)


@dataclass(frozen=True)
class Loaded:
    """A dataset in memory, before it is written to the cache.

    x: uint8 (n, height, width, channels). y: int64 (n,), 0 .. classes-1. `source` is its origin in words.
    """

    x_train: npt.NDArray[np.uint8]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.uint8]
    y_test: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    source: str


def load(name: str, folder: Path, scratch: Path, report: Callable[[str], None]) -> Loaded:
    """Return the built-in dataset `name`, from the files in `folder` if they exist, or downloaded into `scratch`.

    Raises DataError if a file in `folder` is not the published one (it is left unchanged), or if there is none and the
    download fails.
    """
    if name == "digits":
        return load_digits()
    checksums = _checksums(name)
    place = folder / BUILTIN[name].layout
    if all((place / file).is_file() for file in checksums):
        report(f"preparing {name} from {place}, once")
        _check_files(name, place, checksums)
        return _read(name, folder, f"files in {BUILTIN[name].layout}")
    report(f"downloading {name} ({BUILTIN[name].download_megabytes} MB), once")
    _download(name, folder, scratch)
    return _read(name, scratch, "downloaded")


def load_digits() -> Loaded:
    """Return scikit-learn's digits: 1797 images of 8 × 8.

    They are the test set of the UCI Optical Recognition of Handwritten Digits. Their grey levels 0 .. 16 become
    round(level × 255 / 16). They come without a train-test split, so this one is fixed: within each class, in the
    bundled order, every fifth image (index 4, 9, 14, …) is a test image, the others are training images. That makes
    1442 and 355.
    """
    from sklearn.datasets import load_digits as bundled_digits

    bundled = bundled_digits()
    images = np.rint(bundled.images * 255 / 16).astype(np.uint8)[..., np.newaxis]  # (n, 8, 8, 1)
    labels = bundled.target.astype(np.int64)
    test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[4::5]] = True
    return Loaded(
        x_train=images[~test],
        y_train=labels[~test],
        x_test=images[test],
        y_test=labels[test],
        classes=tuple(str(label) for label in range(10)),
        source=f"scikit-learn {importlib.metadata.version('scikit-learn')}, load_digits",
    )


def ways_to_get(name: str, folder: Path) -> str:
    """Return what to do if `name` is missing, with and without internet access."""
    if not BUILTIN[name].layout:
        return f"Run `clbench data fetch {name}`."
    return (
        f"Online: `clbench data fetch {name}`. Offline: copy torchvision's files into "
        f"{folder / BUILTIN[name].layout}, or import an .npz: `clbench data import {name} {name}.npz`."
    )


def _torchvision_class(name: str) -> Any:
    import torchvision.datasets

    return getattr(torchvision.datasets, BUILTIN[name].torchvision_class)


def _checksums(name: str) -> dict[str, str]:
    """Return file name -> MD5 of every file that `name` is read from."""
    if name in MNIST_CHECKSUMS:
        return dict(MNIST_CHECKSUMS[name])
    cifar = _torchvision_class(name)
    return dict([*cifar.train_list, *cifar.test_list, (cifar.meta["filename"], cifar.meta["md5"])])


def _check_files(name: str, place: Path, checksums: dict[str, str]) -> None:
    """Raise DataError if a file in `place` is not the published one."""
    from torchvision.datasets.utils import check_integrity

    for file, md5 in checksums.items():
        if not check_integrity(place / file, md5):
            raise DataError(
                f"{place / file} is not the published file of {name} (its MD5 is not {md5}). "
                "It was not read, and was kept for inspection.",
                f"Remove {place}, then run `clbench data fetch {name}`.",
            )


def _read(name: str, root: Path, how: str) -> Loaded:
    """Read torchvision's files below `root`, whose checksums have been checked."""
    source = f"torchvision {importlib.metadata.version('torchvision')} {BUILTIN[name].torchvision_class}, {how}"
    if name in MNIST_CHECKSUMS:
        # Not through the class: it prefers an old `processed` folder, for which no checksum is published.
        from torchvision.datasets.mnist import read_image_file, read_label_file

        raw = root / BUILTIN[name].layout
        return Loaded(
            x_train=read_image_file(str(raw / "train-images-idx3-ubyte")).numpy()[..., np.newaxis],
            y_train=read_label_file(str(raw / "train-labels-idx1-ubyte")).numpy(),
            x_test=read_image_file(str(raw / "t10k-images-idx3-ubyte")).numpy()[..., np.newaxis],
            y_test=read_label_file(str(raw / "t10k-labels-idx1-ubyte")).numpy(),
            classes=_mnist_classes(name),
            source=source,
        )
    train = _torchvision_class(name)(root, train=True)
    test = _torchvision_class(name)(root, train=False)
    return Loaded(
        x_train=train.data,
        y_train=np.asarray(train.targets, dtype=np.int64),
        x_test=test.data,
        y_test=np.asarray(test.targets, dtype=np.int64),
        classes=tuple(train.classes),
        source=source,
    )


def _mnist_classes(name: str) -> tuple[str, ...]:
    """Return torchvision's class names, but MNIST's "0 - zero" as "0"."""
    return tuple(label.split(" - ")[0] for label in _torchvision_class(name).classes)


def _download(name: str, folder: Path, scratch: Path) -> None:
    """Have torchvision download, check and unpack `name` below `scratch`. Raises DataError if this fails."""
    try:
        with _socket_timeout(), contextlib.redirect_stdout(sys.stderr):
            _torchvision_class(name)(scratch, download=True)
    except (
        RuntimeError,
        urllib.error.URLError,
        http.client.HTTPException,
        ConnectionError,
        TimeoutError,
        ssl.SSLError,
    ) as error:
        raise DataError(
            f"{name} is not in {folder / BUILTIN[name].layout} and could not be downloaded: "
            f"{' '.join(str(error).split())}",
            ways_to_get(name, folder),
        ) from error


@contextlib.contextmanager
def _socket_timeout() -> Iterator[None]:
    """Make a download fail if it stalls for a minute; torchvision alone would wait forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
