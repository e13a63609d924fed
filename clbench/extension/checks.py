"""Checks the options and image folders of `train` and `extend`: raises errors and sends warnings."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from clbench.base.events import Listener, Note
from clbench.data.image_folders import ImageFolder, listed
from clbench.data.importing import LARGEST_SIZE
from clbench.deployment.exporting import require
from clbench.errors import UsageError
from clbench.extension.folder import OutputFolder
from clbench.extension.requests import Common
from clbench.extension.wording import some
from clbench.system.files import from_home
from clbench.system.seeds import LARGEST


def check_values(request: Common, folders: Iterable[Path | None]) -> None:
    """Raise UsageError for invalid values, and for an output folder inside one of the image `folders`.

    The same command reads the images again, and would then find its own output among the classes.
    """
    OutputFolder(request.out).check()
    for folder in folders:
        if folder is not None and _real(request.out).is_relative_to(_real(folder)):
            raise UsageError(
                f"--out {request.out} is in {folder}, a folder of images", "Choose a folder outside it: --out DIR"
            )
    if stream := next((name for name in request.set if name.startswith("stream.")), None):
        raise UsageError(f"{stream} has no effect here: all classes come at once")
    if not 0 <= request.seed <= LARGEST:
        raise UsageError(f"seed {request.seed} is not between 0 and {LARGEST}")
    if request.held_out is not None and not 0 < request.held_out < 1:
        raise UsageError(f"--held-out must be more than 0 and less than 1 (got {request.held_out})")
    if request.size is not None and not 1 <= request.size <= LARGEST_SIZE:
        raise UsageError(f"--size must be from 1 to {LARGEST_SIZE} pixels (got {request.size})")
    if request.export is not None:
        require(request.export, "--export")


def check_held_out(request: Common, images: ImageFolder) -> None:
    """Raise UsageError if a share is to be held out from a folder that already has a test part."""
    if request.held_out is not None and images.has_test_part:
        raise UsageError(f"--held-out has no effect here: {request.images} has a test part", "Leave out --held-out.")


def say_what_is_skipped(images: ImageFolder, notify: Listener) -> None:
    """Report the files in a folder that are not readable images."""
    if images.skipped:
        notify(Note(f"{images.root}: skipped {listed(images.skipped)}"))


def say_which_are_classes(images: ImageFolder, notify: Listener) -> None:
    """Warn if the outer folders are used as classes although the inner ones may be meant, as in PATH/DOMAIN/CLASS/*, or
    if PATH may be the parent of the intended folder."""
    if images.in_each:
        notify(
            Note(
                f"the classes are {some(images.classes)}, although all contain the same folders: "
                f"{some(images.in_each)}. If those are the classes, list them in {images.root}/labels.csv, with a line "
                "path,label for each image"
            )
        )
    elif images.only_below:
        notify(
            Note(
                f"the classes are {some(images.classes)}, although all images are in subfolders of these. If those are "
                f"the classes, give the folder that contains them: {images.root}/{images.classes[0]}, for example"
            )
        )


def check_names(names: Iterable[str], known: Iterable[str] = ()) -> None:
    """Raise UsageError for a name that differs from a `known` one, or from another, only in how it is written."""
    first: dict[str, str] = {}
    for name in known:
        first.setdefault(_plain(name), name)
    for name in names:
        if (same := first.setdefault(_plain(name), name)) != name:
            raise UsageError(
                f"the class {name!r} differs from {same!r} only in capitals, spaces or the encoding of accents",
                "Rename the folder if it is another class. If it is the same, give it the same name.",
            )


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _real(path: Path) -> Path:
    return Path(from_home(path)).resolve()
