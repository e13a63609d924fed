"""`clbench data`: fetch, import, list and verify datasets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clbench.cli.command import Command
from clbench.cli.options import AsJson, DataFolder, terminal
from clbench.system.output import legible, say, say_json

if TYPE_CHECKING:
    from clbench.data.dataset_info import DatasetInfo

_SHOWN_CLASSES = 20

data_app = typer.Typer(help="Fetch, import, list and verify datasets.", no_args_is_help=True, rich_markup_mode=None)


@data_app.command("list", cls=Command, epilog="Example: clbench data list")
def data_list(data: DataFolder = None, as_json: AsJson = False) -> None:
    """List the datasets and whether they are ready to use."""
    import dataclasses

    from clbench.data.datasets import data_folder, list_datasets
    from clbench.system.tables import print_table, readable_bytes

    folder = data_folder(data)
    listed = list_datasets(folder)
    if as_json:
        say_json([dataclasses.asdict(entry) for entry in listed])
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


@data_app.command("fetch", cls=Command, epilog="Example: clbench data fetch mnist")
def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A built-in dataset.")], data: DataFolder = None
) -> None:
    """Download a built-in dataset, or read it from files that are already in the data folder."""
    from clbench.data.datasets import data_folder, fetch

    info = fetch(name, data_folder(data), lambda text: say(text, sys.stderr))
    print_dataset(info)


@data_app.command("import", cls=Command, epilog="Example: clbench data import flowers flowers.npz")
def data_import(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name to give it, or that of a built-in dataset.")],
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="An .npz file, or a folder train/CLASS/*.png, test/CLASS/*.png.")
    ],
    data: DataFolder = None,
) -> None:
    """Import a dataset: an .npz with x_train, y_train, x_test, y_test, or a folder of PNG images."""
    from clbench.data.datasets import data_folder
    from clbench.data.importing import import_dataset

    info = import_dataset(name, path, data_folder(data), lambda text: say(text, sys.stderr))
    print_dataset(info)


def print_dataset(info: DatasetInfo) -> None:
    """Print what a dataset holds, and which id each class has."""
    shape = "×".join(map(str, info.shape))
    say(
        f"{info.name}: {info.train_size:,} training and {info.test_size:,} test images of {shape} in "
        f"{len(info.classes)} classes ({info.source})"
    )
    if info.classes != tuple(map(str, range(len(info.classes)))):
        say(f"classes by id: {numbered_classes(info)}")


def numbered_classes(info: DatasetInfo) -> str:
    """Return the classes with their ids: `0 cat, 1 dog`, the first of them if there are many."""
    shown = ", ".join(f"{class_id} {legible(name)}" for class_id, name in enumerate(info.classes[:_SHOWN_CLASSES]))
    more = len(info.classes) - _SHOWN_CLASSES
    return f"{shown}, … and {more} more (clbench data list --json has all)" if more > 0 else shown


@data_app.command("verify", cls=Command, epilog="Example: clbench data verify mnist")
def data_verify(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One dataset [default: all].")] = None,
    data: DataFolder = None,
) -> None:
    """Read whole datasets and compare them with their recorded hashes."""
    from clbench.data.datasets import data_folder, verify
    from clbench.errors import DataError

    checked = verify(data_folder(data), name)
    for each, problem in checked:
        say(f"{each}: {problem or 'intact'}")
    if any(problem for _, problem in checked):
        raise DataError("some datasets are damaged", "Remove their folders and fetch or import them again.")
