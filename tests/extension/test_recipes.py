"""Which recipe `train` and `extend` use, what it is called, and what of it has an effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import clbench
from clbench.api.extending import plan_extension, plan_training
from clbench.base.recipe import Recipe
from clbench.errors import UsageError
from clbench.extension.recipes import EXTENDING, TRAINING, chosen_recipe
from clbench.extension.requests import ExtendRequest, TrainRequest
from clbench.results.run_spec import RecipeSpec


def first_recipe(values: dict[str, Any], epochs: int | None = None) -> RecipeSpec:
    return chosen_recipe("train", TRAINING, values, epochs, "all", extends=False)


@pytest.mark.parametrize(("name", "base", "extends"), [("train", TRAINING, False), ("extend", EXTENDING, True)])
def test_images_that_would_only_be_left_out_of_training_are_not_held_out(
    name: str, base: Recipe, extends: bool
) -> None:
    with pytest.raises(UsageError, match="only leaves out training data here"):
        chosen_recipe(name, base, {"validation": 0.2}, None, "all", extends=extends)
    followed = {"validation": 0.2, "schedule": "plateau"}
    assert chosen_recipe(name, base, followed, None, "all", extends=extends).config.validation == 0.2


def test_one_epoch_is_not_the_usual_number_of_steps():
    usual, once = (chosen_recipe("extend", EXTENDING, {}, epochs, "head", extends=True) for epochs in (None, 1))
    assert (usual.name, usual.config.length) == ("extend", "100 steps")
    assert (once.name, once.config.length) == ("extend-epochs1", "1 epoch")
    assert (once.base, once.changes) == ("extend", {"epochs": 1})


def test_as_many_epochs_as_usual_are_the_usual_recipe():
    assert first_recipe({}, 10) == first_recipe({}, None)


def test_milestones_are_epochs_of_those_that_are_asked_for():
    values = {"schedule": "milestones", "milestones": "2,4"}
    assert first_recipe(values, 6).config.milestones == (2, 4)


def test_a_warm_up_that_is_longer_than_the_epochs_that_are_asked_for_is_refused():
    with pytest.raises(UsageError, match=r"recipe\.warmup_epochs has no effect here: it needs .* more epochs"):
        first_recipe({"warmup_epochs": 5}, 3)


# -- what has an effect -----------------------------------------------------------------------------------------------

NEITHER = [
    ({"recipe.optimizer_state": "carried"}, "recipe.optimizer_state .* no state is carried over"),
    ({"recipe.head_parameters": "per_experience"}, "recipe.head_parameters .* the head grows"),
    ({"recipe.stream_options.samples": 5}, "recipe.stream_options.samples .* classes come at once"),
    ({"recipe.of_strategy.lwf.lr": 0.5}, "recipe.of_strategy.lwf.lr .* only naive takes gradient steps"),
    ({"recipe.of_strategy.naive.lr": 0.5, "recipe.lr": 0.1}, "recipe.lr .* of_strategy has a value for naive"),
    ({"recipe.batch_norm": "training", "network.train": "head"}, "recipe.batch_norm .* only the head is trained"),
    ({"stream.samples": 5}, "stream.samples .* all classes come at once"),
]
"""What neither command uses, and what it says of it."""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        *NEITHER,
        ({"recipe.first.lr": 0.5}, "recipe.first.lr .* the first experience was trained before"),
        ({"recipe.first.epochs": 2}, "recipe.first.epochs .* the first experience was trained before"),
    ],
)
def test_what_has_no_effect_on_an_extension_is_refused(model, photos, tmp_path, values, said):
    with pytest.raises(UsageError, match=said.replace(" .* ", " has no effect here: .*")):
        plan_extension(
            ExtendRequest(source=model, images=photos.one, out=tmp_path / "out", strategy=("naive", "ncm"), set=values)
        )


@pytest.mark.parametrize(
    ("values", "said"),
    [*NEITHER, ({"recipe.first.lr": 0.5, "recipe.lr": 0.1}, "recipe.lr .* recipe.first.lr takes precedence")],
)
def test_what_has_no_effect_on_a_first_network_is_refused(photos, tmp_path, values, said):
    with pytest.raises(UsageError, match=said.replace(" .* ", " has no effect here: .*")):
        plan_training(TrainRequest(images=photos.base, network="mlp", out=tmp_path / "out", set=values))


def test_epochs_of_the_only_experience_are_given_once():
    with pytest.raises(UsageError, match=r"--epochs and --set recipe\.first\.epochs are both given"):
        first_recipe({"first.epochs": 2}, 3)


def weights(folder: Path) -> str:
    return clbench.load_network(folder).record.weights_sha256


@pytest.mark.parametrize("train", ["all", "head"])
@pytest.mark.parametrize(("name", "bias"), [("lecun", 0.0), ("truncated_normal", 0.1)])
def test_rows_of_new_classes_are_drawn_as_the_recipe_says(model, photos, tmp_path, train, name, bias):
    values = {"network.train": train, "recipe.head_initialization": name}
    still = {"recipe.lr": 1e-9, "recipe.iterations": 1}  # so that the rows stay as they were drawn
    clbench.extend(model, photos.three, strategy="naive", set=values | still, out=tmp_path / "out", threads=1)
    drawn = clbench.load_network(tmp_path / "out").classifier.bias[7:]
    assert drawn.tolist() == pytest.approx([bias] * 3, abs=1e-6)


def test_what_is_set_for_one_strategy_trains_that_one(model, photos, tmp_path):
    for values in ({"recipe.of_strategy.naive.lr": 0.03}, {"recipe.lr": 0.03}, {}):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        clbench.extend(model, photos.one, strategy="naive", set=values, out=out, threads=1)
    own, everywhere, usual = (weights(tmp_path / f"out{index}") for index in range(3))
    assert own == everywhere != usual


@pytest.mark.parametrize("values", [{"recipe.first.lr": 0.03}, {"recipe.head_initialization": "lecun"}])
def test_what_applies_to_the_first_experience_trains_a_first_network(photos, tmp_path, values):
    for name, given in (("usual", {}), ("own", values)):
        out = tmp_path / name
        clbench.train(photos.base, network="mlp", size=8, epochs=1, prepare="none", set=given, out=out, threads=1)
    assert weights(tmp_path / "own") != weights(tmp_path / "usual")
