"""Options, declared once as fields of a request, from which the command line and Python's arguments are made.

A field of a frozen dataclass that is annotated with an `Option` is one:

    epochs: Annotated[int | None, Option("Epochs per experience.", "N", unset="the recipe's")] = None
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from clbench.errors import UsageError
from clbench.runs.option_values import OF_TYPE, as_it_is


@dataclass(frozen=True)
class Option:
    """How users set a field of a request."""

    help: str
    metavar: str | None = None
    flags: tuple[str, ...] = ()
    """Its names on the command line, if not just the field's name."""

    unset: str = ""
    """What None stands for."""

    parse: Callable[[Any], Any] | None = None
    """Reads the field from the command line's text; None if it has the field's own type."""

    accept: Callable[[Any], Any] | None = None
    """Reads the field from an argument in Python; by the field's type if None. Raises a TypeError that says what the
    argument must be."""

    repeated: bool = False
    """Whether the command line takes it several times."""

    default: Any = ...
    """The default as users would give it, if the request holds it in another form; otherwise `...`."""

    belongs_to: Literal["study", "machine", "both"] = "study"
    """Where it is set if there is a study: in the file; on the command line, since it concerns one machine or one use;
    or in either, with the command line taking precedence."""


@dataclass(frozen=True)
class Declared:
    """An option, as a request declares it."""

    option: Option
    type: Any
    default: Any
    """The value if users leave it out; MISSING if they must give it."""

    def accept(self, value: Any) -> Any:
        """Read the field from an argument in Python. Raises a TypeError that says what the argument must be."""
        return (self.option.accept or OF_TYPE[self.type])(value)


def options_of(request: type[Any]) -> Mapping[str, Declared]:
    """Return the options of a request by name: first those that must be given, then its own, then shared ones."""
    # The command line needs the options at every start, but not the records, which take long to import.
    hints = get_type_hints(request, None, {"GridTuning": Any}, include_extras=True)
    found = {}
    for each in fields(request):
        if get_origin(hint := hints[each.name]) is not Annotated:
            continue
        kind, option = get_args(hint)
        found[each.name] = Declared(option, kind, each.default if option.default is ... else option.default)
    own = vars(request)["__annotations__"]
    return dict(sorted(found.items(), key=lambda item: (item[1].default is not MISSING, item[0] not in own)))


def parsed(known: Mapping[str, Declared], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options, as the command line reads them, as fields of a request. Raises UsageError."""
    return {name: (known[name].option.parse or as_it_is)(value) for name, value in given.items()}


def accepted(known: Mapping[str, Declared], name: str, value: Any) -> Any:
    """Return a value from Python or a study as a field of a request. Raises UsageError for a wrong type."""
    if isinstance(value, str) and not value.strip():
        raise UsageError(f"{name} is an empty text", "Leave it out, or give it a value.")
    try:
        return known[name].accept(value)
    except TypeError as error:
        raise UsageError(f"{name} must be {error} (got {value!r})") from None


def with_options(doc: str | None, declared: Mapping[str, Declared]) -> str:
    """Return a function's docstring with the options that are its arguments listed below it."""
    listed = [f"    {name}: {each.option.help}" for name, each in declared.items()]
    return "\n".join([inspect.cleandoc(doc or ""), "", "Options:", *listed])
