"""Recipe values that the user sets: by path, checked, never silently without effect, and visible in the name."""

from __future__ import annotations

from typing import Any

import pytest

from clbench.base.recipe import Augmentation, Overrides, Recipe
from clbench.base.recipe_changes import changed, named
from clbench.errors import UsageError


def test_values_are_set_by_path_and_typed() -> None:
    recipe = Recipe(epochs=4, schedule="milestones", milestones=(1,))
    values = {"lr": "0.05", "augmentation.crop": "4", "first.epochs": "10", "milestones": "2,3.5", "drop_last": "true"}
    made, differing = changed(recipe, values)
    assert (made.lr, made.milestones, made.drop_last, made.epochs) == (0.05, (2.0, 3.5), True, 4)
    assert made.augmentation == Augmentation(crop=4) and made.first.epochs == 10
    assert differing == {
        "lr": 0.05,
        "augmentation.crop": 4,
        "first.epochs": 10,
        "milestones": [2.0, 3.5],
        "drop_last": True,
    }


def test_what_is_set_holds_for_every_strategy_and_experience() -> None:
    recipe = Recipe(first=Overrides(lr=0.5, epochs=9), of_strategy={"lwf": Overrides(lr=0.01, epochs=7)})
    made, _ = changed(recipe, {"lr": 0.2})
    assert made.for_strategy("lwf").at(0).lr == made.for_strategy("lwf").at(1).lr == made.at(0).lr == 0.2
    assert made.for_strategy("lwf").at(1).epochs == 7 and made.at(0).epochs == 9


def test_everything_that_becomes_different_is_named_in_the_order_of_the_fields() -> None:
    recipe = Recipe(lr=0.1, first=Overrides(lr=0.5))
    assert changed(recipe, {"lr": 0.1})[1] == {"first.lr": None}
    orders = [{"momentum": 0.5, "lr": 0.05}, {"lr": 0.05, "momentum": 0.5}]
    assert [list(changed(recipe, values)[1]) for values in orders] == [["lr", "momentum", "first.lr"]] * 2


def test_what_is_different_makes_the_recipe_again() -> None:
    recipe = Recipe(lr=0.1, first=Overrides(lr=0.5), of_strategy={"lwf": Overrides(lr=0.2, epochs=3)})
    made, differing = changed(recipe, {"lr": 0.3, "of_strategy.ewc.epochs": 2, "augmentation.flip": True})
    assert changed(recipe, differing) == (made, differing)


def test_one_strategys_exception_can_be_set_by_its_own_path() -> None:
    made, _ = changed(Recipe(), {"lr": 0.2, "of_strategy.lwf.lr": 0.05})
    assert made.for_strategy("lwf").lr == 0.05 and made.for_strategy("naive").lr == 0.2


def test_a_value_that_is_the_recipes_own_changes_nothing() -> None:
    recipe = Recipe(lr=0.3)
    assert changed(recipe, {"lr": "0.3"}) == (recipe, {})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lrr": 1}, "a recipe has no field 'lrr'; did you mean 'lr'"),
        ({"lr": "-1"}, "recipe.lr must be greater than 0 (got '-1')"),
        ({"lr": "fast"}, "recipe.lr must be a valid number"),
        ({"first.foo": 1}, "a recipe has no field 'first.foo'"),
        ({"first": 1}, "recipe.first has fields of its own, for example recipe.first.epochs"),
        ({"of_strategy.lwf": 1}, "a recipe has no field 'of_strategy.lwf'"),
        ({"optimizer": "adan"}, "recipe.optimizer must be 'sgd', 'adam'"),
        ({"optimizer": "adam", "momentum": 0.9}, "recipe.momentum has no effect here: it needs optimizer sgd or rms"),
        ({"milestones": "1,2"}, "recipe.milestones has no effect here: it needs schedule milestones"),
        ({"schedule": "milestones"}, "recipe.schedule = milestones needs recipe.milestones"),
        ({"first.milestones": "2"}, "recipe.first.milestones has no effect here: it needs schedule milestones"),
        ({"iterations": 9, "of_strategy.lwf.epochs": 3}, "recipe.of_strategy.lwf.epochs has no effect here: it nee"),
        ({"warmup_epochs": 5, "epochs": 2}, "recipe.warmup_epochs has no effect here: it needs a schedule other than"),
        ({"initialization": "torch"}, "recipe.initialization has no effect here: it needs a residual network"),
        ({"patience": 3}, "recipe.patience has no effect here: it needs schedule plateau"),
        ({"restart_epochs": 3}, "recipe.restart_epochs has no effect here: it needs schedule warm_restarts"),
        ({"iterations": 100, "epochs": 3}, "recipe.epochs has no effect here: it needs iterations 0"),
    ],
)
def test_what_cannot_be_set_is_refused_with_a_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        changed(Recipe(), values)
    assert refused.value.message.startswith(message)


def test_a_name_says_what_differs_and_stays_short() -> None:
    assert named("quick", {}) == "quick"
    assert named("quick", {"lr": 0.05, "augmentation.crop": 4}) == "quick-lr0.05-augmentation_crop4"
    many = {"optimizer": "rmsprop", "schedule": "warm_restarts", "lr": 0.001}
    long, other = named("standard", many), named("standard", {**many, "lr": 0.002})
    assert len(long) == 48 and long.startswith("standard-optimizerrmsprop") and long != other


def test_the_networks_hyper_parameters_are_not_set_through_the_recipe() -> None:
    for path in ("network_config", "network_config.units"):
        with pytest.raises(UsageError, match=r"hyper-parameters with --set network\.NAME=VALUE"):
            changed(Recipe(), {path: "3"})
