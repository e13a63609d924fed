"""What reads stored runs: `clbench compare`, `clbench report` and `clbench list runs`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from clbench.cli.answers import print_comparisons
from clbench.cli.options import AsJson, Results, terminal
from clbench.errors import UsageError


def compare(
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """Compare stored runs in a table: a row per strategy, mean and interval over the seeds."""
    from clbench.results.stored_runs import failures, read_all

    places = results or [Path("results")]
    runs, unreadable = read_all(places)
    for fault in unreadable:
        print(f"Left out: {fault.path}: {fault.problem}", file=sys.stderr)
    for failed in failures(places):
        print(f"Left out because it failed: {failed.run}: {failed.message}", file=sys.stderr)
    if not runs:
        raise UsageError(
            f"no runs in {', '.join(map(str, places))}", "To make some: clbench run -s naive,lwf -S splitdigits"
        )
    print_comparisons(runs, as_json)


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
    """Write the comparison of stored runs as a page, with its figures and tables as files.

    The page is self-contained: it loads nothing from the network. Nothing is trained.
    """
    from clbench.reporting.publication import Selection, write_report

    names = (tuple(filter(None, given.split(","))) for given in (strategy, scenario, recipe))
    written = write_report(results or [Path("results")], out, Selection(*names))
    for text in written.left_out:
        print(text, file=sys.stderr)
    comparisons = f"{written.comparisons} comparison{'s' if written.comparisons > 1 else ''}"
    print(f"{written.page}: {written.runs} run{'s' if written.runs > 1 else ''} in {comparisons}")


def list_runs(results: Sequence[Path] | None, as_json: bool) -> None:
    """Print the stored runs with their final accuracy and forgetting."""
    from clbench.results.stored_runs import StoredRun, read_all
    from clbench.system.tables import print_table

    places = results or [Path("results")]
    runs, unreadable = read_all(places)

    def row(run: StoredRun) -> dict[str, Any]:
        return {
            "run": run.path.as_posix(),
            "status": run.result.status,
            "final_accuracy": run.metric("final_accuracy"),
            "forgetting": run.metric("forgetting"),
        }

    rows = [row(run) for run in runs]
    rows += [
        {"run": f.path.as_posix(), "status": f"damaged: {f.problem}", "final_accuracy": None, "forgetting": None}
        for f in unreadable
    ]
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    cells = [[str(v) if not isinstance(v, float) else f"{100 * v:.1f}" for v in row.values()] for row in rows]
    print_table(
        terminal(),
        f"runs in {', '.join(map(str, places))}",
        ["run", "status", "final accuracy", "forgetting"],
        cells,
        numbers=(2, 3),
    )
