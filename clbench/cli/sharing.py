"""The commands that share runs: `clbench pack`, `clbench unpack` and `clbench export-table`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clbench.cli.options import Results
from clbench.cli.stored_runs import OfRecipes, OfScenarios, OfStrategies, places_to_read, selection, watched
from clbench.errors import ClbenchError, UsageError
from clbench.system.output import one_line, say

if TYPE_CHECKING:
    from clbench.results.run_selection import Selection
    from clbench.results.stored_run import StoredRun


def pack(
    results: Results = None,
    *,
    out: Annotated[Path, typer.Argument(metavar="FILE.zip", help="The pack to write.", show_default=False)],
    strategy: OfStrategies = "",
    scenario: OfScenarios = "",
    recipe: OfRecipes = "",
    networks: Annotated[bool, typer.Option("--networks", help="Pack the kept networks, too.")] = False,
) -> None:
    """Write stored runs into one file to send.

    The same runs give the same bytes. Commands that read stored runs read packs, too.
    """
    from clbench.results.pack_writing import check_name, write_pack
    from clbench.results.store import SOURCES
    from clbench.results.stored_runs import faulty_sources
    from clbench.results.study_of_runs import study_of_runs
    from clbench.system.tables import readable_bytes

    check_name(out)
    chosen, complete = _chosen("pack", results, out, selection(strategy, scenario, recipe))
    files = {run.spec.strategy.sha256: f"{SOURCES}/{run.spec.strategy.sha256}.py" for run in chosen if run.source}
    packed = write_pack(out, chosen, networks, study_of_runs(chosen, files).encode())
    for faulty in faulty_sources(chosen):
        say(f"Left out: {one_line(faulty)}", sys.stderr)
        complete = False
    say(f"{out}: {_runs(len(chosen))}, {readable_bytes(packed.size)}")
    if packed.networks_left_out:
        left = readable_bytes(packed.networks_left_out)
        say(f"The kept networks, {left}, are not in it; to pack them: --networks", sys.stderr)
    if not complete:
        raise typer.Exit(ClbenchError.exit_code)


def unpack(
    packs: Annotated[list[Path], typer.Argument(metavar="FILE.zip", help="Packs to unpack.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Results folder to publish the runs in.")] = Path("results"),
) -> None:
    """Publish the runs of packs in a results folder.

    What is already there is never replaced.
    """
    from clbench.results.pack_publishing import unpack as publish

    complete = True
    for path in packs:
        done = publish(path, out, watched)
        for text in done.damaged:
            say(one_line(text), sys.stderr)
        for text in (*done.without_source, *done.left_out):
            say(f"Left out: {one_line(text)}", sys.stderr)
        there = f", {len(done.there)} were there already" if done.there else ""
        say(f"{out}: {_runs(len(done.published))} unpacked from {path}{there}")
        complete = complete and not (done.without_source or done.left_out)
    if not complete:
        raise typer.Exit(ClbenchError.exit_code)


def export_table(
    results: Results = None,
    *,
    out: Annotated[
        Path, typer.Argument(metavar="FILE", help="The table to write: .parquet or .csv.", show_default=False)
    ],
    strategy: OfStrategies = "",
    scenario: OfScenarios = "",
    recipe: OfRecipes = "",
) -> None:
    """Write the counts of stored runs as a tidy table.

    The table, for use in other tools, has a row per run, setting, experience trained last and experience tested.
    """
    from clbench.results.table_export import check_place, write_table

    check_place(out)
    chosen, complete = _chosen("export-table", results, out, selection(strategy, scenario, recipe))
    rows = write_table(out, chosen)
    say(f"{out}: {rows:,} rows of {_runs(len(chosen))}")
    if not complete:
        raise typer.Exit(ClbenchError.exit_code)


def _chosen(
    command: str, results: Sequence[Path] | None, out: Path, selection: Selection
) -> tuple[list[StoredRun], bool]:
    """Return the requested runs, and whether all could be read. Say what is left out."""
    from clbench.results.failed_runs import failures
    from clbench.results.stored_runs import read_all

    places = places_to_read(command, results, out)
    runs, unreadable = read_all(places, watched)
    for fault in unreadable:
        say(f"Left out: {fault}", sys.stderr)
    for failed in failures(places):
        if selection.has(failed.strategy, failed.scenario):
            say(f"Left out because it failed: {one_line(f'{failed.run}: {failed.message}')}", sys.stderr)
    chosen = selection.of(runs)
    if not chosen:
        raise UsageError(
            f"no runs in {', '.join(map(str, places))}", "To make some: clbench run -s naive,lwf -S splitdigits"
        )
    return chosen, not unreadable


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"
