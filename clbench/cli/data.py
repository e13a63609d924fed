"""`clbench data`: bring in, list and check datasets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clbench.cli.options import AsJson, DataFolder, terminal

if TYPE_CHECKING:
    from clbench.data.dataset_info import DatasetInfo

data_app = typer.Typer(help="Bring in, list and check datasets.", no_args_is_help=True, rich_markup_mode=None)


@data_app.command("list")
def data_list(data: DataFolder = None, as_json: AsJson = False) -> None:
    """List the datasets and whether they are at hand."""
    import dataclasses

    from clbench.data.datasets import data_folder, list_datasets
    from clbench.system.tables import print_table, readable_bytes

    folder = data_folder(data)
    listed = list_datasets(folder)
    if as_json:
        print(json.dumps([dataclasses.asdict(entry) for entry in listed], indent=1, default=str))
        return
    rows = []
    for entry in listed:
        info = entry.info
        if info is None:
            rows.append([entry.name, entry.problem or "not here yet", "", "", "", ""])
            continue
        sizes = [f"{info.train_size:,} + {info.test_size:,}", str(len(info.classes)), "×".join(map(str, info.shape))]
        rows.append([entry.name, "ready", *sizes, readable_bytes(info.bytes)])
    headings = ["dataset", "state", "train + test", "classes", "shape", "size"]
    print_table(terminal(), f"datasets in {folder}", headings, rows, numbers=(2, 3, 4, 5))


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A built-in dataset.")], data: DataFolder = None
) -> None:
    """Download a built-in dataset, or take it from files that lie in the data folder already."""
    from clbench.data.datasets import data_folder, fetch

    info = fetch(name, data_folder(data), lambda text: print(text, file=sys.stderr))
    print_dataset(info)


@data_app.command("import")
def data_import(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name to give it, or the built-in that it is.")],
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="An .npz file, or a folder train/CLASS/*.png, test/CLASS/*.png.")
    ],
    data: DataFolder = None,
) -> None:
    """Bring in a dataset: an .npz with x_train, y_train, x_test, y_test, or a folder of PNG images."""
    from clbench.data.datasets import data_folder
    from clbench.data.importing import import_dataset

    info = import_dataset(name, path, data_folder(data), lambda text: print(text, file=sys.stderr))
    print_dataset(info)


def print_dataset(info: DatasetInfo) -> None:
    """Print in a line what a dataset holds."""
    shape = "×".join(map(str, info.shape))
    print(
        f"{info.name}: {info.train_size:,} training and {info.test_size:,} test images of {shape} in "
        f"{len(info.classes)} classes ({info.source})"
    )


@data_app.command("verify")
def data_verify(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One dataset [default: all].")] = None,
    data: DataFolder = None,
) -> None:
    """Read the datasets whole and compare them with their recorded hashes."""
    from clbench.data.datasets import data_folder, verify
    from clbench.errors import DataError

    checked = verify(data_folder(data), name)
    for each, problem in checked:
        print(f"{each}: {problem or 'as recorded'}")
    if any(problem for _, problem in checked):
        raise DataError("some datasets are damaged", "Remove their folders and fetch or import them again.")
