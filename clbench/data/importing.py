"""Imports a user's own dataset into the cache: a folder of images, or arrays in a file.

The files are not trusted: nothing in them is executed or unpickled, what headers declare is checked against what is
there, and images are read a few at a time. Whatever is refused is left unchanged.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from clbench.base.events import Event, Listener
from clbench.data.cache import Report, building, check_name, describe, publish, silent
from clbench.data.dataset_info import DatasetInfo
from clbench.data.folder_import import Packed, pack_folder
from clbench.data.idx_import import idx_files, write_npz
from clbench.data.image_fit import Fit
from clbench.data.image_folders import ImageFolder, find_images
from clbench.data.image_lists import SUFFIXES_OF_LISTS
from clbench.data.import_checks import EXPECTED, few, refused
from clbench.data.npz_import import copy_npz
from clbench.data.unpacking import TORCHVISION, parquet_files, unpack_parquet, unpack_torchvision
from clbench.errors import DataError, UsageError
from clbench.system.files import found_at
from clbench.system.output import legible
from clbench.system.suggestions import did_you_mean_path

LARGEST_SIZE = 2048


def unheard(event: Event) -> None:
    """A Listener that shows nothing."""


def import_dataset(
    name: str,
    path: Path,
    folder: Path,
    report: Report = silent,
    size: int | Callable[[ImageFolder], int | None] | None = None,
    fit: Fit | None = None,
    notify: Listener = unheard,
    domains: bool | None = None,
) -> DatasetInfo:
    """Check the dataset at `path`, copy it into the cache in `folder` as `name`, and describe it.

    A folder holds images as `find_images` finds them, with `domains` as there, or parquet files; `torchvision:NAME` is
    one of torchvision's datasets. Their images become `size` pixels high and wide, as `fit` says (by default the middle
    is cut out), and without a `size` must already be of one size; a function chooses one for the images that are found.
    See `copy_npz` for what an .npz holds; a folder may also hold idx files.

    Under a built-in's name it must have that dataset's shape, sizes and number of classes. Raises UsageError for an
    invalid name or size, DataError if the file is refused or the name is taken by different content, MachineError if
    the cache cannot be written.
    """
    check_name(name)
    if isinstance(size, int) and not 1 <= size <= LARGEST_SIZE:
        raise UsageError(f"--size must be from 1 to {LARGEST_SIZE} pixels (got {size})")
    if found_at(path) is None and not str(path).startswith(TORCHVISION):
        raise DataError(f"{path} does not exist{did_you_mean_path(path) or '.'}", EXPECTED)
    describe(name, folder)  # raises if the cache of that name is damaged
    with building(name, folder, report) as place:
        report(f"importing {path} as {name}")
        try:
            with tempfile.TemporaryDirectory(dir=place) as scratch:
                found = _images(path, folder, Path(scratch), domains)
                if domains and (found is None or not found.domains):
                    raise UsageError("--domains is for folders of images, DOMAIN/CLASS/*")
                if callable(size):
                    size = None if found is None else size(found)
                # Images of one size are not fitted. Those that a network trained on them is run on later may have other
                # sizes.
                how = fit or ("crop" if size else "stretch")
                if found is not None:
                    if found.domains and domains is None:
                        report(_told(found.domains, len(found.classes)))
                    packed = pack_folder(found, place, size, how, report, notify, name)
                elif size or fit:
                    raise UsageError("--size and --fit are for folders of images", "Images in arrays have one size.")
                else:
                    packed = Packed(copy_npz(_arrays(path, Path(scratch)), place, report), None)
            return publish(
                place,
                name,
                folder,
                packed.classes,
                f"imported from {path.name}",
                report,
                fit=how,
                measurement=packed.measurement,
                split=_split(found),
                domains=found.domains if found else None,
            )
        except ValueError as error:
            raise refused(path, error) from error


def _split(found: ImageFolder | None) -> str:
    """Return how a folder divides its classes: by domain, or by the folder that theirs are in."""
    return "+".join(map(str, found.groups.values())) if found else ""


def _told(domains: Sequence[str], classes: int) -> str:
    each = classes // len(domains)
    return (
        f"every folder contains the same {each} folders, so these are the classes, in {len(domains)} domains: "
        f"{legible(few(domains))} (--no-domains if the outer folders are the classes)"
    )


def _images(path: Path, folder: Path, scratch: Path, domains: bool | None) -> ImageFolder | None:
    """Return the images at a path, unpacked into `scratch` if they are not separate files; None for arrays."""
    if str(path).startswith(TORCHVISION):
        return unpack_torchvision(str(path).removeprefix(TORCHVISION), folder, scratch)
    if files := parquet_files(path):
        return unpack_parquet(path, files, scratch)
    if path.suffix.lower() in SUFFIXES_OF_LISTS or (path.is_dir() and not idx_files(path)):
        return find_images(path, domains)
    return None


def _arrays(path: Path, scratch: Path) -> Path:
    """Return the .npz at a path, or one of the idx files in it."""
    if not path.is_dir():
        return path
    write_npz(idx_files(path), scratch / "idx.npz")
    return scratch / "idx.npz"
