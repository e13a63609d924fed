"""The commands `clbench doctor` and `clbench profile`."""

from __future__ import annotations

import typer

from clbench.cli.options import AsJson, DataFolder, Results, one_by_one, run_options, starting, terminal
from clbench.runs.request import Request
from clbench.system.output import say, say_json


@run_options(
    "strategy", "scenario", "recipe", "set", "split", "stream", "epochs", "setting", "device", "threads", "data"
)
def profile(request: Request, as_json: AsJson = False) -> None:
    """Show where a run's time goes.

    Executes one run, of one strategy on one scenario, without keeping it, and divides its time among start-up, data,
    forward, backward, optimizer, strategy, evaluation and the rest.
    """
    with starting():
        from clbench.diagnostics.profile import HEADINGS
        from clbench.diagnostics.profile import profile as measure
        from clbench.system.tables import print_table

    found = measure(request, terminal(stderr=True))
    if as_json:
        say_json(found.to_json())
        return
    threads_used = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    print_table(terminal(), f"{found.run}, {found.device}, {threads_used}", HEADINGS, found.rows(), numbers=(1, 2, 3))
    say(found.summary())


def doctor(
    results: Results = None,
    data: DataFolder = None,
) -> None:
    """Check installation, machine, data and stored runs.

    Reads every byte of the runs; other commands trust the index of a large folder while the sizes and times of its
    files have not changed. Says how to fix what is wrong.
    """
    from clbench.diagnostics.doctor import examine

    worst = 0
    for finding in one_by_one(examine(results, data), "checking"):
        say(f"{'ok  ' if finding.healthy else 'FAIL'}  {finding.what}")
        if finding.fix:
            say(f"      {finding.fix}")
        worst = max(worst, finding.exit_code)
    if worst:
        raise typer.Exit(worst)
