"""What reads stored runs: `clbench compare`, `clbench report` and `clbench list runs`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from clbench.cli.options import AsJson, Results, Wide, terminal
from clbench.cli.printing import print_comparisons
from clbench.errors import UsageError
from clbench.system.output import one_line, say, say_json


def compare(
    results: Results = None,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Compare stored runs in a table.

    A row per strategy: the mean over the seeds with its interval.
    """
    from clbench.results.stored_runs import failures, read_all

    places = _places("compare", results)
    runs, unreadable = read_all(places, _watched)
    for fault in unreadable:
        say(f"Left out: {fault}", sys.stderr)
    for failed in failures(places):
        say(f"Left out because it failed: {one_line(f'{failed.run}: {failed.message}')}", sys.stderr)
    if not runs:
        raise UsageError(
            f"no runs in {', '.join(map(str, places))}", "To make some: clbench run -s naive,lwf -S splitdigits"
        )
    print_comparisons(runs, as_json, wide)


def report(
    results: Results = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the report [default: reports/NAME, as the first folder]."),
    ] = None,
    strategy: Annotated[
        str, typer.Option("--strategy", "-s", metavar="NAME[,NAME…]", help="Only runs of these strategies.")
    ] = "",
    scenario: Annotated[
        str, typer.Option("--scenario", "-S", metavar="NAME[,NAME…]", help="Only runs on these scenarios.")
    ] = "",
    recipe: Annotated[str, typer.Option(metavar="NAME[,NAME…]", help="Only runs under these recipes.")] = "",
) -> None:
    """Write a page about stored runs, with figures and tables.

    The figures and tables are also written as files. The page loads nothing from the network, and nothing is trained.
    """
    from clbench.reporting.publication import Selection, write_report

    names = (tuple(filter(None, given.split(","))) for given in (strategy, scenario, recipe))
    if not results and out is None:
        out = Path("reports") / "results"
    written = write_report(_places("report", results), out, Selection(*names), _watched)
    for text in written.left_out:
        say(text, sys.stderr)
    comparisons = f"{written.comparisons} comparison{'s' if written.comparisons > 1 else ''}"
    say(f"{written.page}: {written.runs} run{'s' if written.runs > 1 else ''} in {comparisons}")


def list_runs(results: Sequence[Path] | None, as_json: bool) -> None:
    """Print the stored runs with their final accuracy and forgetting."""
    from clbench.results.stored_runs import failures, read_all
    from clbench.system.tables import print_table

    places = _places("list runs", results)
    runs, unreadable = read_all(places, _watched)
    rows: list[dict[str, Any]] = [
        {
            "run": run.path.as_posix(),
            "status": run.result.status,
            "final_accuracy": run.metric("final_accuracy"),
            "forgetting": run.metric("forgetting"),
        }
        for run in runs
    ]
    unfinished = [(failed.run, "failed") for failed in failures(places)]
    unfinished += [(fault.path.as_posix(), "unreadable") for fault in unreadable]
    rows += [{"run": run, "status": how, "final_accuracy": None, "forgetting": None} for run, how in unfinished]
    if as_json:
        say_json(rows)
        return
    cells = [["/".join(Path(row["run"]).parts[-3:]), *map(_cell, list(row.values())[1:])] for row in rows]
    print_table(
        terminal(),
        f"runs in {', '.join(map(str, places))}",
        ["run", "status", "final accuracy, %", "forgetting, points"],
        cells,
        numbers=(2, 3),
    )
    for fault in unreadable:
        say(fault, sys.stderr)


def _places(command: str, results: Sequence[Path] | None) -> Sequence[Path]:
    """Return the folders to read, and say what is left out of those that are read if none is named."""
    from clbench.results.stored_runs import usual_places

    if results:
        return results
    own, nested = usual_places()
    for folder in nested:
        say(f"Left out: {folder}, a results folder of its own.", sys.stderr)
        say(f"To read it: clbench {command} {folder}", sys.stderr)
    if not own or not own[0].is_dir():
        raise UsageError("no runs in results", "To make some: clbench run -s naive,lwf -S splitdigits")
    return own


def _watched(items: Sequence[Any], what: str) -> Iterable[Any]:
    """Show in a terminal how many of the items are done."""
    if not sys.stderr.isatty():
        return items
    from rich.progress import track

    return track(items, description=what, console=terminal(stderr=True), transient=True)


def _cell(value: str | float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if isinstance(value, float) else value
