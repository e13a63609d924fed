"""Import a user's own dataset into the cache: a folder of images, or arrays in a file.

The files are not trusted: nothing in them is executed or unpickled, what headers declare is checked against what is
there, and images are read a few at a time. What is refused is left unchanged.
"""

from __future__ import annotations

from pathlib import Path

from clbench.base.events import Event, Listener
from clbench.data.cache import Report, building, check_name, describe, publish, silent
from clbench.data.dataset_info import DatasetInfo
from clbench.data.folder_import import pack_folder
from clbench.data.image_files import Fit
from clbench.data.image_folders import find_images
from clbench.data.import_checks import EXPECTED, refused
from clbench.data.npz_import import copy_npz
from clbench.errors import DataError, UsageError

LARGEST_SIZE = 2048


def unheard(event: Event) -> None:
    """A Listener that shows nothing."""


def import_dataset(
    name: str,
    path: Path,
    folder: Path,
    report: Report = silent,
    size: int | None = None,
    fit: Fit | None = None,
    notify: Listener = unheard,
) -> DatasetInfo:
    """Check the dataset at `path`, copy it into the cache in `folder` as `name`, and describe it.

    A folder holds images as `find_images` finds them; they become `size` pixels high and wide, as `fit` says (by
    default the middle is cut out), and without a `size` must have one already. See `copy_npz` for what an .npz holds.

    Under a built-in's name it must have that dataset's shape, sizes and number of classes. Raises UsageError for an
    invalid name or size, DataError if the file is refused or the name is taken by different content, MachineError if
    the cache cannot be written.
    """
    check_name(name)
    if size is not None and not 1 <= size <= LARGEST_SIZE:
        raise UsageError(f"--size must be from 1 to {LARGEST_SIZE} pixels (got {size})")
    if not path.exists():
        raise DataError(f"{path} does not exist.", EXPECTED)
    if not path.is_dir() and (size or fit):
        raise UsageError("--size and --fit are for folders of images", "The images of an .npz have a size already.")
    describe(name, folder)  # raises if the cache of that name is damaged
    with building(name, folder, report) as place:
        report(f"importing {path} as {name}")
        source = f"imported from {path.name}"
        try:
            if not path.is_dir():
                return publish(place, name, folder, copy_npz(path, place, report), source, report)
            # Images of one size are not fitted. Those that a network trained on them is asked about may be of others.
            how = fit or ("crop" if size else "stretch")
            packed = pack_folder(find_images(path), place, size, how, report, notify, name)
            return publish(place, name, folder, packed.classes, source, report, fit=how, measurement=packed.measurement)
        except ValueError as error:
            raise refused(path, error) from error
