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

SUFFIXES_OF_LISTS = (".csv", ".tsv", ".txt")

_PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "img", "image_path", "name")
_LABELS = ("label", "class", "target", "category", "class_name", "label_name")
"""Headings of the two columns, in any case; without a heading they are the first two."""

Listed = list[tuple[Path, str]]


def find_lists(root: Path) -> list[Path]:
    """Return the files in a folder that list images in it, by name."""
    candidates = sorted(file for file in root.iterdir() if file.suffix.lower() in SUFFIXES_OF_LISTS and file.is_file())
    return [file for file in candidates if _lists_images(file)]


def read_list(file: Path, images: Mapping[str, Path]) -> Listed:
    """Return the images of a list with their labels; `images` are those in its folder by their path relative to it.

    Images that do not exist are returned too. Raises DataError for an invalid line.
    """
    found: Listed = []
    for number, (path, label) in _rows(file):
        inside = os.path.normpath(os.path.relpath(path, file.parent) if os.path.isabs(path) else path)  # noqa: PTH117
        if inside.startswith(".."):
            raise DataError(f"{file}, line {number}: {path!r} leads out of the folder.", "List images that are in it.")
        if not label:
            raise DataError(f"{file}, line {number}: {path!r} has no label.", "Expected: path,label")
        found.append((images.get(inside, file.parent / inside), label))
    return found


def part_of(file: Path, parts: Sequence[str]) -> str | None:
    """Return the one of these parts that a list is for, by the first word of its name: `train_labels.csv`."""
    word = re.split(r"[^a-z]+", file.stem.lower())[0]
    return word if word in parts else None


def _lists_images(file: Path) -> bool:
    try:
        first = next(iter(_rows(file)), None)
        return first is not None and bool(first[1][1]) and (file.parent / first[1][0]).is_file()
    except (DataError, OSError, ValueError):  # another kind of text, or an impossible path
        return False


def _rows(file: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yield the number, from 1, and the path and label of each line that is not empty."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            path, label = 0, 1
            for number, cells in _cells(file, lines):
                if number == 1 and Path(cells[0]).suffix.lower() not in SUFFIXES:
                    heading = [cell.lower() for cell in cells]
                    path = next((at for at, name in enumerate(heading) if name in _PATHS), 0)
                    label = next((at for at, name in enumerate(heading) if name in _LABELS), 1)
                    continue
                yield number, (cells[path] if path < len(cells) else "", cells[label] if label < len(cells) else "")
    except (OSError, ValueError, csv.Error) as error:  # ValueError: it is not text
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}.") from error


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
