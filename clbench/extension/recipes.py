"""Default recipes of `train` and `extend`; docs/extend-one-class.md gives the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from clbench.base.config import configure
from clbench.base.recipe import Recipe
from clbench.base.recipe_changes import changed, named
from clbench.errors import UsageError
from clbench.results.run_spec import RecipeSpec

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


def chosen_recipe(name: str, base: Recipe, values: Mapping[str, Any], epochs: int | None, train: Any) -> RecipeSpec:
    """Return a recipe with the user's changes. Raises UsageError for values that have no effect here."""
    for field, why in {
        "network": "the network is the one that is given",
        "normalization": "pixels are normalized as the network was trained",
        "padding": "images are padded as the network was trained",
        "head": "the head grows by the new classes",
        "class_order": "all new classes come at once",
        "initialization": "the weights are given",
    }.items():
        if field in values:
            raise UsageError(f"recipe.{field} has no effect here: {why}")
    if epochs is not None and "epochs" in values:
        raise UsageError("--epochs and --set recipe.epochs are both given", "Give one of them.")
    if epochs is not None and "iterations" in values:
        raise UsageError("--epochs and --set recipe.iterations are both given", "Give one of them.")
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
    if not differing:
        return RecipeSpec(name=name, config=recipe)
    return RecipeSpec(name=named(name, differing), base=name, changes=differing, config=recipe)
