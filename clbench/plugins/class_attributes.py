"""Checks the attributes of a plug-in's class, so that a wrong one is reported by name before anything is planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Len
from pydantic import InstanceOf, StrictInt, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from clbench.base.recipe import Recipe
from clbench.errors import PluginError
from clbench.plugins.discovery import Kind, Plugin


class _Preset(TypedDict, total=False):
    """The parts of a published variant that take effect; the others are only shown."""

    set: Mapping[str, Any]
    in_setting: Mapping[str, Mapping[str, Any]]


_SHAPES: Mapping[Kind, Mapping[str, tuple[Any, str]]] = {
    "strategy": {
        "reference": (Literal["lower", "upper"] | None, "'lower' or 'upper'"),
        "presets": (
            Mapping[str, _Preset],
            "a dictionary of variants by name, each a dictionary: {'paper': {'set': {'alpha': 2}}}",
        ),
        "in_recipe": (
            Mapping[str, Mapping[str, Any]],
            "a dictionary of hyper-parameters by recipe, each a dictionary: {'quick': {'alpha': 2}}",
        ),
        "stability": (tuple[str, float] | None, "the name of a hyper-parameter and a number: ('alpha', 10)"),
        "memory_field": (str, "the name of a hyper-parameter"),
        "statistics": (Literal["small", "large"] | None, "'small' or 'large'"),
    },
    "scenario": {
        "version": (StrictInt, "an integer"),
        "images": (str, "the name of a folder"),
        "image_size": (StrictInt | None, "an integer"),
        "stream": (str, "the name of a kind of stream"),
        "stream_options": (Mapping[str, Any], "a dictionary of options by name"),
        "setting": (str, "'class', 'task' or 'domain'"),
        "dataset": (str, "the name of a dataset"),
        "recipes": (
            Annotated[Mapping[str, InstanceOf[Recipe]], Len(min_length=1)],
            "a dictionary of recipes by name: {'quick': clbench.Recipe(epochs=2)}",
        ),
    },
}
"""The type of each attribute, and a description of it."""


def check_class(plugin: Plugin, made: type[Any]) -> None:
    """Raise PluginError if an attribute of a strategy's or scenario's class is missing or has the wrong type."""
    for name, (_, words) in _SHAPES[plugin.kind].items():
        if not hasattr(made, name) and not (name == "dataset" and made.benchmark is not None):
            raise PluginError(f"{plugin.path}: {name} is missing, and must be {words}")
    _check(plugin, {name: getattr(made, name) for name in _SHAPES[plugin.kind] if hasattr(made, name)})


def check_literals(plugin: Plugin) -> None:
    """Raise PluginError for an attribute of the wrong type, among those that are literals: the file is not run."""
    _check(plugin, plugin.attributes)


def _check(plugin: Plugin, attributes: Mapping[str, Any]) -> None:
    for name, (kind, words) in _SHAPES.get(plugin.kind, {}).items():
        if name in attributes:
            try:
                TypeAdapter(kind).validate_python(attributes[name])
            except ValidationError:
                raise PluginError(f"{plugin.path}: {name} must be {words} (got {attributes[name]!r:.200})") from None
