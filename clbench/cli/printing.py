"""Output that several commands share: comparisons of runs, and which runs failed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clbench.cli.options import terminal
from clbench.errors import ClbenchError, MachineError
from clbench.system import memory
from clbench.system.output import say, say_json

if TYPE_CHECKING:
    from clbench.api.comparing import Runs
    from clbench.results.stored_run import Unreadable
    from clbench.runs.outcome import Outcome


def print_comparisons(runs: Any, as_json: bool, wide: bool = False) -> None:
    from clbench.comparison.grouping import compare as group
    from clbench.comparison.table import print_comparison, rows_for_json
    from clbench.results.record_model import to_json

    comparisons = group(runs)
    if as_json:
        rows = [
            {"comparison": c.title, "warnings": c.warnings, "notes": c.notes, "rows": rows_for_json(c)}
            for c in comparisons
        ]
        paths = [{"run": run.path.as_posix(), **to_json(run.result), "costs": to_json(run.costs)} for run in runs]
        say_json({"comparisons": rows, "runs": paths})
        return
    console = terminal(wide=wide)
    for comparison in comparisons:
        console.print()
        print_comparison(console, comparison)


def print_metrics(runs: Any, metric: str, as_json: bool, wide: bool = False) -> None:
    """Print one metric of each comparison of the runs."""
    from clbench.comparison.grouping import compare as group
    from clbench.comparison.one_metric import metric_for_json, print_metric

    comparisons = group(runs)
    if as_json:
        say_json([{"comparison": each.title, "rows": metric_for_json(each, metric)} for each in comparisons])
        return
    console = terminal(wide=wide)
    for comparison in comparisons:
        console.print()
        print_metric(console, comparison, metric)


@contextlib.contextmanager
def answering(outcomes: Sequence[Outcome], out: Path, again: str) -> Iterator[Runs]:
    """Read the runs back and yield them to be shown. If that fails, say where they are stored, and that the command
    `again` shows them.

    In any case, say at the end which runs failed or cannot be read, and exit accordingly.
    """
    from rich.text import Text

    from clbench.api.comparing import stored
    from clbench.runs.outcome import describe_missing
    from clbench.system.terminal import print_lines

    unreadable: list[Unreadable] = []
    try:
        runs, unreadable = stored(outcomes)
        yield runs
    except (BrokenPipeError, typer.Exit):
        raise
    except Exception as error:
        if any(not outcome.failed for outcome in outcomes):
            say(f"The runs that finished are stored in {out}/. To show them: {again}", sys.stderr)
        if isinstance(error, ClbenchError | OSError):
            raise
        say(f"They cannot be shown now: {type(error).__name__}: {error}", sys.stderr)
        code = MachineError.exit_code if memory.is_short(error) else ClbenchError.exit_code
        raise typer.Exit(code) from error
    finally:  # whether or not the table was read to its end
        if missing := describe_missing(outcomes, unreadable):
            print_lines(terminal(stderr=True), Text(missing))
            raise typer.Exit(ClbenchError.exit_code)
