"""Which recipe `train` and `extend` use, what it is called, and what of it has an effect."""

from __future__ import annotations

import pytest

from clbench.errors import UsageError
from clbench.extension.recipes import EXTENDING, TRAINING, chosen_recipe


def test_one_epoch_is_not_the_usual_number_of_steps():
    usual, once = (chosen_recipe("extend", EXTENDING, {}, epochs, "head") for epochs in (None, 1))
    assert (usual.name, usual.config.length) == ("extend", "100 steps")
    assert (once.name, once.config.length) == ("extend-epochs1", "1 epoch")
    assert (once.base, once.changes) == ("extend", {"epochs": 1})


def test_as_many_epochs_as_usual_are_the_usual_recipe():
    assert chosen_recipe("train", TRAINING, {}, 10, "all") == chosen_recipe("train", TRAINING, {}, None, "all")


def test_milestones_are_epochs_of_those_that_are_asked_for():
    values = {"schedule": "milestones", "milestones": "2,4"}
    assert chosen_recipe("train", TRAINING, values, 6, "all").config.milestones == (2, 4)


def test_a_warm_up_that_is_longer_than_the_epochs_that_are_asked_for_is_refused():
    with pytest.raises(UsageError, match=r"recipe\.warmup_epochs has no effect here: it needs .* more epochs"):
        chosen_recipe("train", TRAINING, {"warmup_epochs": 5}, 3, "all")
