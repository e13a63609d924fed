"""The commands of `clbench`, put together. Imports here are light: help, completion and lists do not load torch."""

from __future__ import annotations

from typing import Annotated

import typer

from clbench.cli.data import data_app
from clbench.cli.diagnostics import doctor, profile
from clbench.cli.plugins import check, list_, new_app, show
from clbench.cli.reproduce import reproduce
from clbench.cli.run import run
from clbench.cli.stored import compare, report

app = typer.Typer(
    name="clbench",
    help="Measure how much a classifier forgets while it learns classes a few at a time.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (run, compare, reproduce, profile, report, show, check, doctor):
    app.command()(command)
app.command("list")(list_)
app.add_typer(new_app, name="new")
app.add_typer(data_app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        import clbench

        print(f"clbench {clbench.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Only options of the command as a whole."""
