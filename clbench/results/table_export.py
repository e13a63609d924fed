"""Writes stored runs as a tidy table to a file: Parquet, which keeps the types of its columns, or CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from clbench.errors import MachineError, UsageError
from clbench.results.counts_frame import frame
from clbench.results.stored_run import StoredRun
from clbench.system.files import found_at, replace_file
from clbench.system.output import as_csv

FORMATS = (".parquet", ".csv")


def check_place(path: Path) -> None:
    """Raise UsageError for a file that exists or is of another format, and MachineError if pyarrow is missing."""
    if path.suffix not in FORMATS:
        raise UsageError(
            f"a table's name must end in .parquet or .csv (got {path})",
            "For example: clbench export-table results data.csv",
        )
    if found_at(path) is not None:
        raise UsageError(f"{path} exists, and is not replaced", "Remove it, or choose another name.")
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401 - what pandas writes Parquet with
        except ImportError as error:
            raise MachineError(f"writing Parquet needs pyarrow ({error})", "pip install 'clbench[parquet]'") from None


def write_table(path: Path, runs: Sequence[StoredRun]) -> int:
    """Write the counts of the runs (see `counts_frame.frame`); return the number of rows. See `check_place`.

    Raises MachineError if it cannot be written.
    """
    table = frame(runs)
    try:
        replace_file(path, table_csv(table) if path.suffix == ".csv" else typed(table).to_parquet(index=False))
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror or error}", "Choose another file.") from error
    return len(table)


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the frame of counts with explicit column types, whatever the values are.

    Texts are categories, of texts even if no run has a value, as may happen with presets.
    """
    texts = ["run", "scenario", "split", "class_order", "trained", "strategy", "preset", "config", "recipe", "setting"]
    return table.astype(dict.fromkeys(texts, "string")).astype(
        {
            **dict.fromkeys(texts, "category"),
            "seed": "int64",
            **dict.fromkeys(("after", "on"), "int32"),
            **dict.fromkeys(("correct", "total"), "int64"),
            "accuracy": "float64",
        }
    )


def table_csv(table: pd.DataFrame) -> bytes:
    """Return a frame as CSV, in which no spreadsheet interprets a text as a formula."""
    cells = table.astype(object)
    rows = cells.where(cells.notna(), None).itertuples(index=False)
    return as_csv([table.columns, *rows]).encode("utf-8", errors="replace")
