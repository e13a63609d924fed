"""Apply the values that the user sets to a recipe: `--set recipe.lr=0.05`, `--set recipe.augmentation.crop=4`.

A value that is set applies in every experience and for every strategy: the recipe's own values for it in `first` and
`of_strategy` are dropped. A value that would have no effect with the rest of the recipe is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, cast

from clbench.base.config import configure, plain
from clbench.base.recipe import Augmentation, Overrides, Recipe
from clbench.errors import UsageError
from clbench.system.suggestions import did_you_mean

_LONGEST_NAME = 48

_NESTED: dict[str, type[Any]] = {"augmentation": Augmentation, "first": Overrides}

_NEEDS: dict[str, tuple[str, Callable[[Recipe], Any]]] = {
    "momentum": ("optimizer sgd or rmsprop", lambda recipe: recipe.optimizer in ("sgd", "rmsprop")),
    "milestones": ("schedule milestones", lambda recipe: recipe.schedule == "milestones"),
    "divisor": ("schedule milestones or plateau", lambda recipe: recipe.schedule in ("milestones", "plateau")),
    "patience": ("schedule plateau", lambda recipe: recipe.schedule == "plateau"),
    "lr_min": ("schedule plateau", lambda recipe: recipe.schedule == "plateau"),
    "restart_epochs": ("schedule warm_restarts", lambda recipe: recipe.schedule == "warm_restarts"),
    "restart_factor": ("schedule warm_restarts", lambda recipe: recipe.schedule == "warm_restarts"),
    "initialization": (
        "a residual network",
        lambda recipe: recipe.initialization != "torch" or recipe.network.startswith("resnet"),
    ),
    "head_parameters": ("head fixed", lambda recipe: recipe.head == "fixed"),
    "epochs": ("iterations 0, since iterations replace epochs", lambda recipe: not recipe.iterations),
    "warmup_epochs": (
        "a schedule other than plateau, and more epochs than that",
        lambda recipe: recipe.schedule != "plateau" and (recipe.iterations or recipe.warmup_epochs < recipe.epochs),
    ),
}
"""What some fields need to have an effect, in words and as a condition."""


def changed(recipe: Recipe, values: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe with these values by path (`lr`, `first.epochs`), and every value that then differs in it.

    Values may be strings as typed on a command line. Raises UsageError for a path or value that a recipe cannot have,
    and for one that would have no effect.
    """
    after = plain(_without_overrides(recipe, values))
    for path, value in values.items():
        _put(after, _checked(path), _typed(path, value))
    made = configure(Recipe, after, "recipe")
    for path in values:
        needed, met = _NEEDS.get(path.rpartition(".")[2], ("", lambda _: True))
        if not met(made):
            raise UsageError(f"recipe.{path} has no effect here: it needs {needed}")
    if "schedule" in values and made.schedule == "milestones" and not made.milestones:
        raise UsageError(
            "recipe.schedule = milestones needs recipe.milestones, for example --set recipe.milestones=2,3"
        )
    before, result = by_path(plain(recipe)), by_path(plain(made))
    return made, {path: value for path, value in result.items() if value != before.get(path)}


def named(recipe: str, values: Mapping[str, Any]) -> str:
    """Return the name of a recipe with these values: `quick-lr0.05`. A long one ends with a hash of the values."""
    texts = [f"{_path_in_a_name(path)}{_text(value)}" for path, value in values.items()]
    name = "-".join([recipe, *texts])
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _path_in_a_name(path: str) -> str:
    if path in ("network", "stream"):
        return ""
    return path.removeprefix("network.").removeprefix("stream.").replace(".", "_")


def _text(value: Any) -> str:
    return "+".join(map(_text, value)) if isinstance(value, (list, tuple)) else f"{value}"


def _without_overrides(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe without its own overrides of the values that are set for all experiences and strategies."""
    names = {field.name for field in dataclasses.fields(cast(Any, Overrides))} & set(values)
    dropped: dict[str, Any] = dict.fromkeys(names)
    first = dataclasses.replace(cast(Any, recipe.first), **dropped)
    others = {name: dataclasses.replace(cast(Any, own), **dropped) for name, own in recipe.of_strategy.items()}
    return cast(Recipe, dataclasses.replace(cast(Any, recipe), first=first, of_strategy=others))


def _checked(path: str) -> list[str]:
    """Return the parts of a path. Raises UsageError if a recipe has no such field."""
    parts = path.split(".")
    if parts[0] == "network_config":
        raise UsageError(f"recipe.{path}: set the network's hyper-parameters with --set network.NAME=VALUE")
    if parts[0] == "stream_options":
        raise UsageError(f"recipe.{path}: set the stream's options with --set stream.NAME=VALUE")
    if parts[0] == "of_strategy" and len(parts) == 3:
        _require(Overrides, parts[2], path)
    elif parts[0] in _NESTED and len(parts) == 2:
        _require(_NESTED[parts[0]], parts[1], path)
    elif len(parts) == 1 and parts[0] not in (*_NESTED, "of_strategy"):
        _require(Recipe, parts[0], path)
    elif parts[0] in _NESTED and len(parts) == 1:
        raise UsageError(f"recipe.{path} has fields of its own, for example recipe.{path}.{_names(_NESTED[path])[0]}")
    else:
        raise UsageError(f"a recipe has no field '{path}'", "Nested fields: recipe.first.lr, recipe.of_strategy.lwf.lr")
    return parts


def _require(cls: type[Any], name: str, path: str) -> None:
    renamed = getattr(cls, "renamed", {})
    if name in renamed:
        raise UsageError(f"recipe.{path} is now called recipe.{path.removesuffix(name)}{renamed[name]}")
    names = _names(cls)
    if name not in names:
        raise UsageError(f"a recipe has no field '{path}'{did_you_mean(name, names)} (known: {', '.join(names)})")


def _names(cls: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _typed(path: str, value: Any) -> Any:
    """Return a value in the form that is checked: `10,20` stands for a list, and `none` for no value."""
    if isinstance(value, str) and path.endswith("milestones"):
        return [part for part in value.split(",") if part]
    return None if isinstance(value, str) and value.lower() == "none" and path != "network" else value


def _put(values: dict[str, Any], parts: list[str], value: Any) -> None:
    for part in parts[:-1]:
        values = values.setdefault(part, {})
    values[parts[-1]] = value


def by_path(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every value of a recipe by its path, in the order of the fields."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= by_path(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
