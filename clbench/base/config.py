"""The decorator that turns a class of hyper-parameters into a checked, frozen dataclass."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, TypeVar, cast

import pydantic
from pydantic.dataclasses import dataclass
from typing_extensions import dataclass_transform

from clbench.errors import PluginError, UsageError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class OmitDefault:
    """Marks a field of a config or stored record that is left out of a run's canonical JSON if it has its default.

    Fields that are added later get this mark, with a default that means the earlier behaviour: old runs keep their ids.
    """


OMIT_DEFAULT = OmitDefault()
"""Written as `name: Annotated[int, OMIT_DEFAULT] = 0`."""


@dataclass_transform(kw_only_default=True, frozen_default=True)
def config(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass whose values are coerced to their type, range-checked and never NaN or infinite.

    Every field needs a default, so that a strategy runs without being configured; the string under a field is its
    documentation. Ranges are written with `annotated_types`: `alpha: Annotated[float, Ge(0)] = 1.0`.

    A class attribute `renamed: ClassVar[Mapping[str, str]]` maps the old names of renamed fields to their new names;
    using an old name raises an error that gives the new one.

    Raises TypeError for a field without a default and ValueError for a default outside its own range.
    """
    return _checked(cls, described=False)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def described_config(cls: type[T]) -> type[T]:
    """Like `config`, but put the strings under the fields into JSON schemas, for which the source is read again."""
    return _checked(cls, described=True)


def _checked(cls: type[T], described: bool) -> type[T]:
    settings = pydantic.ConfigDict(
        extra="forbid", allow_inf_nan=False, validate_default=True, use_attribute_docstrings=described
    )
    made = cast("type[T]", dataclass(cls, frozen=True, kw_only=True, config=settings))
    for field in dataclasses.fields(cast(Any, made)):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise TypeError(f"{cls.__name__}.{field.name} has no default")
    made()  # checks the defaults
    if getattr(made, "renamed", None):
        _refuse_renamed(made)
    return made


def _refuse_renamed(made: Any) -> None:
    init = made.__init__

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **values: Any) -> None:
        for old, new in made.renamed.items():
            if old in values:
                raise PluginError(f"{made.__name__}({old}=…) is now called {made.__name__}({new}=…)", "Rename it.")
        init(self, *args, **values)

    made.__init__ = checked


@config
class NoConfig:
    """The configuration of a strategy that has no hyper-parameters."""


def configure(cls: type[T], values: dict[str, Any], owner: str, what: str = "hyper-parameter") -> T:
    """Build the config `cls` from `values`, which may be strings as typed on a command line.

    Raises UsageError naming `owner` (a strategy or recipe), the field and `what` it is, the value and what is accepted.
    """
    names = [field.name for field in dataclasses.fields(cast(Any, cls))]
    renamed = getattr(cls, "renamed", {})
    for name in values:
        if name in renamed:
            raise UsageError(f"{owner}.{name} is now called {owner}.{renamed[name]}")
        if name not in names:
            from clbench.system.suggestions import did_you_mean

            known = ", ".join(names) if names else "it has none"
            raise UsageError(f"{owner} has no {what} '{name}'{did_you_mean(name, names)} (known: {known})")
    try:
        return cls(**values)
    except pydantic.ValidationError as error:
        faults: dict[tuple[str, str], list[str]] = {}
        for fault in error.errors(include_url=False):
            place = (".".join(_fields_in(fault["loc"])) or "?", repr(fault["input"]))
            faults.setdefault(place, []).append(fault["msg"].replace("Input should be", "must be", 1))
        lines = [f"{owner}.{name} {', or '.join(said)} (got {value})" for (name, value), said in faults.items()]
        raise UsageError("\n".join(lines)) from None


def _fields_in(place: tuple[int | str, ...]) -> list[str]:
    """Return a fault's place without the member types of a union, which pydantic includes: `constrained-int`."""
    kinds = ("int", "float", "bool", "str", "none")
    return [str(part) for part in place if (str(part).isidentifier() and part not in kinds) or isinstance(part, int)]


def plain(value: Any) -> dict[str, Any]:
    """Return a config as JSON-ready values, nested configs as dictionaries and tuples as lists."""
    result: dict[str, Any] = pydantic.TypeAdapter(type(value)).dump_python(value, mode="json")
    return result


def typed(value: Any) -> str:
    """Return a value as it is typed on a command line: `0.5`, `true`, `none`, `2.0,3.0`."""
    if isinstance(value, list | tuple):
        return ",".join(map(typed, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
