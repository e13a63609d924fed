"""`--set recipe.NAME=VALUE`: it acts, it shows in the name of the runs, and a grid searches over it."""

from __future__ import annotations

from pathlib import Path

import pytest

import clbench
from clbench.comparison.grouping import compare
from clbench.reporting.provenance import commands
from clbench.results.run_spec import canonical


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


def test_a_grid_searches_over_a_value_of_the_recipe(data: Path, tmp_path: Path) -> None:
    values = {"recipe.lr": "0.000001,0.005"}
    (run,) = clbench.run("naive", "splitdigits", epochs=1, threads=1, set=values, tune="grid", out=tmp_path, data=data)
    assert "lr0_005" in run.path.name  # with a millionth nothing is learned


def test_epochs_are_given_once(data: Path, tmp_path: Path) -> None:
    with pytest.raises(clbench.UsageError, match="are both given"):
        clbench.run("naive", "splitdigits", epochs=1, set={"recipe.epochs": 2}, out=tmp_path, data=data)
