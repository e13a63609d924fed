"""What the commands share: options, completion of names, and where they print."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from clbench.plugins.discovery import Kind

DataFolder = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data folder [default: $CLBENCH_DATA, else the platform's cache]."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def terminal(stderr: bool = False) -> Console:
    """Return where to print. A table that goes to a file or a pipe is written whole, however wide."""
    from rich.console import Console

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process, and standard output with it

    stream = sys.stderr if stderr else sys.stdout
    return Terminal(stderr=stderr, highlight=False, width=None if stream.isatty() else 200)


def complete(kind: Kind) -> Callable[[str], list[str]]:
    """Return what completes the last of several names of plug-ins."""

    def names(incomplete: str) -> list[str]:
        from clbench.plugins.discovery import discover

        before, comma, last = incomplete.rpartition(",")
        return [before + comma + plugin.name for plugin in discover(kind) if plugin.name.startswith(last)]

    return names
