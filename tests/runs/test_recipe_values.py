"""`--set recipe.NAME=VALUE`: it acts, it shows in the name of the runs, and a grid searches over it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

import clbench
from clbench.cli.app import application
from clbench.comparison.grouping import compare
from clbench.errors import UsageError
from clbench.plugins.networks import build
from clbench.reporting.provenance import commands
from clbench.results.run_spec import canonical
from clbench.runs.planned_runs import plan
from clbench.runs.request import Request
from clbench.runs.request import options as options_of_a_run


@pytest.mark.slow
def test_what_is_set_acts_and_shows_in_the_recipes_name(data: Path, tmp_path: Path) -> None:
    changes = {"lr": 0.002, "clip_norm": 0.01, "optimizer": "adamw"}
    values = {f"recipe.{path}": value for path, value in changes.items()}
    changed = clbench.run("naive", "splitdigits", epochs=1, threads=1, set=values, out=tmp_path, data=data)
    plain = clbench.run("naive", "splitdigits", epochs=1, threads=1, out=tmp_path, data=data)
    (one,), (other,) = changed, plain
    assert one.path.name.startswith("quick-epochs1-optimizeradamw-lr0_002-")
    assert other.path.name.startswith("quick-epochs1-seed0")
    assert one.spec.recipe.base == "quick-epochs1" and one.spec.recipe.changes == changes
    hashes = [run.result.experiences[0].weights_sha256 for run in (one, other)]
    assert hashes[0] != hashes[1]


def test_the_report_has_the_command_that_sets_it_again(data: Path, tmp_path: Path) -> None:
    values = {"recipe.lr": 0.002, "recipe.schedule": "milestones", "recipe.milestones": "1,2"}
    runs = clbench.run("naive", "splitdigits", epochs=3, threads=1, set=values, out=tmp_path, data=data)
    (comparison,) = compare(list(runs))
    (command,) = commands(comparison)
    assert "--recipe quick " in command and "--epochs 3" in command
    assert "--set recipe.lr=0.002 --set recipe.schedule=milestones --set recipe.milestones=1.0,2.0" in command
    assert "clip_norm" not in canonical(runs[0].spec).decode()


def test_the_report_has_the_command_that_chooses_the_network_again(data: Path, tmp_path: Path) -> None:
    values = {"network.train": "head", "network.size": 12, "recipe.lr": 0.002}
    options = {"network": "cnn", "epochs": 1, "threads": 1, "device": "cpu", "data": data}
    runs = clbench.run("naive", "splitdigits", set=values, out=tmp_path / "one", **options)
    (command,) = commands(compare(list(runs))[0])
    assert "--network cnn" in command
    assert "--set network.train=head" in command and "--set network.size=12" in command
    assert "--set recipe.lr=0.002" in command and "recipe.network" not in command
    (title,) = {comparison.title for comparison in compare(list(runs))}
    assert "recipe quick-epochs1-lr0.002, cnn, head only, 12 px, cpu" in title
    again = Request.from_command_line(_given(command) | {"data": data, "out": tmp_path / "two"})
    assert [run.name for run in plan(again, lambda event: None)] == [
        run.path.relative_to(tmp_path / "one").as_posix() for run in runs
    ]


def _given(command: str) -> dict[str, Any]:
    """The options of `clbench run` as typed."""
    context = typer.main.get_command(application()).commands["run"].make_context("run", shlex.split(command)[2:])  # type: ignore[attr-defined]
    return {name: value for name, value in context.params.items() if name in options_of_a_run()}


def test_a_strategy_can_have_other_hyper_parameters_under_a_recipe_of_a_name(data: Path, tmp_path: Path) -> None:
    def projections(recipe_file: str, **given: Any) -> Any:
        (tmp_path / "some.py").write_text(
            "import clbench\nclass Some(clbench.Scenario):\n    dataset, split = 'digits', '5'\n"
            f"    recipes = {{'{recipe_file}': clbench.Recipe()}}\n"
        )
        asked = {"strategy": "ranpac", "scenario": tmp_path / "some.py", "device": "cpu", "data": data, **given}
        (run,) = plan(Request.from_python(asked), lambda event: None)
        return run.spec.strategy.config["projections"]

    assert projections("quick") == 2000
    assert projections("quick", epochs=2) == 2000
    assert projections("standard") == 10_000
    assert projections("quick", set={"projections": 500}) == 500


@pytest.mark.slow
@pytest.mark.parametrize(("given", "chosen"), [({}, "default"), ({"expansion": 64}, "by hand")])
def test_what_a_strategy_has_under_a_recipe_is_not_taken_for_the_users_choice(
    given: dict[str, Any], chosen: str, data: Path, tmp_path: Path
) -> None:
    options = {"epochs": 1, "threads": 1, "device": "cpu", "data": data, "out": tmp_path}
    (run,) = clbench.run("acil", "splitdigits", set=given, split=1, **options)
    assert run.result.strategy.chosen == chosen


@pytest.mark.slow
def test_a_grid_searches_over_a_value_of_the_recipe(data: Path, tmp_path: Path) -> None:
    values = {"recipe.lr": "0.000001,0.005"}
    (run,) = clbench.run("naive", "splitdigits", epochs=1, threads=1, set=values, tune="grid", out=tmp_path, data=data)
    assert "lr0_005" in run.path.name  # with a millionth nothing is learned


def test_epochs_are_given_once(data: Path, tmp_path: Path) -> None:
    with pytest.raises(clbench.UsageError, match="are both given"):
        clbench.run("naive", "splitdigits", epochs=1, set={"recipe.epochs": 2}, out=tmp_path, data=data)


def test_initial_weights_are_not_drawn_for_a_network_that_has_some(data: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    torch.save(build("mlp", (8, 8, 1), 0).blocks.state_dict(), weights)
    changes = {"recipe.initialization": "xavier_uniform"}
    request = Request(["naive"], ["splitdigits"], set=changes, weights=weights, data=data)
    with pytest.raises(UsageError, match=r"recipe\.initialization has no effect here: mlp has its weights already"):
        plan(request, lambda event: None)
