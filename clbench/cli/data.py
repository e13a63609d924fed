"""`clbench data`: fetch, import, list and verify datasets and the features of frozen networks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clbench.cli.command import Command
from clbench.cli.completion import datasets, one_of
from clbench.cli.options import AsJson, DataFolder, terminal
from clbench.system.output import legible, say, say_json, say_prose

if TYPE_CHECKING:
    from clbench.data.dataset_info import DatasetInfo
    from clbench.data.feature_entries import ListedEntry

_SHOWN_CLASSES = 20

data_app = typer.Typer(
    help="Fetch, import, list, verify and clean datasets and features.", no_args_is_help=True, rich_markup_mode=None
)


@data_app.command("list", cls=Command, epilog="Example: clbench data list")
def data_list(data: DataFolder = None, as_json: AsJson = False) -> None:
    """List datasets, whether they are ready, and stored features."""
    import dataclasses

    from clbench.data.datasets import data_folder, list_datasets
    from clbench.data.feature_entries import list_features
    from clbench.system.tables import print_table, readable_bytes

    folder = data_folder(data)
    listed, features = list_datasets(folder), list_features(folder)
    if as_json:
        datasets = [dataclasses.asdict(entry) for entry in listed]
        entries = [{**dataclasses.asdict(each), "path": str(each.path)} for each in features]
        say_json({"datasets": datasets, "features": entries})
        return
    rows = []
    for entry in listed:
        info = entry.info
        if info is None:
            rows.append([entry.name, entry.problem or "not fetched", "", "", "", ""])
            continue
        sizes = [f"{info.train_size:,} + {info.test_size:,}", str(len(info.classes)), "×".join(map(str, info.shape))]
        rows.append([entry.name, "ready", *sizes, readable_bytes(info.bytes)])
    headings = ["dataset", "state", "train + test", "classes", "shape", "size"]
    print_table(terminal(), f"datasets in {folder}", headings, rows, numbers=(2, 3, 4, 5))
    if features:
        say()
        headings = ["network", "input", "dataset", "train + test", "features", "size", "last used (UTC)"]
        rows = [_features_row(each) for each in features]
        print_table(terminal(), "features of frozen networks", headings, rows, numbers=(3, 4, 5))


def _features_row(listed: ListedEntry) -> list[str]:
    from clbench.system.tables import readable_bytes

    last_used = listed.last_used[:16].replace("T", " ")
    if listed.entry is None:
        return [f"damaged ({listed.path.name[:8]})", "", "", "", "", readable_bytes(listed.bytes), last_used]
    names = [str(listed.entry.key.get(field, "?")) for field in ("network", "size", "dataset")]
    shapes = [array.shape for array in listed.entry.arrays.values()]
    images = " + ".join(f"{count:,}" for count, _ in shapes)
    return [*names, images, f"{shapes[0][1]:,}", readable_bytes(listed.bytes), last_used]


@data_app.command("fetch", cls=Command, epilog="Example: clbench data fetch mnist")
def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A built-in dataset.", autocompletion=datasets)],
    data: DataFolder = None,
) -> None:
    """Download a built-in dataset.

    Files that are already in the data folder, in torchvision's layout, are used instead.
    """
    from clbench.data.datasets import data_folder, fetch

    info = fetch(name, data_folder(data), lambda text: say(text, sys.stderr))
    print_dataset(info)


ImportedPath = Annotated[
    Path,
    typer.Argument(metavar="PATH", help="A folder of images (CLASS/*, or train/CLASS/* and test/CLASS/*), or an .npz."),
]
Domains = Annotated[
    bool | None,
    typer.Option(
        "--domains/--no-domains",
        help="Whether the folder has domains, DOMAIN/CLASS/* [default: if all have the same classes].",
        show_default=False,
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS",
        help="Height and width of all images [default: unchanged, if all are alike].",
        show_default=False,
    ),
]
ImageFit = Annotated[
    str | None,
    typer.Option(
        metavar="crop|pad|stretch",
        help="With --size: crop the middle, pad with black, or stretch [default: crop].",
        show_default=False,
        autocompletion=one_of("crop", "pad", "stretch"),
    ),
]


@data_app.command("import", cls=Command, epilog="Example: clbench data import flowers photos/ --size 64")
def data_import(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A new name, or that of a built-in dataset.")],
    path: ImportedPath,
    size: ImageSize = None,
    fit: ImageFit = None,
    domains: Domains = None,
    data: DataFolder = None,
) -> None:
    """Import a dataset of your own, a folder of images or a file.

    The folder has a subfolder per class. Images may be JPEG, PNG, WebP, BMP, TIFF, PPM or GIF. An .npz has x_train,
    y_train, x_test and y_test, or x and y. Without a test part, a fifth of each class is held out.
    """
    from clbench.data.datasets import data_folder

    print_dataset(imported(name, path, data_folder(data), size, fit, domains))


def imported(
    name: str, path: Path, folder: Path, size: int | None, fit: str | None, domains: bool | None = None
) -> DatasetInfo:
    """Import a dataset, with progress on standard error. Raises UsageError for an unknown fit, and what importing
    raises."""
    from clbench.base.events import Note
    from clbench.data.image_fit import FITS
    from clbench.data.importing import import_dataset
    from clbench.errors import UsageError
    from clbench.system.suggestions import did_you_mean
    from clbench.trackers.progress import ProgressDisplay

    how = next((each for each in FITS if each == fit), None)
    if fit is not None and how is None:
        raise UsageError(f"--fit must be crop, pad or stretch (got {fit}){did_you_mean(fit, FITS)}")
    with ProgressDisplay(terminal(stderr=True)) as display:
        return import_dataset(name, path, folder, lambda text: display(Note(text)), size, how, display, domains)


def print_dataset(info: DatasetInfo) -> None:
    """Print what a dataset contains, and the id of each class."""
    shape = "×".join(map(str, info.shape))
    say(
        f"{info.name}: {info.train_size:,} training and {info.test_size:,} test images of {shape} in "
        f"{len(info.classes)} classes ({info.source})"
    )
    if not are_ids(info.classes):
        say_prose(f"classes by id: {numbered_classes(info)}")


def are_ids(classes: Sequence[str]) -> bool:
    """Return whether classes have no names other than their ids."""
    return list(classes) == list(map(str, range(len(classes))))


def numbered_classes(info: DatasetInfo) -> str:
    """Return the classes with their ids, `0 cat, 1 dog`; only the first ones if there are many."""
    shown = ", ".join(f"{class_id} {legible(name)}" for class_id, name in enumerate(info.classes[:_SHOWN_CLASSES]))
    more = len(info.classes) - _SHOWN_CLASSES
    return f"{shown}, … and {more} more (clbench data list --json has all)" if more > 0 else shown


@data_app.command("verify", cls=Command, epilog="Example: clbench data verify mnist")
def data_verify(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One dataset [default: all].", autocompletion=datasets)
    ] = None,
    data: DataFolder = None,
) -> None:
    """Compare datasets with their recorded hashes.

    Without a NAME it checks all datasets and all stored features.
    """
    from clbench.data.datasets import data_folder, verify
    from clbench.data.feature_entries import verify_features
    from clbench.errors import DataError

    folder = data_folder(data)
    checked = verify(folder, name)
    features = verify_features(folder) if name is None else []
    for each, problem in [*checked, *features]:
        say(f"{each}: {problem or 'intact'}")
    if any(problem for _, problem in checked):
        raise DataError("some datasets are damaged", "Remove their folders and fetch or import them again.")
    if any(problem for _, problem in features):
        raise DataError("some features are damaged", "Remove their folders; they are extracted again when needed.")


@data_app.command("clean", cls=Command, epilog="Example: clbench data clean --features")
def data_clean(
    features: Annotated[bool, typer.Option("--features", help="Remove the features of frozen networks.")] = False,
    data: DataFolder = None,
) -> None:
    """Remove what clbench can compute again. Datasets are kept."""
    from clbench.data.datasets import data_folder
    from clbench.data.feature_entries import clean_features
    from clbench.errors import UsageError
    from clbench.system.tables import readable_bytes

    if not features:
        raise UsageError("say what to remove", "For example: clbench data clean --features")
    folder = data_folder(data)
    removed, size = clean_features(folder)
    entries = "1 entry" if removed == 1 else f"{removed} entries"
    say(f"removed {entries} of features, {readable_bytes(size)}, from {folder}")
