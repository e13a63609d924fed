"""Writes images that are not separate files, in parquet files and torchvision's datasets, into files."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image

from clbench.data.image_folders import ImageFolder, checked_names, find_groups
from clbench.errors import DataError, MachineError, UsageError
from clbench.system.suggestions import did_you_mean

TORCHVISION = "torchvision:"

_TEST = ("test", "val", "valid", "validation")
_LABELS = ("label", "labels", "fine_label", "class", "target")


class _Unpacked:
    """Images as they are written, by part and class."""

    def __init__(self, root: Path, place: Path) -> None:
        self.root, self.place = root, place
        self.files: dict[str, dict[str, list[Path]]] = {"train": {}, "test": {}}
        self._count = 0

    def new_file(self, part: str, label: str, suffix: str = "") -> Path:
        """Return where the next image is to be written."""
        self._count += 1
        file = self.place / f"{self._count:08}{suffix}"
        self.files[part].setdefault(label, []).append(file)
        return file

    def folder(self, names: Sequence[str] | None = None) -> ImageFolder:
        """Return what was written; `names` are those of the labels `0`, `1`, …, in their order."""
        train, test = self.files["train"], self.files["test"]
        labels = [str(at) for at in range(len(names))] if names else list(checked_names(self.root, train))
        labels = [label for label in labels if label in train or label in test]
        if missing := sorted({*train, *test} - set(labels)) or [label for label in labels if label not in train]:
            raise DataError(
                f"{self.root} has test images of classes without training images: {', '.join(missing[:5])}."
            )
        return ImageFolder(
            self.root,
            tuple(names[int(label)] for label in labels) if names else tuple(labels),
            tuple(tuple(train[label]) for label in labels),
            tuple(tuple(test.get(label, ())) for label in labels),
            bool(test),
        )


# -- parquet ----------------------------------------------------------------------------------------------------------


def parquet_files(path: Path) -> list[Path]:
    """Return the parquet files at a path or below it."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*.parquet") if file.is_file())
    return [path] if path.suffix.lower() == ".parquet" else []


def unpack_parquet(path: Path, files: Sequence[Path], place: Path) -> ImageFolder:
    """Write the images of parquet files, as Hugging Face writes image datasets, into `place`.

    Files whose names begin with `test` or `val` are for testing. If some begin with `train`, only these are for
    training, and others, such as `extra`, are skipped. Raises DataError for files of another kind, and MachineError
    without pyarrow.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MachineError(f"reading parquet files needs pyarrow ({error})", "pip install pyarrow") from None
    unpacked, names = _Unpacked(path, place), None
    words = [re.split(r"[^a-z]+", file.stem.lower())[0] for file in files]
    test = next((word for word in _TEST if word in words), None)
    train = {"train"} if "train" in words else {*words} - {*_TEST}
    skipped: Counter[str] = Counter()
    for file, word in zip(files, words, strict=True):
        if word != test and word not in train:
            skipped[f"{word}*.parquet"] += 1
            continue
        try:
            with pyarrow.parquet.ParquetFile(file) as content:
                image, label, names = _columns(file, content.schema_arrow)
                for batch in content.iter_batches(batch_size=64, columns=[image, label]):
                    for row in batch.to_pylist():
                        own = unpacked.new_file("test" if word == test else "train", str(row[label]))
                        own.write_bytes((row[image] or {}).get("bytes") or b"")
        except pyarrow.ArrowException as error:
            raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}.") from error
    return replace(unpacked.folder(names), skipped=skipped)


def _columns(file: Path, schema: Any) -> tuple[str, str, list[str] | None]:
    """Return the columns of images and labels, and the classes' names if the file has them."""
    images = [each.name for each in schema if each.type.num_fields and each.type.get_field_index("bytes") >= 0]
    labels = [name for name in _LABELS if name in schema.names]
    if not images or not labels:
        raise DataError(
            f"{file} has the columns {', '.join(schema.names)}; expected an image with its bytes, and a label.",
            f"Columns of labels are called {', '.join(_LABELS)}.",
        )
    described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        names = described["info"]["features"][labels[0]]["names"]
        return images[0], labels[0], [str(name) for name in names]
    return images[0], labels[0], None


# -- torchvision ------------------------------------------------------------------------------------------------------


def unpack_torchvision(name: str, folder: Path, place: Path) -> ImageFolder:
    """Write the images of one of torchvision's datasets into `place`, from its files in `folder` or downloaded there.

    Raises UsageError if torchvision has no such dataset, DataError if it is not available or has no classified images.
    """
    import torchvision.datasets

    cls = getattr(torchvision.datasets, name, None)
    if not inspect.isclass(cls) or not hasattr(cls, "__getitem__"):
        known = [each for each in torchvision.datasets.__all__ if each[0].isupper()]
        raise UsageError(f"torchvision has no dataset '{name}'{did_you_mean(name, known)}")
    unpacked = _Unpacked(Path(f"{TORCHVISION}{name}"), place)
    names: list[str] | None = None
    try:
        if name == "Omniglot":
            return _omniglot(next(_parts(cls, folder))[1])
        for part, dataset in _parts(cls, folder):
            names = list(map(str, dataset.classes)) if hasattr(dataset, "classes") else None
            for index in range(len(dataset)):
                image, label = dataset[index]
                if not isinstance(image, PIL.Image.Image) or not isinstance(label, int):
                    raise TypeError("it does not return an image and the number of its class")
                image.save(unpacked.new_file(part, str(label), ".png"), compress_level=1)
    except (RuntimeError, OSError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise DataError(
            f"{TORCHVISION}{name} cannot be obtained: {text}", f"torchvision looks for its files in {folder}."
        ) from error
    return unpacked.folder(names)


def _omniglot(dataset: Any) -> ImageFolder:
    """Return Omniglot's characters by alphabet.

    torchvision numbers them in the order in which the file system lists their folders, which is no order to rely on.
    """
    return find_groups(Path(dataset.target_folder))


def _parts(cls: Any, folder: Path) -> Iterator[tuple[str, Any]]:
    wanted = inspect.signature(cls).parameters

    def made(**given: Any) -> Any:
        try:
            return cls(folder, **given)
        except RuntimeError:  # its files are not there
            if "download" not in wanted:
                raise
            with contextlib.redirect_stdout(sys.stderr):
                return cls(folder, download=True, **given)

    if "train" in wanted:
        yield "train", made(train=True)
        yield "test", made(train=False)
    elif "split" in wanted:
        yield "train", made(split="train")
        try:
            test = made(split="test")
        except ValueError:  # it has no such part
            test = made(split="val")
        yield "test", test
    else:
        yield "train", made()
