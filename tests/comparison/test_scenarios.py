"""Strategies over several scenarios: means, the best of each scenario, and ranks, with values worked by hand."""

from pathlib import Path

import pytest
from stored_runs import publish

from clbench.comparison.grouping import compare
from clbench.comparison.scenarios import Across, across
from clbench.results.stored_runs import read_all


def of(folder: Path) -> list[Across]:
    return across(compare(read_all([folder])[0]))


def test_three_scenarios_have_a_mean_over_them_of_the_strategies_that_are_in_all(tmp_path: Path) -> None:
    for scenario, old in (("one", 0.0), ("two", 0.4), ("three", 0.8)):
        for seed in range(2):
            publish(tmp_path, "naive", seed, old=old, scenario=scenario)
            publish(tmp_path, "joint", seed, old=1.0, scenario=scenario)
    for seed in range(2):
        publish(tmp_path, "lwf", seed, scenario="one")
    (found,) = of(tmp_path)
    assert set(found.scenarios) == {"one", "two", "three"}
    # Final accuracies of naive: 0.5, 0.7 and 0.9; seeds agree, so the interval has no width.
    assert [(row.strategy, row.mean and row.mean.mean) for row in found.rows] == [
        ("naive", pytest.approx(0.7)),
        ("joint", pytest.approx(1)),
    ]


def test_two_scenarios_have_a_table_without_a_mean_and_one_has_none(tmp_path: Path) -> None:
    for name in ("naive", "lwf"):
        publish(tmp_path, name, scenario="one")
    assert of(tmp_path) == []
    for name in ("naive", "lwf"):
        publish(tmp_path, name, scenario="two")
    (found,) = of(tmp_path)
    assert [row.mean for row in found.rows] == [None, None]


def test_a_scenario_that_is_compared_twice_is_left_out_and_the_others_stay(tmp_path: Path) -> None:
    for name in ("naive", "lwf"):
        for scenario in ("one", "two", "three"):
            publish(tmp_path, name, scenario=scenario)
        publish(tmp_path, name, scenario="three", sizes=(2, 1, 1))
    (found,) = of(tmp_path)
    assert set(found.scenarios) == {"one", "two"}


def test_the_best_of_a_scenario_is_not_the_upper_reference_and_is_above_guessing(tmp_path: Path) -> None:
    for scenario, new in (("one", 1.0), ("two", 0.4)):  # in "two" naive and lwf end at 0.2, and guessing at 0.25
        publish(tmp_path, "naive", old=0.0, new=new, scenario=scenario)
        publish(tmp_path, "lwf", old=0.3 if scenario == "one" else 0.0, new=new, scenario=scenario)
        publish(tmp_path, "joint", old=0.9, scenario=scenario)
    (found,) = of(tmp_path)
    best = {row.strategy: dict(zip(found.scenarios, row.best, strict=True)) for row in found.rows}
    assert best == {
        "naive": {"one": False, "two": False},
        "lwf": {"one": True, "two": False},
        "joint": {"one": False, "two": False},
    }


def in_scenarios(folder: Path, **old: list[float]) -> Across:
    for name, values in old.items():
        for position, value in enumerate(values):
            publish(folder, name, old=value, scenario=f"s{position}")
    (found,) = of(folder)
    return found


def test_ranks_are_means_over_scenarios_and_equal_values_share_theirs(tmp_path: Path) -> None:
    found = in_scenarios(
        tmp_path,
        naive=[0.0] * 6,
        first=[0.9, 0.8, 0.9, 0.8, 0.9, 0.5],
        second=[0.8, 0.9, 0.8, 0.9, 0.8, 0.5],
        joint=[1.0] * 6,
    )
    # first: 1, 2, 1, 2, 1, 1.5; second: 2, 1, 2, 1, 2, 1.5; naive is last of three in all, and joint has no rank.
    assert [(rank.row.strategy, rank.mean) for rank in found.ranks] == [
        ("first", pytest.approx(8.5 / 6)),
        ("second", pytest.approx(9.5 / 6)),
        ("naive", pytest.approx(3.0)),
    ]
    # naive is lower than another in 6 of 6: of 2^6 sign patterns two are as far, p = 0.031. first and second are even.
    assert [rank.tied for rank in found.ranks] == [True, True, False]


def test_five_scenarios_have_no_ranks_because_no_test_of_them_could_reach_the_level(tmp_path: Path) -> None:
    assert in_scenarios(tmp_path, naive=[0.0] * 5, lwf=[0.9] * 5).ranks == ()  # 2 of 2^5 patterns: p = 0.0625
