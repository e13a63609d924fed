"""Options that the commands share, and how they print to the terminal."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from clbench.cli import completion
from clbench.runs.option import Declared, Option, options_of, parsed
from clbench.runs.request import DATA_FOLDER, Request

if TYPE_CHECKING:
    from rich.console import Console


def _help(option: Option) -> str:
    return f"{option.help} [default: {option.unset}]" if option.unset else option.help


DataFolder = Annotated[Path | None, typer.Option("--data", metavar="DIR", help=_help(DATA_FOLDER))]
Results = Annotated[list[Path] | None, typer.Argument(metavar="RESULTS", help="Folders and packs [default: results].")]
Wide = Annotated[bool, typer.Option("--wide", help="Print all columns in one table, however wide.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


_WIDE = 400

_T = TypeVar("_T")


def run_options(*names: str, **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the options `names` of a run (all by default); see `asks`."""
    return asks(Request, *names, **defaults)


def asks(request: type[Any], *names: str, **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that replaces a command's parameter `request` by the options `names` of a request (by default
    all).

    `defaults` replace those that it declares. The command gets the request that the user makes; if its parameter is
    called `asked` instead, it gets only the options that were typed, as fields of a request.
    """
    declared = {name: each for name, each in options_of(request).items() if not names or name in names}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters

        @functools.wraps(command)
        def wrapper(**given: Any) -> None:
            asked = {name: given.pop(name) for name in declared}
            if "asked" in own:
                source = given["ctx"].get_parameter_source
                typed = {name: each for name, each in asked.items() if source(name).name == "COMMANDLINE"}
                command(asked=parsed(declared, typed), **given)
            else:
                command(request=request.from_command_line(asked), **given)

        # In the help, the options take the position of the parameter `request` or `asked`.
        parameters: list[inspect.Parameter] = []
        for parameter in own.values():
            if parameter.name in ("request", "asked"):
                parameters += [_parameter(name, each, defaults) for name, each in declared.items()]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {each.name: each.annotation for each in parameters}
        return wrapper

    return decorate


def _parameter(name: str, declared: Declared, defaults: dict[str, Any]) -> inspect.Parameter:
    option = declared.option
    kind: Any = declared.type
    default = defaults.get(name, declared.default)
    if option.repeated:
        kind = list[str] if default is MISSING else list[str] | None
    elif option.parse:
        kind = str
        default = default if default in (MISSING, None) else str(default)
    described = typer.Option(
        *(option.flags or (f"--{name.replace('_', '-')}",)),
        metavar=option.metavar,
        help=_help(option) if default is None else option.help,
        autocompletion=completion.OF_OPTION.get(name),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[kind, described],
    )


def terminal(stderr: bool = False, wide: bool = False) -> Console:
    """Return the console to print on. For a file or a pipe, tables are printed in full width, as with `wide`."""
    from clbench.system.terminal import Terminal

    stream = sys.stderr if stderr else sys.stdout
    return Terminal(stderr=stderr, highlight=False, width=_WIDE if wide or not stream.isatty() else None)


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """In a terminal, show that the command has begun: importing torch takes a second, or several on a busy machine."""
    shown = "Starting …" if sys.stderr.isatty() else ""
    print(shown, end="\r" if shown else "", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print(" " * len(shown), end="\r" if shown else "", file=sys.stderr, flush=True)


def one_by_one(found: Iterable[_T], what: str) -> Iterator[_T]:
    """Yield what is found; between items, a terminal shows that the search continues and how many were found."""
    with terminal(stderr=True).status(what) as status:
        for count, each in enumerate(found, start=1):
            status.stop()  # a line of its own does not mix with what is printed
            yield each
            status.update(f"{what}, {count} done")
            status.start()
