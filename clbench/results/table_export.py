"""Stored runs as a tidy table in a file: Parquet, which keeps the types of its columns, or CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from clbench.errors import MachineError, UsageError
from clbench.results.stored_runs import StoredRun, frame
from clbench.system.files import replace_file
from clbench.system.output import as_csv

FORMATS = (".parquet", ".csv")


def check_format(path: Path) -> None:
    """Raise UsageError for the name of a file of another format, and MachineError if pyarrow is missing for Parquet."""
    if path.suffix not in FORMATS:
        raise UsageError(
            f"a table's name ends in .parquet or .csv (got {path})",
            "For example: clbench export-table results data.csv",
        )
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401 - what pandas writes Parquet with
        except ImportError as error:
            raise MachineError(f"writing Parquet needs pyarrow ({error})", "pip install 'clbench[parquet]'") from None


def write_table(path: Path, runs: Sequence[StoredRun]) -> int:
    """Write the counts of the runs (see `stored_runs.frame`), in place of an earlier table; return the number of rows.

    Raises MachineError if it cannot be written.
    """
    table = typed(frame(runs))
    try:
        replace_file(
            path, table_csv(table) if path.suffix == ".csv" else table.to_parquet(engine="pyarrow", index=False)
        )
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror or error}", "Choose another file.") from error
    return len(table)


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the frame of counts with the type of each column written out, whatever its values are.

    Names are categories; what may be missing is a nullable type.
    """
    return table.astype(
        {
            **dict.fromkeys(("run", "scenario", "split", "class_order", "trained", "strategy"), "category"),
            **dict.fromkeys(("preset", "config", "recipe", "setting"), "category"),
            "seed": "int64",
            **dict.fromkeys(("after", "on"), "int32"),
            **dict.fromkeys(("correct", "total"), "int64"),
            "accuracy": "float64",
        }
    )


def table_csv(table: pd.DataFrame) -> bytes:
    """Return a frame as CSV, in which no spreadsheet takes a text for a formula."""
    cells = table.astype(object)
    rows = cells.where(cells.notna(), None).itertuples(index=False)
    return as_csv([table.columns, *rows]).encode("utf-8", errors="replace")
