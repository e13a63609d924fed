"""Default recipes of `train` and `extend`; docs/extend-one-class.md gives the reasons."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from clbench.base.config import configure
from clbench.base.recipe import Recipe
from clbench.base.recipe_changes import changed, named
from clbench.errors import UsageError
from clbench.results.run_spec import RecipeSpec
from clbench.system.tables import listed

EXTENDING = Recipe(
    network="given",
    optimizer="sgd",
    lr=0.01,
    momentum=0.9,
    batch_size=32,
    iterations=100,
    batch_norm="given",
)
"""Its length is in steps, not epochs: forgetting grows with the steps, however many images there are."""
EXTENDING_WHOLE = replace(EXTENDING, clip_norm=1.0)
"""Used if more than the head is trained. With fixed statistics, batch normalisation does not compensate for weights
that a few large steps have changed, and everything that the network knew would be lost."""
TRAINING = Recipe(network="given", optimizer="sgd", lr=0.01, momentum=0.9, schedule="cosine", batch_size=32, epochs=10)

_WITHOUT_EFFECT = {
    "network": "the network is the one that is given",
    "normalization": "pixels are normalized as the network was trained",
    "padding": "images are padded as the network was trained",
    "head": "the head grows by the new classes",
    "head_parameters": "the head grows by the new classes",
    "class_order": "all new classes come at once",
    "stream_options": "all new classes come at once",
    "initialization": "the weights are given",
    "optimizer_state": "one experience is trained, so that no state is carried over",
}
"""Fields that neither command uses, and why."""


def chosen_recipe(
    name: str, base: Recipe, values: Mapping[str, Any], epochs: int | None, train: Any, *, extends: bool
) -> RecipeSpec:
    """Return a recipe with the user's changes, to extend a network or to train a first one.

    Raises UsageError for values that have no effect here.
    """
    unused = {**_WITHOUT_EFFECT, "first": "the first experience was trained before"} if extends else _WITHOUT_EFFECT
    if train == "head":
        unused = {**unused, "batch_norm": "with network.train=head only the head is trained"}
    for path in values:
        if why := unused.get(path.partition(".")[0]):
            raise UsageError(f"recipe.{path} has no effect here: {why}")
        first = f"first.{path.rpartition('.')[2]}"
        if first in values and first != path:
            raise UsageError(f"recipe.{path} has no effect here: recipe.{first} takes precedence")
    for path in ("epochs", "iterations", "first.epochs"):
        if epochs is not None and path in values:
            raise UsageError(f"--epochs and --set recipe.{path} are both given", "Give one of them.")
    shortened = base
    if epochs is not None:
        configure(Recipe, {"epochs": epochs}, f"recipe {name}")
        shortened = base.shortened(epochs)
    recipe, differing = changed(shortened, dict(values))
    if shortened != base:  # one epoch is not the recipe's `epochs = 1` if that recipe counts iterations
        differing = {**differing, "epochs": epochs}
    if train == "head" and recipe.augmentation.active:
        raise UsageError(
            "recipe.augmentation has no effect here: with network.train=head the features of each image are computed "
            "once"
        )
    if recipe.schedule == "plateau" and not recipe.validation:
        raise UsageError("recipe.schedule = plateau needs validation data: --set recipe.validation=0.1")
    if recipe.validation and recipe.schedule != "plateau":
        raise UsageError(
            f"recipe.validation = {recipe.validation:g} only leaves out training data here: nothing reads what is held "
            "out but schedule plateau",
            "Set recipe.validation=0, or recipe.schedule=plateau.",
        )
    if not differing:
        return RecipeSpec(name=name, config=recipe)
    return RecipeSpec(name=named(name, differing), base=name, changes=differing, config=recipe)


def check_own_values(paths: Collection[str], trained: Sequence[str]) -> None:
    """Raise UsageError for values that only strategies other than the `trained` ones would use, or none of these."""
    for path in paths:
        field, _, rest = path.partition(".")
        if field == "of_strategy" and rest.rpartition(".")[0] not in trained:
            takes = "takes" if len(trained) == 1 else "take"
            raise UsageError(f"recipe.{path} has no effect here: only {listed(trained)} {takes} gradient steps")
        if all(f"of_strategy.{name}.{path}" in paths for name in trained):
            raise UsageError(f"recipe.{path} has no effect here: of_strategy has a value for {listed(trained)}")
