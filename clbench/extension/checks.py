"""What `train` and `extend` refuse, or warn of, before they look anything up."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from clbench.base.events import Listener, Note
from clbench.data.image_folders import ImageFolder, listed
from clbench.data.importing import LARGEST_SIZE
from clbench.deployment.exporting import format_named
from clbench.errors import UsageError
from clbench.extension.folder import OutputFolder
from clbench.extension.requests import Common
from clbench.extension.wording import some
from clbench.system.files import from_home
from clbench.system.seeds import LARGEST


def check_values(request: Common, folders: Iterable[Path | None]) -> None:
    """Raise UsageError for values that no command can have, and for an output folder in one of the images' `folders`.

    A folder of images is read again by the same command, which would then find its own output among the classes.
    """
    OutputFolder(request.out).check()
    for folder in folders:
        if folder is not None and _real(request.out).is_relative_to(_real(folder)):
            raise UsageError(
                f"--out {request.out} is in {folder}, a folder of images", "Choose a folder outside of it: --out DIR"
            )
    if not 0 <= request.seed <= LARGEST:
        raise UsageError(f"seed {request.seed} is not between 0 and {LARGEST}")
    if request.held_out is not None and not 0 < request.held_out < 1:
        raise UsageError(f"--held-out must be more than 0 and less than 1 (got {request.held_out})")
    if request.size is not None and not 1 <= request.size <= LARGEST_SIZE:
        raise UsageError(f"--size must be from 1 to {LARGEST_SIZE} pixels (got {request.size})")
    if request.export is not None:
        format_named(request.export, "--export")


def check_held_out(request: Common, images: ImageFolder) -> None:
    """Raise UsageError if a share is to be held out of a folder that is divided already."""
    if request.held_out is not None and images.has_test_part:
        raise UsageError(
            f"--held-out has no effect here: {request.images} has a part for testing", "Leave out --held-out."
        )


def say_what_is_skipped(images: ImageFolder, notify: Listener) -> None:
    """Say what in a folder is no image that can be read."""
    if images.skipped:
        notify(Note(f"{images.root}: skipped {listed(images.skipped)}"))


def say_which_are_classes(images: ImageFolder, notify: Listener) -> None:
    """Say that the outer folders are the classes where the inner ones might be meant, as in PATH/DOMAIN/CLASS/*, or
    where PATH is the folder above the one that was meant."""
    if images.in_each:
        notify(
            Note(
                f"the classes are {some(images.classes)}, although all have the same folders in them: "
                f"{some(images.in_each)}. If those are the classes, say so in {images.root}/labels.csv, a line of "
                "path,label for each image"
            )
        )
    elif images.only_below:
        notify(
            Note(
                f"the classes are {some(images.classes)}, although all images lie in folders in these. If those are "
                f"the classes, give the folder that they are in: {images.root}/{images.classes[0]}, for example"
            )
        )


def same_but_for_writing(name: str, known: Iterable[str]) -> str | None:
    """Return the known name from which a name differs by capitals, spaces or the encoding of accents alone."""
    return next((other for other in known if other != name and _plain(other) == _plain(name)), None)


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _real(path: Path) -> Path:
    return Path(from_home(path)).resolve()
