"""The command `clbench reproduce`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from clbench.cli.completion import one_of, protocols
from clbench.cli.options import run_options, starting, terminal
from clbench.cli.printing import answering
from clbench.errors import UsageError
from clbench.runs.request import Request
from clbench.system.output import say

if TYPE_CHECKING:
    from clbench.reproduction.targets import Target


OF_RUNS = ("seeds", "device", "threads", "jobs", "on", "gpus_per_run", "allow_mixed", "track", "out", "data")
"""The options of `run` that say how to execute the runs; --list has no use for them."""


@run_options(*OF_RUNS, seeds=10)
def reproduce(
    ctx: typer.Context,
    request: Request,
    protocol: Annotated[
        str, typer.Argument(metavar="PROTOCOL", help="A published protocol; see --list.", autocompletion=protocols)
    ] = "",
    listing: Annotated[bool, typer.Option("--list", help="List the protocols and their published numbers.")] = False,
    setting: Annotated[
        str | None,
        typer.Option(
            metavar="class|task|domain",
            help="Only the cells of this setting.",
            autocompletion=one_of("class", "task", "domain"),
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(metavar="NAME", help="Only the cells of this method.")] = None,
) -> None:
    """Measure a published table again, and compare the numbers.

    Finished runs are skipped, as by `run`. A cell agrees if the means differ by at most two combined standard errors.
    """
    from clbench.reproduction.campaign import chosen, plan_targets
    from clbench.reproduction.targets import targets

    if listing or not protocol:
        sources = {name: ctx.get_parameter_source(name) for name in OF_RUNS}
        typed = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
        if typed:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in typed)
            raise UsageError(
                f"{flags}: nothing is run with --list" if listing else f"{flags}: no protocol is named",
                "For example: clbench reproduce hsu2018. All protocols: clbench reproduce --list",
            )
        _print_targets(chosen(targets(protocol or None), setting, method))
        return
    with starting():
        from clbench.api.comparing import execute_planned

    wanted = chosen(targets(protocol), setting, method)
    outcomes = execute_planned(lambda notify: plan_targets(wanted, request, notify), request, terminal(stderr=True))
    out = shlex.quote(str(request.out))
    with answering(outcomes, request.out, f"clbench compare {out}") as runs:
        from clbench.reproduction import table
        from clbench.reproduction.targets import cells
        from clbench.system.tables import print_table

        found, title = cells(wanted, runs), f"{protocol}: {wanted[0].source}"
        print_table(terminal(), title, table.HEADINGS, table.rows(found), numbers=range(2, 7))
        say("In percent; ±: standard deviation over runs, published and measured; sem: standard error of the mean.")
        file = request.out / "reproduction" / f"{protocol}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(table.as_csv(found), encoding="utf-8")
        say(f"Stored in {request.out}/, this table in {file}. It is also in the report: clbench report {out}")


def _print_targets(targets: Sequence[Target]) -> None:
    from clbench.system.tables import print_table

    by_source: dict[str, list[list[str]]] = {}
    for t in targets:
        known = t.published + (" unverified" if t.read == "unverified" else "")
        row = [t.method, t.setting.replace("_", "-"), known, str(t.n)]
        by_source.setdefault(f"{t.protocol}: {t.source}", []).append(row)
    for title, rows in by_source.items():
        print_table(terminal(), title, ["method", "setting", "published, %", "n"], rows, numbers=(2, 3))
        say()
    say("To measure one of them: clbench reproduce PROTOCOL")
