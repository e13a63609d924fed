"""The published JSON schemas: they are those of the models, and every field has a description."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from clbench.results.json_schemas import FOLDER, json_schemas

RENEW = "run: python -m clbench.results.json_schemas"


@pytest.mark.parametrize("file", sorted(json_schemas()))
def test_the_published_schema_is_that_of_the_model(file: str) -> None:
    assert (FOLDER / file).read_text() == json_schemas()[file], RENEW


def test_nothing_else_is_published() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(json_schemas())


@pytest.mark.parametrize("file", sorted(json_schemas()))
def test_every_field_says_what_it_is(file: str) -> None:
    schema = json.loads(json_schemas()[file])
    assert all(record.get("description") for record in (schema, *schema["$defs"].values()))
    assert [name for name, field in fields(schema) if not field.keys() & {"description", "$ref"}] == []


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for title, record in {"": schema, **schema["$defs"]}.items():
        for name, field in record.get("properties", {}).items():
            yield f"{title}.{name}", field
