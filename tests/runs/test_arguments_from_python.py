"""Arguments of `clbench.run`: what the command line accepts as text, in the types that are natural in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clbench
from clbench.errors import PluginError, UsageError
from clbench.results.run_spec import RunSpec
from clbench.runs.planned_runs import plan
from clbench.runs.request import Request

ORDER = (9, 8, 7, 6, 5, 4, 3, 2, 1, 0)


def planned(data: Path, **given: Any) -> RunSpec:
    arguments = {"strategy": "naive", "scenario": "splitdigits", "device": "cpu", "data": data, **given}
    (run,) = plan(Request.from_python(arguments), lambda event: None)
    return run.spec


@pytest.mark.parametrize("split", ["8,1,1", [8, 1, 1], (8, 1, 1), np.array([8, 1, 1])])
def test_a_split_is_taken_as_text_or_as_numbers(split: Any, data: Path) -> None:
    assert planned(data, split=split).scenario.classes_per_experience == (8, 1, 1)


def test_one_number_is_a_number_of_experiences_and_a_list_of_one_is_a_size(data: Path) -> None:
    assert planned(data, split=5).scenario.classes_per_experience == (2,) * 5
    assert planned(data, split=np.int64(5)).scenario.classes_per_experience == (2,) * 5
    assert planned(data, split=[10]).scenario.classes_per_experience == (10,)


@pytest.mark.parametrize("order", ["9,8,7,6,5,4,3,2,1,0", list(ORDER), ORDER, np.array(ORDER)])
def test_a_class_order_is_taken_as_text_or_as_numbers(order: Any, data: Path) -> None:
    assert planned(data, class_order=order).scenario.class_order == ORDER


def test_a_strategy_and_a_scenario_may_be_paths(data: Path, tmp_path: Path) -> None:
    strategy, scenario = tmp_path / "mine.py", tmp_path / "own.py"
    strategy.write_text("import clbench\nclass Mine(clbench.Strategy):\n    def loss(self, batch): ...\n")
    scenario.write_text(
        "import clbench\nclass Own(clbench.Scenario):\n    dataset, split = 'digits', [4, 3, 3]\n"
        "    class_order = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]\n"
        "    recipes = {'quick': clbench.Recipe(network='mlp', optimizer='sgd', lr=0.1, batch_size=8, epochs=1)}\n"
    )
    for path in (strategy, [strategy]):
        assert planned(data, strategy=path).strategy.name == "mine"
    own = planned(data, scenario=scenario).scenario
    assert (own.classes_per_experience, own.class_order) == ((4, 3, 3), ORDER)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"split": 2.5}, "split must be a string, an integer or a list"),
        ({"split": [5, 2.5]}, "split must be"),
        ({"split": True}, "split must be"),
        ({"class_order": [0.5]}, "class_order must be"),
        ({"device": 0}, "device must be a string (got 0)"),
        ({"epochs": "many"}, "epochs must be an integer"),
        ({"epochs": True}, "epochs must be an integer"),
        ({"threads": 1.5}, "threads must be an integer"),
        ({"recipe": 3}, "recipe must be a string"),
        ({"recipe": ""}, "recipe is an empty text"),
        ({"out": " "}, "out is an empty text"),
        ({"strategy": 3}, "strategy must be a name, a path, or a list of them"),
        ({"scenario": None}, "scenario must be a name"),
        ({"share": 1}, "share must be True or False"),
        ({"data": 3}, "data must be a path"),
        ({"set": ["alpha"]}, "set must be a mapping"),
        ({"seeds": "1.5"}, "seeds"),
        ({"seed": 1.5}, "seed must be an integer"),
    ],
)
def test_an_argument_of_another_type_is_a_usage_error_that_names_it(
    given: dict[str, Any], said: str, data: Path
) -> None:
    with pytest.raises(UsageError) as raised:
        clbench.run(**{"strategy": "naive", "scenario": "splitdigits", "data": data, **given})
    assert said in str(raised.value)


def test_an_attribute_of_a_scenario_file_of_another_type_is_named(data: Path, tmp_path: Path) -> None:
    scenario = tmp_path / "own.py"
    scenario.write_text(
        "import clbench\nclass Own(clbench.Scenario):\n    dataset, split = 'digits', 2.5\n"
        "    recipes = {'quick': clbench.Recipe(network='mlp', optimizer='sgd', lr=0.1, batch_size=8, epochs=1)}\n"
    )
    with pytest.raises(PluginError, match=r"own.py: split must be a string, an integer or a list"):
        planned(data, scenario=scenario)
