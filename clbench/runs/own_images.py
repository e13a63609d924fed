"""Turns a folder of images or an .npz into a scenario: imports it once and writes a scenario file for it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from clbench.base.events import Listener, Note
from clbench.data.datasets import describe
from clbench.data.folder_import import sizes_of, usual_size
from clbench.data.idx_import import idx_files
from clbench.data.image_folders import ImageFolder, find_images
from clbench.data.importing import import_dataset
from clbench.data.unpacking import parquet_files
from clbench.plugins.discovery import discover
from clbench.plugins.scaffold import scenario_text
from clbench.streams.splits import split_by_two
from clbench.system.files import found_at, replace_file
from clbench.system.machine import available_cores

LARGEST = 128
"""Pixels. Larger images are shrunk, so that they train without a GPU; `clbench data import` can keep them larger."""


def are_images(name: str) -> bool:
    """Return whether a scenario's name is that of a folder of images or of an .npz."""
    path = Path(name)
    if name.endswith(".npz"):
        return found_at(path) == "file"
    if not name or found_at(path) != "folder":  # the path of an empty name is the working folder
        return False
    known = chain.from_iterable((each.name, *each.attributes.get("aliases", ())) for each in discover("scenario"))
    return "/" in name or name not in known


def scenario_of(name: str, data: Path, notify: Listener, build: bool = True) -> str | None:
    """Return the path of the scenario of a folder of images or an .npz, which is imported if necessary.

    Its name is that of the folder with a hash of the content, so that the same images are found again. Without `build`
    nothing is imported, and None is returned if it would have to be. Raises DataError for what cannot be imported.
    """
    path = Path(name)
    own = _name(path)
    info = describe(own, data)
    if info is None:
        if not build:
            notify(Note(f"{name} is imported when it is first run; until then its runs cannot be listed"))
            return None
        info = import_dataset(
            own, path, data, lambda text: notify(Note(text)), lambda found: _size(found, notify), notify=notify
        )
    file = data / "scenarios" / f"{own}.py"
    split = str(len(info.domains)) if info.domains else split_by_two(len(info.classes))
    text = scenario_text(own, own, split, info.shape, bool(info.domains)).encode()
    if not file.is_file() or file.read_bytes() != text:
        file.parent.mkdir(exist_ok=True)
        replace_file(file, text)
    return str(file)


def _size(found: ImageFolder, notify: Listener) -> int | None:
    """Return the size to which a folder's images are resized; None if all have one that is not too large."""
    sizes = [size for size, _ in sizes_of(found)]
    if not sizes or (len(set(sizes)) == 1 and max(sizes[0]) <= LARGEST):
        return None
    size = min(LARGEST, usual_size(sizes))
    notify(
        Note(
            f"the middle of each image is used, at {size}×{size} pixels; for another size: "
            f"clbench data import NAME {found.root} --size PIXELS, then clbench new scenario"
        )
    )
    return size


def _name(path: Path) -> str:
    """Return a dataset's name that changes with the content: `photos-1a2b3c4d`."""
    stem = re.sub(r"[^a-z0-9]+", "-", path.resolve().with_suffix("").name.lower()).strip("-")[:50] or "images"
    digest = hashlib.sha256()
    for part in _content(path):
        digest.update(part)
    return f"{stem}-{digest.hexdigest()[:8]}"


def _content(path: Path) -> Iterator[bytes]:
    """Yield what identifies a file, or the files of a folder that are imported: the path of each, and a hash of its
    bytes."""
    if path.is_file():
        yield _hashed(path)
        return
    files = parquet_files(path) or sorted(idx_files(path).values())  # in the order in which the import looks for them
    if not files:
        found = find_images(path, domains=None)
        by_class = (*found.train, *found.test)
        yield repr((found.classes, [len(own) for own in by_class])).encode("utf-8", "surrogateescape")
        files = [file for own in by_class for file in own]
    with ThreadPoolExecutor(available_cores()) as threads:
        for file, hashed in zip(files, threads.map(_hashed, files), strict=True):
            yield str(file.relative_to(path)).encode("utf-8", "surrogateescape") + b"\0" + hashed


def _hashed(file: Path) -> bytes:
    """Return a hash of a file's bytes; nothing if it cannot be read, which the import will report."""
    digest = hashlib.sha256()
    try:
        with file.open("rb") as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
    except OSError:
        return b""
    return digest.digest()
