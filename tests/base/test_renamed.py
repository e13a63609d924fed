"""Names from earlier versions: each raises an error that gives the new name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import clbench
from clbench.base.batch import Batch
from clbench.base.experience import Experience
from clbench.base.strategy import RENAMED_HOOKS
from clbench.errors import PluginError


@pytest.mark.parametrize(("old", "new"), RENAMED_HOOKS.items())
def test_a_strategy_with_a_hook_of_an_old_name_is_refused_with_the_new_name(old: str, new: str) -> None:
    with pytest.raises(PluginError, match=rf"Mine\.{old} is now called {new}"):
        type("Mine", (clbench.Strategy,), {old: lambda self: None})


@pytest.mark.parametrize("new", [new for old, new in RENAMED_HOOKS.items() if old != "plugins"])
def test_a_hook_of_the_new_name_is_accepted_and_exists(new: str) -> None:
    assert callable(getattr(clbench.Strategy, new))
    type("Mine", (clbench.Strategy,), {new: lambda self: None})


def test_the_old_name_of_the_teachers_outputs_in_a_batch_says_the_new_one() -> None:
    nothing: Any = torch.zeros(1)
    batch = Batch(nothing, nothing, nothing, nothing, nothing, nothing, Experience(0, (2,)))
    with pytest.raises(PluginError, match=r"batch\.recorded is now called batch\.teacher_outputs"):
        _ = batch.recorded


def test_the_old_name_of_overrides_says_the_new_one() -> None:
    with pytest.raises(AttributeError, match=r"clbench\.Changes is now called clbench\.Overrides"):
        _ = clbench.Changes  # type: ignore[attr-defined]
