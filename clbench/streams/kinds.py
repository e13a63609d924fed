"""The kinds of streams by name, as `--stream` and scenario files name them."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from clbench.base.config import configure
from clbench.errors import UsageError
from clbench.plugins.syntax import hyper_parameters
from clbench.streams.catalogue import DEFINED_IN
from clbench.streams.stream_kind import StreamKind
from clbench.system.suggestions import did_you_mean


def _defined_in(place: str) -> type[StreamKind]:
    module, _, cls = place.partition(":")
    return cast("type[StreamKind]", getattr(import_module(f"clbench.streams.{module}"), cls))


KINDS: dict[str, type[StreamKind]] = {name: _defined_in(place) for name, place in DEFINED_IN.items()}


def stream_kind(name: str, values: Mapping[str, Any]) -> StreamKind:
    """Return a kind of stream with these options, which may be strings as typed on a command line.

    Raises UsageError for an unknown name or option, and for a value out of range.
    """
    spelled = name.lower().replace("-", "_")
    if spelled not in KINDS:
        raise UsageError(f"there is no stream '{name}'{did_you_mean(spelled, KINDS)} (known: {', '.join(KINDS)})")
    listed = {
        key: [part for part in value.split(",") if part] if key == "angles" and isinstance(value, str) else value
        for key, value in values.items()
    }
    return configure(KINDS[spelled], listed, "stream", "option")


def replaced_by(name: str, option: str) -> tuple[str, ...]:
    """Return the options of a kind of stream that have no effect if `option` is given."""
    kind = KINDS.get(name.lower().replace("-", "_"))
    return kind.replaces.get(option, ()) if kind is not None else ()


def options_of(cls: type[StreamKind]) -> list[dict[str, str]]:
    """Return name, type, default and description of each option of a kind."""
    docs: dict[str, str] = {}
    for each in reversed(cls.__mro__[: cls.__mro__.index(StreamKind) + 1]):
        (written,) = ast.parse(inspect.getsource(each)).body
        docs |= {field.name: field.doc for field in hyper_parameters(cast(ast.ClassDef, written))}
    return [
        {
            "name": field.name,
            "type": _type_of(str(field.type)),
            "default": str(field.default),
            "doc": " ".join(docs[field.name].split()),
        }
        for field in dataclasses.fields(cast(Any, cls))
    ]


def _type_of(annotation: str) -> str:
    """Return the type in an annotation, without its constraints."""
    parsed = ast.parse(annotation, mode="eval").body
    if isinstance(parsed, ast.Subscript) and ast.unparse(parsed.value) == "Annotated":
        return ast.unparse(cast(ast.Tuple, parsed.slice).elts[0])
    return ast.unparse(parsed)


def described(name: str) -> dict[str, Any]:
    """Return everything that is known about a kind, JSON-ready."""
    cls = KINDS[name]
    return {"kind": "stream", "name": name, "doc": inspect.cleandoc(cls.__doc__ or ""), "options": options_of(cls)}


def name_of(kind: StreamKind) -> str:
    """Return the name of a kind."""
    return next(name for name, cls in KINDS.items() if type(kind) is cls)
