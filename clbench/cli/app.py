"""The commands of `clbench`, put together. Imports here are light: help, completion and lists do not load torch."""

from __future__ import annotations

from typing import Annotated

import typer

from clbench.cli.command import Command
from clbench.cli.data import data_app
from clbench.cli.diagnostics import doctor, profile
from clbench.cli.extend import extend, train
from clbench.cli.networks import export, predict
from clbench.cli.plugins import check, list_, new_app, show
from clbench.cli.reproduce import reproduce
from clbench.cli.run import init, run
from clbench.cli.sharing import export_table, pack, unpack
from clbench.cli.stored_runs import compare, report

app = typer.Typer(
    name="clbench",
    help="Measure how much a classifier forgets while it learns classes a few at a time.",
    epilog="Example: clbench run -s naive,lwf,joint -S splitdigits --seeds 2, and then: clbench report",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
EXAMPLES = {
    "run": "clbench run -s naive,lwf,joint -S splitmnist --seeds 5 --jobs auto",
    "init": "clbench init study.toml, and then: clbench run study.toml",
    "compare": "clbench compare results",
    "reproduce": "clbench reproduce hsu2018 --setting class --seeds 3",
    "profile": "clbench profile -s lwf -S splitcifar10 --epochs 1",
    "report": "clbench report results --out reports/mine",
    "pack": "clbench pack results/splitdigits study.zip",
    "unpack": "clbench unpack study.zip --out results",
    "export-table": "clbench export-table results data.parquet",
    "show": "clbench show lwf",
    "check": "clbench check strategies/mine.py",
    "doctor": "clbench doctor results",
    "list": "clbench list strategies",
    "train": "clbench train --images photos/base --network lite0 --set network.train=head --out model",
    "extend": "clbench extend model --images photos/new --old-test photos/base-test --out model-2 --export onnx",
    "export": "clbench export results/splitdigits/lwf --to onnx --out digits.onnx",
    "predict": "clbench predict results/splitdigits/lwf photos --top 3",
}
COMMANDS = (run, init, compare, report, pack, unpack, train, extend, export, export_table, predict)
for command in (*COMMANDS, list_, show, check, doctor, profile, reproduce):
    name = command.__name__.rstrip("_").replace("_", "-")
    app.command(name, cls=Command, epilog=f"Example: {EXAMPLES[name]}")(command)
app.add_typer(new_app, name="new", epilog="Example: clbench new strategy mine")
app.add_typer(data_app, name="data", epilog="Example: clbench data list")


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
