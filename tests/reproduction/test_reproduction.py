"""Published numbers: the targets' file, which runs answer a cell, and when two means agree."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import stored_runs

from clbench.base.incremental_setting import READINGS, Setting
from clbench.data.datasets import data_folder, describe
from clbench.errors import UsageError
from clbench.evaluation.counts import count
from clbench.plugins.discovery import builtin_folder, discover, select
from clbench.reproduction import table
from clbench.reproduction.campaign import chosen, plan_targets
from clbench.reproduction.targets import Cell, Target, cells, targets
from clbench.results.run_spec import experience_classes
from clbench.results.stored_run import StoredRun
from clbench.runs.request import Request

TARGET = Target(
    protocol="paper",
    method="LwF",
    setting="class_incremental",
    strategy="lwf:pycil",
    values={},
    scenario="splitdigits",
    recipe="quick",
    tune="",
    metric="final_accuracy",
    mean=50.0,
    spread=3.0,
    spread_is="sd",
    n=9,
    source="a paper",
    read="primary",
    finding="",
)
SOURCE = b"""
import clbench

@clbench.config
class Config:
    alpha: float = 1.0
    beta: float = 2.0

class LwF(clbench.Strategy[Config]):
    presets = {
        "li2016": {"loss": "a", "source": "b"},
        "pycil": {"set": {"alpha": 3.0}, "in_setting": {"task_incremental": {"beta": 0.5}}},
    }
"""


def run(
    seed: int = 0,
    final: float = 0.5,
    preset: str = "pycil",
    config: dict[str, Any] | None = None,
    setting: Setting = "class_incremental",
    sizes: Sequence[int] = (2,) * 5,
    threads: int = 1,
    order_from: str = "seed",
    **changed: str,
) -> StoredRun:
    spec = stored_runs.spec_of(
        "lwf", seed, SOURCE.decode(), config or {"alpha": 3.0, "beta": 2.0}, changed.get("recipe", "quick"),
        changed.get("scenario", "splitdigits"), sizes, range(10), threads
    )  # fmt: skip
    told = {"scenario": spec.scenario.model_copy(update={"setting": setting, "class_order_from": order_from})}
    spec = spec.model_copy(update={**told, "strategy": spec.strategy.model_copy(update={"preset": preset})})
    labels = [n // 2 for n in range(20)]
    last = [label if n < 20 * final - 0.5 else label ^ 1 for n, label in enumerate(labels)]
    classes, predicted = experience_classes(spec), [labels] * (len(sizes) - 1) + [last]
    counts = {s: count(predicted, labels, classes, [True] * len(sizes), setting=s) for s in READINGS[setting]}
    result = stored_runs.result_of(spec, counts, SOURCE.decode())
    return stored_runs.in_memory("run", spec, result, stored_runs.costs_of(spec, 1.0))


def answered(runs: Sequence[StoredRun], target: Target = TARGET) -> tuple[float, ...]:
    (cell,) = cells([target], runs)
    return cell.values


# -- which runs answer a cell -----------------------------------------------------------------------------------------


def test_the_runs_of_a_cell_are_in_the_order_of_their_seeds() -> None:
    assert answered([run(2, 0.3), run(0, 0.1), run(10, 0.4), run(1, 0.2)]) == pytest.approx((10, 20, 30, 40))


@pytest.mark.parametrize(
    "other",
    [
        {"scenario": "other"},
        {"recipe": "standard"},
        {"preset": "li2016"},
        {"setting": "task_incremental"},
        {"config": {"alpha": 4.0, "beta": 2.0}},
        {"sizes": (4, 6)},
        {"sizes": (2, 2, 6)},
        {"order_from": "natural"},
    ],
    ids=str,
)
def test_a_run_of_another_protocol_answers_nothing(other: dict[str, Any]) -> None:
    assert answered([run(**other)]) == ()


def test_a_run_of_a_preset_answers_no_cell_of_the_strategy_without_one() -> None:
    plain = replace(TARGET, strategy="lwf")
    assert answered([run()], plain) == ()
    assert answered([run(preset="li2016", config={"alpha": 1.0, "beta": 2.0})], plain) == (50,)


def test_a_seed_counts_once_whatever_it_was_run_on() -> None:
    runs = [run(0, 0.1), run(0, 0.2, threads=2), run(1, 0.4)]
    first = min(runs[:2], key=lambda each: each.run_id)
    expected = (10 if first is runs[0] else 20, 40)
    assert answered(runs) == answered(runs[::-1]) == pytest.approx(expected)


def test_the_values_of_a_target_and_of_its_setting_are_expected_in_the_run() -> None:
    with_value = replace(TARGET, values={"beta": "7.0"})
    assert answered([run()], with_value) == () and answered([run(config={"alpha": 3.0, "beta": 7.0})], with_value)
    task = replace(TARGET, setting="task_incremental")
    assert answered([run(setting="task_incremental", config={"alpha": 3.0, "beta": 0.5})], task)


# -- when two means agree ---------------------------------------------------------------------------------------------


def cell(*values: float, **changed: Any) -> Cell:
    return Cell(replace(TARGET, **changed), values)


def test_the_difference_is_in_units_of_the_combined_standard_error_worked_by_hand() -> None:
    # published 50, sd 3 over 9: error 1. Measured 52, 54, 56: mean 54, sd 2, error 2/√3; √(1 + 4/3) = 1.5275
    found = cell(52, 54, 56)
    assert found.z == pytest.approx(4 / 1.5275, abs=1e-3) and found.agrees is False
    assert cell(50, 52, 54).z == pytest.approx(2 / 1.5275, abs=1e-3) and cell(50, 52, 54).agrees is True


def test_disagreement_counts_on_either_side() -> None:
    assert cell(44, 46, 48).agrees is False and cell(52, 54, 56).agrees is False


@pytest.mark.parametrize("spread_is", ["sem", "reading"])
def test_a_published_standard_error_or_an_error_of_reading_is_taken_as_it_is(spread_is: str) -> None:
    assert cell(52, 54, 56, spread_is=spread_is).z == pytest.approx(4 / (9 + 4 / 3) ** 0.5)


def test_where_the_published_spread_is_unknown_the_measured_error_stands_alone() -> None:
    assert cell(52, 54, 56, spread=None).z == pytest.approx(4 / (4 / 3) ** 0.5)


def test_one_run_or_none_decides_nothing() -> None:
    assert cell(54).agrees is None and cell().agrees is None and cell().mean is None


def test_runs_without_spread_agree_with_the_very_same_number_only() -> None:
    same, other = cell(50, 50, spread=None), cell(51, 51, spread=None)
    assert same.agrees is True and other.agrees is False


def test_a_number_quoted_from_memory_is_shown_beside_the_measured_one_without_a_verdict() -> None:
    for values in ((52, 54, 56), (50, 50.1, 50.2)):
        found = cell(*values, read="unverified", finding="the head")
        assert found.agrees is None and not found.judged and found.z is not None
        (row,) = table.rows([found])
        assert row[2] == "50.00 ±3.00" and row[-2:] == ("unverified", "")
    assert cell(52, 54, 56).judged


def test_the_table_shows_both_numbers_their_difference_and_a_mark() -> None:
    why = replace(cell(52, 54, 56), target=replace(TARGET, finding="the head"))
    (row,) = table.rows([why])
    assert row == ("LwF", "class-incremental", "50.00 ±3.00", "54.00 ±2.00", "3", "+4.00", "+2.6", "✗", "the head")
    (row,) = table.rows([cell(spread_is="sem")])
    assert row[2] == "50.00 ±3.00 sem"
    (row,) = table.rows([cell()])
    assert row[3:] == ("–", "0", "–", "–", "–", "")


def test_the_csv_has_the_source_of_every_number() -> None:
    (row,) = csv.DictReader(table.as_csv([cell(52, 54, 56)]).splitlines())
    assert row["source"] == "a paper" and row["read"] == "primary" and float(row["measured"]) == 54


# -- the targets ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_target_names_a_strategy_preset_scenario_and_recipe_that_exist() -> None:
    for target in targets():
        name, _, preset = target.strategy.partition(":")
        strategy = select("strategy", str(builtin_folder("strategy") / f"{name}.py"), preset)
        assert not preset or preset in strategy.presets
        assert set(target.values) <= {field.name for field in strategy.fields}
        scenario = select("scenario", str(builtin_folder("scenario") / f"{target.scenario}.py"))
        assert target.recipe in scenario.recipes
        assert 0 < target.mean < 100 and target.n > 0 and target.source
        assert target.read in ("primary", "transcription", "plot", "unverified")
        assert (target.spread is None) == (target.spread_is == "") and target.spread_is in ("", "sd", "sem", "reading")


@pytest.mark.slow
def test_the_runs_of_every_target_can_be_planned() -> None:
    folder = data_folder()
    datasets = {plugin.name: plugin.attributes.get("dataset") for plugin in discover("scenario")}
    here = [each for each in targets() if describe(str(datasets[each.scenario]), folder) is not None]
    if not here:
        pytest.skip(f"no dataset of a published number is in {folder}")
    request = Request(["naive"], [], seeds=(0,), threads=1, device="cpu")
    planned = plan_targets(here, request, lambda event: None)
    assert {run.spec.scenario.name for run in planned} == {each.scenario for each in here}


def test_hsu2018_is_the_whole_table_of_thirteen_methods_in_three_settings() -> None:
    found = {(target.method, target.setting) for target in targets("hsu2018")}
    assert len(found) == len(targets("hsu2018")) == 39


def test_a_protocol_setting_or_method_that_is_not_known_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="did you mean 'hsu2018'"):
        targets("hsu2019")
    with pytest.raises(UsageError, match="no published cell"):
        chosen(targets("hsu2018"), "class", "iCaRL")
    assert [target.method for target in chosen(targets("hsu2018"), "class", "LwF")] == ["LwF"]


@pytest.mark.slow
def test_listing_the_targets_loads_neither_torch_nor_avalanche() -> None:
    code = (
        "import sys; sys.argv = ['clbench', 'reproduce', '--list']\n"
        "from clbench.cli.app import application\n"
        "application()(standalone_mode=False)\n"
        "print('torch' in sys.modules or 'avalanche' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stderr.strip() == "False" and "19.71 ±0.08" in done.stdout and "1810.12488" in done.stdout
