"""The base class of stored records: frozen, checked when made and when read, with one form as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic_core import CoreSchema

from clbench.base.config import OMIT_DEFAULT

SchemaNumber = Literal[2]
SCHEMA: SchemaNumber = 2
"""Both raised whenever the shape of a record changes in a way that a field with `OMIT_DEFAULT` cannot express."""


_LARGEST = 2**53  # up to which a float holds every integer
Count = Annotated[int, pydantic.Field(ge=0, le=_LARGEST)]
Seconds = Annotated[float, pydantic.Field(ge=0, le=_LARGEST)]
"""Bounded, so that means of values from a stranger's file are numbers."""


_INNER = ("schema", "items_schema", "values_schema", "fields", "choices", "definitions")


def _fail_fast(schema: Any) -> None:
    """Set `fail_fast` for each list and tuple anywhere in the schema."""
    if isinstance(schema, list | tuple):
        for each in schema:
            _fail_fast(each)
        return
    if not isinstance(schema, dict):
        return
    if schema.get("type") in ("list", "tuple"):
        schema["fail_fast"] = True
    for name in _INNER:
        inner = schema.get(name)
        _fail_fast(list(inner.values()) if isinstance(inner, dict) and "type" not in inner else inner)


class Record(pydantic.BaseModel):
    """A part of a stored record. The string under a field is its description in the published JSON schema."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        populate_by_name=True,
        protected_namespaces=(),
    )

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[pydantic.BaseModel], handler: pydantic.GetCoreSchemaHandler
    ) -> CoreSchema:
        """End a list at its first wrong entry: an error for each of a stranger's millions would fill the memory."""
        schema = handler(source)
        _fail_fast(schema)
        return schema


def to_json(value: Any) -> Any:
    """Return a record as JSON-ready values, without the fields that are left out at their default."""
    if isinstance(value, pydantic.BaseModel):
        fields = type(value).model_fields
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = getattr(type(value), "__pydantic_fields__", {})
    elif isinstance(value, Mapping):
        return {str(key): to_json(entry) for key, entry in value.items()}
    elif isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    else:
        return value
    found = {}
    for name, field in fields.items():
        content = getattr(value, name)
        if OMIT_DEFAULT in field.metadata and content == field.get_default(call_default_factory=True):
            continue
        found[field.alias or name] = to_json(content)
    return found


def as_json(value: Any) -> bytes:
    """Return a record, or JSON-ready values, as readable JSON. Raises ValueError for NaN and infinity."""
    return (json.dumps(to_json(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
