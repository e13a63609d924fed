"""Assembles the commands of `clbench`. Imports here are light: help, completion and lists do not load torch."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

from clbench.cli.command import Command

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
_DEFINED_IN = {
    "run": "run",
    "init": "run",
    "compare": "stored_runs",
    "report": "stored_runs",
    "pack": "sharing",
    "unpack": "sharing",
    "train": "extend",
    "extend": "extend",
    "export": "networks",
    "export-table": "sharing",
    "predict": "networks",
    "list": "plugins",
    "show": "plugins",
    "check": "plugins",
    "doctor": "diagnostics",
    "profile": "diagnostics",
    "reproduce": "reproduce",
}
"""The module of each command, in the order of the help; its function has the command's name, or `list_`."""


def application(wanted: str = "") -> typer.Typer:
    """Return the program with all its commands, or with the `wanted` one alone if that is a command.

    Importing and describing all of them takes as long as running the shortest ones.
    """
    app = typer.Typer(
        name="clbench",
        help="Measure how much a classifier forgets while it learns classes a few at a time.",
        epilog="Example: clbench run -s naive,lwf,joint -S splitdigits --seeds 2, and then: clbench report",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        callback=_options,
    )
    for name in [wanted] if wanted in _DEFINED_IN else _DEFINED_IN:
        app.command(name, cls=Command, epilog=f"Example: {EXAMPLES[name]}")(_function(name))
    if wanted not in _DEFINED_IN:
        from clbench.cli.data import data_app
        from clbench.cli.plugins import new_app

        app.add_typer(new_app, name="new", epilog="Example: clbench new strategy mine")
        app.add_typer(data_app, name="data", epilog="Example: clbench data list")
    return app


def _function(name: str) -> Any:
    module = import_module(f"clbench.cli.{_DEFINED_IN[name]}")
    return getattr(module, "list_" if name == "list" else name.replace("-", "_"))


def _version(wanted: bool) -> None:
    if wanted:
        import clbench

        print(f"clbench {clbench.__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Declare the options of the program as a whole."""
