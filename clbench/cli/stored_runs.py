"""The commands that read stored runs: `clbench compare`, `clbench report` and `clbench list runs`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clbench.cli import completion
from clbench.cli.options import AsJson, Results, Wide, starting, terminal
from clbench.cli.printing import print_comparisons, print_metrics
from clbench.errors import UsageError
from clbench.system.output import one_line, say, say_json

if TYPE_CHECKING:
    from clbench.results.run_selection import Selection

OfStrategies = Annotated[
    str,
    typer.Option(
        "--strategy",
        "-s",
        metavar="NAME[,NAME…]",
        help="Only runs of these strategies.",
        autocompletion=completion.plugins("strategy"),
    ),
]
OfScenarios = Annotated[
    str,
    typer.Option(
        "--scenario",
        "-S",
        metavar="NAME[,NAME…]",
        help="Only runs on these scenarios.",
        autocompletion=completion.plugins("scenario"),
    ),
]
OfRecipes = Annotated[
    str,
    typer.Option(metavar="NAME[,NAME…]", help="Only runs under these recipes.", autocompletion=completion.recipes),
]


def selection(strategy: str, scenario: str, recipe: str) -> Selection:
    """Return the selection of runs that these options ask for."""
    from clbench.results.run_selection import Selection

    return Selection(*(tuple(filter(None, given.split(","))) for given in (strategy, scenario, recipe)))


def compare(
    results: Results = None,
    metric: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="One metric by name, such as anytime_accuracy; see docs/metrics.md.",
            autocompletion=completion.metrics,
        ),
    ] = "",
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Compare stored runs in a table.

    It has a row per strategy: the mean over the seeds with its interval.
    """
    from clbench.results.failed_runs import failures
    from clbench.results.stored_runs import read_all

    if metric:
        from clbench.comparison.one_metric import check_metric

        check_metric(metric)
    places = places_to_read("compare", results)
    runs, unreadable = read_all(places, watched)
    for fault in unreadable:
        say(f"Left out: {fault}", sys.stderr)
    for failed in failures(places):
        say(f"Left out because it failed: {one_line(f'{failed.run}: {failed.message}')}", sys.stderr)
    if not runs:
        raise UsageError(
            f"no runs in {', '.join(map(str, places))}", "To make some: clbench run -s naive,lwf -S splitdigits"
        )
    if metric:
        print_metrics(runs, metric, as_json, wide)
    else:
        print_comparisons(runs, as_json, wide)


def report(
    results: Results = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the report [default: reports/NAME of the folder or pack]."),
    ] = None,
    strategy: OfStrategies = "",
    scenario: OfScenarios = "",
    recipe: OfRecipes = "",
) -> None:
    """Write a page about stored runs, with figures and tables.

    Figures and tables are also written as files. The page loads nothing from the network, and nothing is trained.
    """
    with starting():
        from clbench.reporting.publication import write_report

    if not results and out is None:
        out = Path("reports") / "results"
    written = write_report(places_to_read("report", results), out, selection(strategy, scenario, recipe), watched)
    for text in written.left_out:
        say(text, sys.stderr)
    comparisons = f"{written.comparisons} comparison{'s' if written.comparisons > 1 else ''}"
    say(f"{written.page}: {written.runs} run{'s' if written.runs > 1 else ''} in {comparisons}")


def list_runs(results: Sequence[Path] | None, as_json: bool) -> None:
    """Print the stored runs with their final accuracy and forgetting."""
    from clbench.results.failed_runs import failures
    from clbench.results.stored_runs import read_all
    from clbench.system.tables import print_table

    places = places_to_read("list runs", results)
    runs, unreadable = read_all(places, watched)
    rows: list[dict[str, Any]] = [
        {
            "run": run.path.as_posix(),
            "status": "finished",
            "final_accuracy": run.final("final_accuracy"),
            "forgetting": run.final("forgetting"),
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


def places_to_read(command: str, results: Sequence[Path] | None, out: Path | None = None) -> Sequence[Path]:
    """Return the folders and packs to read; if none is named, the usual ones, and say what is left out of these.

    `command` is the one that reads them, and `out` its last argument.
    """
    from clbench.results.pack_layout import packs_in
    from clbench.results.stored_runs import usual_places

    if results:
        return results
    own, nested = usual_places()
    for folder in nested:
        packs = packs_in(folder)
        say(f"Left out: {folder}, {'which holds packs' if packs else 'a results folder of its own'}.", sys.stderr)
        words = shlex.join(map(str, [*(packs or [folder]), *([out] if out else [])]))
        say(f"To read {'them' if packs else 'it'}: clbench {command} {words}", sys.stderr)
    if not own or not own[0].is_dir():
        raise UsageError("no runs in results", "To make some: clbench run -s naive,lwf -S splitdigits")
    return own


def watched(items: Sequence[Any], what: str) -> Iterable[Any]:
    """Show in a terminal how many of the items are done."""
    if not sys.stderr.isatty():
        return items
    from rich.progress import track

    return track(items, description=what, console=terminal(stderr=True), transient=True)


def _cell(value: str | float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if isinstance(value, float) else value
