"""Reads lists of images and labels, text files next to the images: `path,label` or `path label`, a line for each."""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from clbench.data.image_files import SUFFIXES
from clbench.errors import DataError
from clbench.system.files import found_at

SUFFIXES_OF_LISTS = (".csv", ".tsv", ".txt")

_PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "img", "image_path", "name")
_LABELS = ("label", "class", "target", "category", "class_name", "label_name")
"""Headings of the two columns, in any case; without a heading they are the first two."""

_PROBED = 100
"""First lines of which one must name an existing file: some images may be missing."""

Listed = list[tuple[Path, str]]


def find_lists(root: Path) -> list[Path]:
    """Return the files in a folder that list images in it, by name."""
    candidates = sorted(file for file in root.iterdir() if file.suffix.lower() in SUFFIXES_OF_LISTS and file.is_file())
    return [file for file in candidates if _lists_images(file)]


def read_list(file: Path, images: Mapping[str, Path]) -> Listed:
    """Return the images of a list with their labels; `images` are those in its folder by their path relative to it.

    Images that do not exist are returned too, and those that an earlier line names. Raises DataError for an invalid
    line, and for an image with two labels.
    """
    found: Listed = []
    labels: dict[Path, str] = {}
    for number, (path, label) in _rows(file):
        inside = os.path.normpath(os.path.relpath(path, file.parent) if os.path.isabs(path) else path)  # noqa: PTH117
        if inside.startswith(".."):
            raise DataError(f"{file}, line {number}: {path!r} leads out of the folder.", "List images that are in it.")
        if not label:
            raise DataError(f"{file}, line {number}: {path!r} has no label.", "Expected: path,label")
        image = images.get(inside, file.parent / inside)
        if labels.setdefault(image, label) != label:
            raise DataError(
                f"{file}, line {number}: {path!r} has the label {label!r}, and in an earlier line {labels[image]!r}.",
                "An image belongs to one class. Remove one of the lines.",
            )
        found.append((image, label))
    return found


def part_of(file: Path, parts: Sequence[str]) -> str | None:
    """Return the one of these parts that a list is for, by the first word of its name: `train_labels.csv`."""
    word = re.split(r"[^a-z]+", file.stem.lower())[0]
    return word if word in parts else None


def _lists_images(file: Path) -> bool:
    try:
        first = itertools.islice(_rows(file), _PROBED)
        return any(label and found_at(file.parent / path) == "file" for _, (path, label) in first)
    except DataError:  # another kind of text
        return False


def _rows(file: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yield the number, from 1, and the path and label of each line that is not empty.

    Of several columns of paths the first that names a file is taken: `name` and `image` may be something else.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = _cells(file, lines)
            first = list(itertools.islice(rows, 1 + _PROBED))
            paths, label = [0], 1
            if first and first[0][0] == 1 and Path(first[0][1][0]).suffix.lower() not in SUFFIXES:
                heading = [cell.lower() for cell in first.pop(0)[1]]
                paths = [at for at, name in enumerate(heading) if name in _PATHS] or [0]
                label = next((at for at, name in enumerate(heading) if name in _LABELS), 1)
            path = next((at for at in paths if _names_a_file(file.parent, first, at)), paths[0])
            for number, cells in itertools.chain(first, rows):
                yield number, (cells[path] if path < len(cells) else "", cells[label] if label < len(cells) else "")
    except (OSError, ValueError, csv.Error) as error:  # ValueError: it is not text
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}.") from error


def _names_a_file(folder: Path, rows: Sequence[tuple[int, list[str]]], column: int) -> bool:
    return any(column < len(cells) and found_at(folder / cells[column]) == "file" for _, cells in rows)


def _cells(file: Path, lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    first = next(lines, "")
    delimiter = next((each for each in "\t,;" if each in first), None)
    everything = itertools.chain([first], lines)
    if delimiter:
        rows: Iterator[list[str]] = csv.reader(everything, delimiter=delimiter)
    else:
        rows = (line.rsplit(maxsplit=1) for line in everything)
    for number, row in enumerate(rows, 1):
        if cells := [cell.strip() for cell in row]:
            yield number, cells
