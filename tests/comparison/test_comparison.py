"""Comparisons: fair groups, means and paired differences over the same seeds, and a note if something is unequal."""

import html
import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import stored_runs
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from clbench.api.comparing import Runs
from clbench.base.recipe import Recipe
from clbench.comparison import columns, table
from clbench.comparison.grouping import compare
from clbench.comparison.rows import Comparison, Row
from clbench.comparison.statistics import Estimate, estimate
from clbench.errors import UsageError
from clbench.evaluation.counts import count
from clbench.results.run_spec import RecipeSpec, StreamSpec
from clbench.results.stored_run import StoredRun
from clbench.results.stored_runs import read_all
from clbench.system import tables

CLASSES = [[0, 1], [2, 3]]
LABELS = [c for c in range(4) for _ in range(10)]
REFERENCE = "import clbench\nclass Mine(clbench.Strategy):\n    reference = '{}'\n"
SOURCES = {"naive": REFERENCE.format("lower"), "joint": REFERENCE.format("upper")}


def stored(
    strategy: str = "naive",
    seed: int = 0,
    *,
    kept: int = 10,
    config: dict[str, Any] | None = None,
    sha256: str | None = None,
    samples_seen: int = 80,
    evaluated: Sequence[bool] = (True, True),
    scenario: dict[str, Any] | None = None,
    source: str | None = None,
    **changed: Any,
) -> StoredRun:
    """A run that gets everything right except 20 - `kept` of the 20 old samples, predicted as class 2 at the end.

    So after the last experience `kept` + 20 of 40 are right, forgetting is 1 - kept/20, and task-incrementally, where
    class 2 is no answer, the mistaken ones are given as the other class of their experience.
    """
    missed = [n % 20 >= kept and label < 2 for n, label in enumerate(LABELS)]
    last = {
        "class_incremental": [2 if wrong else label for label, wrong in zip(LABELS, missed, strict=True)],
        "task_incremental": [1 - label if wrong else label for label, wrong in zip(LABELS, missed, strict=True)],
    }
    counts = {s: count([LABELS, last[s]], LABELS, CLASSES, evaluated, setting=s) for s in last}  # type: ignore[arg-type]
    text = source or SOURCES.get(strategy, f"# {strategy}")
    spec = stored_runs.spec_of(strategy, seed, text, config or {}, "quick", "tiny", (2, 2), None, 1)
    told = {"scenario": spec.scenario.model_copy(update=scenario or {})}
    told["strategy"] = spec.strategy.model_copy(update={"sha256": sha256} if sha256 else {})
    spec = spec.model_copy(update={**told, **changed})
    result = stored_runs.result_of(spec, counts, text, samples_seen)  # type: ignore[arg-type]
    return stored_runs.in_memory(strategy, spec, result, stored_runs.costs_of(spec, 1.5))


def only(runs: Sequence[StoredRun]) -> Comparison:
    (comparison,) = compare(runs)
    return comparison


def by_name(runs: Sequence[StoredRun]) -> dict[str, Row]:
    return {row.strategy: row for row in only(runs).rows}


def over_seeds(strategy: str, kept: Sequence[int], **changed: Any) -> list[StoredRun]:
    """A run for each of `kept`, with seeds 0, 1, …"""
    return [stored(strategy, seed, kept=right, **changed) for seed, right in enumerate(kept)]


def printed(comparison: Comparison) -> str:
    text = io.StringIO()
    table.print_comparison(Console(file=text, width=250), comparison)
    return text.getvalue()


# -- mean and interval ------------------------------------------------------------------------------------------------


def test_the_interval_of_1_2_and_3_is_the_one_worked_by_hand() -> None:
    # mean 2, s = 1, n = 3, and the table's t(0.975, 2) = 4.303
    made = estimate([1.0, 2.0, 3.0])
    assert made and made.mean == 2 and made.half_width == pytest.approx(4.303 / math.sqrt(3), abs=3e-4)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_the_interval_is_that_of_scipy(values: list[float]) -> None:
    made = estimate(values)
    assert made and made.half_width is not None
    spread = np.std(values, ddof=1) / math.sqrt(len(values))
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, loc=0, scale=spread) if spread > 0 else (0, 0)
    assert made.half_width == pytest.approx((high - low) / 2, rel=1e-6, abs=1e-9)
    assert made.mean == pytest.approx(sum(values) / len(values))


def test_one_seed_has_a_mean_and_no_interval() -> None:
    made = estimate([0.25])
    assert made and made.mean == 0.25 and made.half_width is None


def test_what_is_undefined_for_one_seed_is_undefined() -> None:
    assert estimate([0.5, None]) is None
    assert estimate([None]) is None
    assert estimate([]) is None


# -- rows -------------------------------------------------------------------------------------------------------------


def test_a_row_has_the_metrics_after_the_last_experience() -> None:
    (row,) = only([stored(kept=5)]).rows
    values = {name: made.mean for name, made in row.estimates.items() if made}
    assert values["final_accuracy"] == pytest.approx(25 / 40)
    assert values["average_incremental_accuracy"] == pytest.approx((1 + 25 / 40) / 2)
    assert values["old_accuracy"] == pytest.approx(5 / 20)
    assert values["new_accuracy"] == 1
    assert values["forgetting"] == pytest.approx(15 / 20)
    assert values["task_incremental_accuracy"] == pytest.approx(25 / 40)
    assert values["seconds"] == 1.5 and values["samples_seen"] == 80 and values["stored_bytes"] == 0


def test_a_row_is_the_mean_over_its_seeds() -> None:
    (row,) = only([stored(seed=0, kept=0), stored(seed=1, kept=10), stored(seed=2, kept=20)]).rows
    old = row.estimates["old_accuracy"]
    assert row.seeds == (0, 1, 2)
    # 0, 0.5 and 1: mean 0.5, s = 0.5, t(0.975, 2) = 4.303
    assert old and old.mean == 0.5 and old.half_width == pytest.approx(4.303 * 0.5 / math.sqrt(3), abs=3e-4)


def test_rows_go_from_the_worst_to_the_best() -> None:
    runs = [stored("good", kept=20), stored("bad", kept=0), stored("fair", kept=10)]
    assert [row.strategy for row in only(runs).rows] == ["bad", "fair", "good"]


def test_what_was_not_evaluated_is_undefined_and_the_rest_of_the_row_stands() -> None:
    (row,) = only([stored(evaluated=(False, True), kept=20)]).rows
    assert row.estimates["forgetting"] is None and row.estimates["average_incremental_accuracy"] is None
    final = row.estimates["final_accuracy"]
    assert final and final.mean == 1
    assert "–" not in printed(only([stored()])) and "nan" not in printed(only([stored(evaluated=(False, True))]))


def test_the_reference_lines_are_chance_and_knowing_the_last_experience_only() -> None:
    # 4 classes: 25 %; 2 in each experience: 50 %; the last experience has half of the test samples.
    (line,) = [note for note in only([stored()]).notes if "guessing" in note]
    assert "25.0 class-incrementally" in line and "50.0 task-incrementally" in line
    assert line.endswith("last experience gives 50.0 class-incrementally.")


# -- intransigence ----------------------------------------------------------------------------------------------------


def test_intransigence_is_what_the_joint_run_of_equal_seed_learned_better_on_average(tmp_path: Path) -> None:
    for seed, new in enumerate((0.8, 0.6)):
        stored_runs.publish(tmp_path, "mine", seed, old=0.5, new=new)
        stored_runs.publish(tmp_path, "joint", seed, old=1.0, new=0.9)
    comparison = only(read_all([tmp_path])[0])
    mine, joint = comparison.rows
    # 0.1 at both experiences of seed 0, and 0.3 at both of seed 1.
    assert mine.intransigence and mine.intransigence.mean == pytest.approx(0.2)
    assert joint.intransigence is None
    assert "intransigence" in table.headings(comparison)
    assert table.rows_for_json(comparison)[1]["intransigence"] is None


def test_intransigence_is_no_column_if_the_joint_run_was_evaluated_at_the_end_alone_or_there_is_none() -> None:
    alone = only([stored("mine")])
    at_the_end = only([stored("mine"), stored("joint", evaluated=(False, True))])
    for comparison in (alone, at_the_end):
        assert "intransigence" not in table.headings(comparison)


# -- unequal classes --------------------------------------------------------------------------------------------------


def with_class_sizes(folder: Path, *sizes: int) -> StoredRun:
    """A run on four classes with these numbers of test samples, which gets only classes 0 and 2 right."""
    labels = np.repeat(np.arange(4), sizes)
    said = np.where(labels % 2 == 0, labels, labels - 1)
    first = np.where(labels < 2, said, -1)
    both = np.stack([first, said]).astype(np.int16)
    arrays = {"labels": labels.astype(np.int16), "class_incremental": both, "task_incremental": both}
    return stored_runs.publish(folder, predictions=arrays)


def test_where_classes_are_of_unequal_size_the_mean_over_classes_is_a_column(tmp_path: Path) -> None:
    comparison = only([with_class_sizes(tmp_path, 6, 4, 2, 1)])
    values = comparison.rows[0].estimates
    # Of 13 samples, the 6 and 2 of classes 0 and 2 are right; of four classes, two are.
    assert values["final_accuracy"] and values["final_accuracy"].mean == pytest.approx(8 / 13)
    assert values["final_accuracy_macro"] and values["final_accuracy_macro"].mean == pytest.approx(1 / 2)
    assert "macro accuracy" in printed(comparison)
    assert "macro accuracy" in table.headings(comparison).values()


def test_where_classes_are_nearly_of_one_size_there_is_no_such_column_but_programs_have_it(tmp_path: Path) -> None:
    comparison = only([with_class_sizes(tmp_path, 9, 10, 8, 10)])
    assert "final_accuracy_macro" not in table.headings(comparison)
    assert table.rows_for_json(comparison)[0]["final_accuracy_macro"] == {"mean": 0.5, "half_width": None}


def test_a_test_class_many_times_as_large_as_another_is_warned_of(tmp_path: Path) -> None:
    (warning,) = only([with_class_sizes(tmp_path / "a", 500, 20, 3, 1)]).warnings
    assert warning.startswith("Unequal classes: the largest has 500 test samples, the smallest 1.")
    assert only([with_class_sizes(tmp_path / "b", 6, 4, 2, 2)]).warnings == []


# -- labels -----------------------------------------------------------------------------------------------------------


def test_a_strategy_in_one_configuration_is_called_by_its_name() -> None:
    runs = [stored("lwf", seed, config={"alpha": 1.0}) for seed in (0, 1)]
    assert [row.strategy for row in only(runs).rows] == ["lwf"]


def test_configurations_of_one_strategy_are_rows_labelled_by_what_differs() -> None:
    runs = [stored("lwf", config={"alpha": a, "temperature": 2.0}) for a in (1.0, 4.0)]
    assert {row.strategy for row in only([*runs, stored("naive")]).rows} == {"lwf alpha=1.0", "lwf alpha=4.0", "naive"}


def test_two_versions_of_a_file_are_two_rows_told_apart_by_the_files_hash() -> None:
    runs = [stored("mine", sha256="a" * 64), stored("mine", sha256="b" * 64)]
    assert {row.strategy for row in only(runs).rows} == {"mine file aaaaaaaa", "mine file bbbbbbbb"}


# -- fairness ---------------------------------------------------------------------------------------------------------


def test_only_seeds_that_every_strategy_has_are_averaged_and_a_note_names_the_others() -> None:
    runs = [stored("a", seed, kept=2 * seed) for seed in (0, 1, 2, 5)] + [stored("b", seed) for seed in (1, 2, 3)]
    comparison = only(runs)
    assert [row.seeds for row in comparison.rows] == [(1, 2), (1, 2)]
    a = next(row for row in comparison.rows if row.strategy == "a")
    old = a.estimates["old_accuracy"]
    assert old and old.mean == pytest.approx((2 + 4) / 2 / 20)
    assert any(note.startswith("Seeds 0, 5 of a are left out") for note in comparison.warnings)
    assert any(note.startswith("Seeds 3 of b are left out") for note in comparison.warnings)


def test_equal_seeds_need_no_note() -> None:
    runs = [stored(name, seed) for name in "ab" for seed in (0, 1)]
    assert not any("eed" in note for note in only(runs).warnings)


def keeping(strategy: str, exemplars: int) -> StoredRun:
    run = stored(strategy)
    return replace(run, facts=replace(run.facts, memory=exemplars))


@pytest.mark.parametrize(
    ("budgets", "warning"),
    [
        ({"er": 200, "naive": 0}, "er may store 200 exemplars; naive none."),
        ({"er": 200, "icarl": 2000, "l2": 0, "naive": 0}, "er may store 200 exemplars; icarl 2,000; the others none."),
        ({"derpp": 200, "er": 200, "icarl": 2000}, "derpp and er may store 200 exemplars; icarl 2,000."),
    ],
)
def test_unequal_numbers_of_exemplars_are_warned_of(budgets: dict[str, int], warning: str) -> None:
    warnings = only([keeping(strategy, exemplars) for strategy, exemplars in budgets.items()]).warnings
    assert warnings == [f"Unequal exemplar budgets: {warning}"]


def test_equal_numbers_of_exemplars_need_no_warning() -> None:
    assert only([keeping("er", 200), keeping("icarl", 200)]).warnings == []
    assert only([keeping("naive", 0), keeping("l2", 0)]).warnings == []


def test_strategies_without_a_common_seed_keep_their_own_and_a_note_says_so() -> None:
    comparison = only([stored("a", 0), stored("a", 1), stored("b", 2), stored("b", 3)])
    assert {row.strategy: row.seeds for row in comparison.rows} == {"a": (0, 1), "b": (2, 3)}
    assert any("no seed in common" in note for note in comparison.warnings)


def test_unequal_budgets_are_noted_as_multiples_of_the_smallest() -> None:
    (note,) = [n for n in only([stored("naive"), stored("joint", samples_seen=240)]).warnings if "budget" in n]
    assert "joint 3.0×" in note and "naive" not in note


def test_strategies_without_gradient_steps_are_named_and_no_multiple_of_theirs_is_made() -> None:
    def said(*runs: StoredRun) -> list[str]:
        return [text for text in only(list(runs)).warnings if "budget" in text or "gradient" in text]

    assert said(stored("naive"), stored("ncm", samples_seen=0)) == ["No gradient steps: ncm."]
    both = said(stored("naive"), stored("ncm", samples_seen=0), stored("joint", samples_seen=240))
    assert both == ["No gradient steps: ncm.", "Unequal budgets: samples seen, as multiples of the least: joint 3.0×."]
    assert said(stored("slda", samples_seen=0), stored("ncm", samples_seen=0)) == []


def test_equal_budgets_need_no_note() -> None:
    assert not any("budget" in note for note in only([stored("naive"), stored("l2")]).warnings)


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": RecipeSpec(name="standard", config=Recipe(lr=0.1))},
        {"recipe": RecipeSpec(name="quick", config=Recipe(lr=0.2))},
        {"device": "cuda"},
        {"threads": 2},
        {"engine": 2},
        {"scenario": {"name": "other"}},
        {"scenario": {"version": 2}},
        {"scenario": {"dataset_sha256": "1" * 64}},
        {"scenario": {"classes_per_experience": [1, 3]}},
        {"scenario": {"class_order_from": "list", "class_order": [3, 2, 1, 0]}},
        {"scenario": {"stream": StreamSpec(name="online", options={}, split=(2, 2))}},
    ],
    ids=str,
)
def test_runs_of_different_protocols_are_never_in_one_table(change: dict[str, Any]) -> None:
    comparisons = compare([stored("naive"), stored("lwf"), stored("naive", **change)])
    assert sorted(len(comparison.rows) for comparison in comparisons) == [1, 2]
    assert len({comparison.title for comparison in comparisons}) == 2


def test_streams_that_differ_in_an_option_are_never_in_one_table() -> None:
    made = [
        StreamSpec(name="blurry", options={"disjoint": share, "evaluate_every": 0}, split=(2, 2)) for share in (0, 1)
    ]
    comparisons = compare([stored("naive", scenario={"stream": stream}) for stream in made])
    assert sorted(comparison.title.rpartition(", ")[2] for comparison in comparisons) == ["disjoint 0", "disjoint 1"]


def test_a_heading_names_the_class_order_if_another_differs_in_nothing_else() -> None:
    orders = [("natural", [0, 1, 2, 3]), ("list", [3, 2, 1, 0]), ("seed", [1, 0, 3, 2])]
    runs = [stored("naive", scenario={"class_order_from": how, "class_order": order}) for how, order in orders]
    ends = {comparison.title.rpartition(", ")[2] for comparison in compare(runs)}
    assert ends == {"natural class order", "class order 3 2 1 0", "class order by seed"}
    (alone,) = compare(runs[:1])
    assert alone.title.endswith("1 thread")


def test_headings_differ_whatever_the_protocols_differ_in() -> None:
    hashes = [{"dataset_sha256": digit * 64} for digit in "12"]
    long_orders = [{"class_order_from": "list", "class_order": [*range(60), *end]} for end in ([60, 61], [61, 60])]
    for scenarios in (hashes, long_orders, [{"held_out": 0.1}, {}], [{"version": 1}, {"version": 2}]):
        titles = [comparison.title for comparison in compare([stored(scenario=scenario) for scenario in scenarios])]
        assert len(set(titles)) == 2 and max(map(len, titles)) < 160, titles


def test_seeds_with_class_orders_drawn_from_them_are_in_one_table() -> None:
    orders = ([0, 1, 2, 3], [3, 1, 0, 2])
    drawn = [{"class_order_from": "seed", "class_order": order} for order in orders]
    (row,) = only([stored(seed=seed, scenario=scenario) for seed, scenario in enumerate(drawn)]).rows
    assert row.seeds == (0, 1)


def test_the_order_in_which_runs_are_read_does_not_count() -> None:
    runs = [stored(name, seed, kept=seed + 3 * len(name)) for name in ("a", "bb") for seed in range(3)]
    assert only(runs) == only(runs[::-1])
    unequal = [stored(name, seed) for name, seeds in (("a", (0, 1)), ("b", (1, 2)), ("c", (1, 3))) for seed in seeds]
    assert only(unequal) == only(unequal[::-1])
    named_alike = [stored(name, config={"alpha": 1}) for name in ("lwf", "lwf alpha=1")]
    runs = [*named_alike, stored("lwf", config={"alpha": 2})]
    assert only(runs) == only(runs[::-1])
    assert [warning[:12] for warning in only(unequal).warnings] == ["Seeds 0 of a", "Seeds 2 of b", "Seeds 3 of c"]


# -- references and evidence ------------------------------------------------------------------------------------------


def test_a_strategy_is_a_reference_by_what_its_file_says_and_not_by_its_name() -> None:
    rows = by_name([stored("naive", source="x = 1"), stored("mine", source=REFERENCE.format("lower")), stored("joint")])
    assert {name: row.reference for name, row in rows.items()} == {"naive": None, "mine": "lower", "joint": "upper"}
    assert rows["mine"].title == "mine (lower reference)" and rows["naive"].title == "naive"


@pytest.mark.parametrize("source", ["class", "", REFERENCE.format("middle"), "\x00"])
def test_a_file_that_says_nothing_sensible_makes_no_reference(source: str) -> None:
    assert by_name([stored("mine", source=source)])["mine"].reference is None


def test_differences_to_the_lower_reference_are_paired_by_seed() -> None:
    # Final accuracies, (kept + 20) / 40: naive 0.5, 0.6, 0.7; mine 0.625, 0.75, 0.875, in another order of runs.
    mine = [stored("mine", seed, kept=kept) for seed, kept in ((2, 15), (0, 5), (1, 10))]
    rows = by_name([*over_seeds("naive", [0, 4, 8]), *mine])
    found = rows["mine"].to_lower
    # The differences are 0.125, 0.15 and 0.175: mean 0.15, s = 0.025, t(0.975, 2) = 4.303.
    assert found and found.estimate.mean == pytest.approx(0.15)
    assert found.estimate.half_width == pytest.approx(4.303 * 0.025 / math.sqrt(3), rel=1e-3)
    assert found.p == pytest.approx(2 / 2**3)
    assert rows["naive"].to_lower is None


def test_without_a_lower_reference_there_is_no_difference_to_it_and_no_column_for_it() -> None:
    comparison = only([*over_seeds("a", [1, 2]), *over_seeds("b", [3, 4])])
    assert all(row.to_lower is None for row in comparison.rows)
    assert not {"to_lower", "p_holm"} & set(table.headings(comparison))


def test_the_best_is_the_highest_of_all_but_the_upper_reference() -> None:
    rows = by_name([stored("naive", kept=0), stored("good", kept=12), stored("fair", kept=8), stored("joint", kept=20)])
    assert {name: row.standing for name, row in rows.items()} == {
        "naive": None,
        "fair": None,
        "good": "best",
        "joint": None,
    }


def test_a_lower_reference_that_nothing_beats_is_the_best() -> None:
    assert by_name([stored("naive", kept=9), stored("worse", kept=3)])["naive"].standing == "best"


def test_one_strategy_is_not_called_the_best() -> None:
    assert by_name([stored("alone")])["alone"].standing is None


def test_where_nothing_ends_above_guessing_none_is_called_the_best(tmp_path: Path) -> None:
    # Of four classes guessing gets a quarter right; the old 0 of two and the new half of the other two are as much.
    runs = [
        stored_runs.publish(tmp_path, name, seed, old=0.0, new=new)
        for name, new in (("naive", 0.4), ("a", 0.5))
        for seed in range(6)
    ]
    comparison = only(runs)
    assert all(row.standing is None and row.to_best is None for row in comparison.rows)
    assert "No strategy ends above guessing (25.0), so none is called the best." in comparison.notes


UP, DOWN = [12, 10, 14, 11, 13, 10, 12, 14], [10, 11, 12, 12, 11, 11, 11, 13]


def test_tied_with_the_best_is_what_the_joint_test_cannot_tell_from_it() -> None:
    runs = [*over_seeds("up", UP), *over_seeds("down", DOWN), *over_seeds("naive", [0] * 8)]
    comparison = only(runs)
    rows = {row.strategy: row for row in comparison.rows}
    assert {name: row.standing for name, row in rows.items()} == {"naive": None, "down": "tied", "up": "best"}
    # naive is below by nearly the same in every seed: 2 of 2^8 patterns, however many comparisons there are.
    assert rows["naive"].p_best == pytest.approx(2 / 2**8)
    assert rows["down"].to_best and rows["down"].to_best.mean == pytest.approx(-5 / 8 / 40)
    assert rows["up"].to_best is None and rows["up"].p_best is None
    assert comparison.testable
    text = printed(comparison)
    assert "≈ marks what may be as good as the best." in text and "whatever the numbers" not in text


def test_a_small_difference_that_every_seed_shows_is_no_tie_though_the_seeds_spread_widely() -> None:
    # An unpaired test of 0, 2, …, 14 against 1, 3, …, 15 has p = 0.69.
    rows = by_name([*over_seeds("low", range(0, 16, 2)), *over_seeds("high", range(1, 17, 2))])
    assert rows["low"].standing is None
    assert rows["low"].p_best == pytest.approx(2 / 2**8)


def test_the_rule_is_stated_also_where_nothing_is_tied() -> None:
    comparison = only([*over_seeds("low", range(0, 16, 2)), *over_seeds("high", range(1, 17, 2))])
    (note,) = [note for note in comparison.notes if note.startswith("≈")]
    assert "as good as the best: here nothing." in note and note.endswith("at most 0.05.")


def test_where_the_seeds_are_too_few_for_any_test_all_are_tied_and_a_note_says_how_many_could_do() -> None:
    comparison = only([*over_seeds("low", [0] * 5), *over_seeds("high", [9, 10, 11, 9, 10])])
    assert {row.strategy: row.standing for row in comparison.rows} == {"low": "tied", "high": "best"}
    assert not comparison.testable
    (note,) = [note for note in comparison.notes if "≈" in note]
    # Two of 2^5 patterns are 0.0625; with six seeds two of 2^6 are 0.031.
    assert "With 5 seeds that is everything" in note and "possible p is 0.062" in note
    assert note.endswith("it takes 6 seeds to reach 0.05.")


def test_no_note_names_rows_by_an_interval_that_is_not_corrected_for_their_number() -> None:
    for seeds in (3, 5, 6, 8):
        comparison = only(
            [*over_seeds("low", [0] * seeds), *over_seeds("high", [9 + seed % 3 for seed in range(seeds)])]
        )
        assert not any("t-interval" in note and "low" in note for note in comparison.notes)


def test_one_seed_is_said_to_test_nothing_and_has_no_p() -> None:
    comparison = only([stored("naive"), stored("mine", kept=12)])
    assert any("No difference here says anything about other seeds" in note for note in comparison.notes)
    assert "to_lower" in table.headings(comparison)
    assert "p_holm" not in table.headings(comparison)
    assert "≈" not in printed(comparison)


def test_with_one_seed_only_what_ends_exactly_as_high_is_marked_as_tied() -> None:
    runs = [stored("a", kept=9), stored("b", kept=12), stored("c", kept=12)]
    assert {name: row.standing for name, row in by_name(runs).items()} == {"a": None, "b": "tied", "c": "best"}
    assert "≈ marks what ends exactly as high as c." in only(runs).notes


def test_strategies_without_a_common_seed_are_not_ranked() -> None:
    comparison = only([*over_seeds("naive", [0, 0]), stored("b", 5, kept=20)])
    assert all(row.standing is None and row.to_lower is None and row.to_best is None for row in comparison.rows)


def test_what_was_not_evaluated_at_the_end_is_not_ranked() -> None:
    runs = [stored("naive"), stored("b", kept=15), stored("lost", evaluated=(True, False))]
    assert {name: row.standing for name, row in by_name(runs).items()} == {"naive": None, "b": "best", "lost": None}


def test_the_table_shows_the_difference_and_its_p_and_marks_the_best_and_the_ties() -> None:
    text = printed(only([*over_seeds("naive", [0, 2, 4]), *over_seeds("mine", [5, 8, 11])]))
    (mine,) = [line for line in text.splitlines() if line.startswith("mine")]
    (naive,) = [line for line in text.splitlines() if line.startswith("naive")]
    # Differences 0.125, 0.15 and 0.175 again, and 2 of 2^3 patterns.
    assert "+15.0 ±6.2" in mine and "0.25" in mine and "70.0 ±18.6 best" in mine
    assert "55.0 ±12.4 ≈" in naive and "naive (lower reference)" in naive
    assert "Δ vs naive" in text and "p (Holm)" in text


# -- hostile names ----------------------------------------------------------------------------------------------------


def test_a_name_made_to_look_like_another_with_its_hyper_parameters_is_a_row_of_its_own() -> None:
    runs = [stored("lwf", config={"alpha": a}, kept=round(a)) for a in (1.0, 4.0)]
    rows = only([*runs, stored("lwf alpha=1.0", kept=20), stored("naive")]).rows
    labels = [row.strategy for row in rows]
    assert len(set(labels)) == len(labels) == 4
    assert rows[-1].name == "lwf alpha=1.0" and rows[-1].estimates["final_accuracy"].mean == 1  # type: ignore[union-attr]


def test_a_name_commands_no_terminal_and_turns_no_text_around() -> None:
    text = printed(only([stored("\x1b[31mred"), stored("a\u202eb"), stored("c\nd"), stored("\u05e9\u05dc")]))
    assert not {"\x1b", "\u202e"} & set(text)
    assert "�[31mred" in text and "a�b" in text and "c�d" in text and "\u05e9\u05dc" in text


def test_a_hyper_parameter_in_a_heading_is_never_taken_for_markup() -> None:
    runs = [stored("naive", config={"mode": mode}, kept=kept) for mode, kept in (("[/x]", 0), ("[red]", 4))]
    assert {row.strategy for row in only(runs).rows} == {"naive mode=[/x]", "naive mode=[red]"}
    assert "mode=[/x]" in printed(only(runs))


# -- as text ----------------------------------------------------------------------------------------------------------


def test_a_table_shows_shares_in_percent_with_their_interval() -> None:
    text = printed(only(over_seeds("naive", [0, 8, 16])))
    # Final accuracies 0.5, 0.7 and 0.9: s = 0.2 and t(0.975, 2) = 4.303, so half the width is 4.303 · 0.2 / √3 = 0.497.
    assert "70.0 (≥20.3)" in text
    assert "95 % t-intervals" in text and "One seed" not in text


def test_an_interval_that_says_nothing_is_not_shown_as_a_number_and_a_note_says_so() -> None:
    comparison = only([stored(seed=0, kept=0), stored(seed=1, kept=20)])
    # Old classes 0 and 1: s = 1/√2, t(0.975, 1) = 12.706, so half the width is 12.706 · s / √2 = 6.353.
    text = printed(comparison)
    assert "50.0 ±?" in text and "635.3" not in text
    (note,) = [note for note in comparison.notes if note.startswith("±?")]
    assert note.endswith("so few seeds say nothing about that mean.")
    assert not any(note.startswith("±?") for note in only([stored(seed=0), stored(seed=1)]).notes)


@pytest.mark.parametrize(
    ("mean", "half_width", "low", "text"),
    [
        (0.546, 0.14, 0.0, "54.6 ±14.0"),
        (0.94, 0.172, 0.0, "94.0 (≥76.8)"),
        (0.1, 0.3, 0.0, "10.0 (≤40.0)"),
        (0.1, 0.3, -1.0, "10.0 ±30.0"),
        (0.468, 0.675, 0.0, "46.8 ±?"),
        (0.468, 0.675, -1.0, "46.8 (≥-20.7)"),
        (1.0, 1e-12, 0.0, "100.0 ±0.0"),
        (0.3, None, 0.0, "30.0"),
    ],
)
def test_an_interval_is_cut_where_it_leaves_what_a_share_can_be(
    mean: float, half_width: float | None, low: float, text: str
) -> None:
    assert columns.percent(Estimate(mean, half_width), low) == text


def test_every_column_of_the_table_is_explained() -> None:
    shown = table.headings(only([run for name in ("naive", "mine", "joint") for run in over_seeds(name, [0, 2, 4])]))
    assert {"to_lower", "intransigence"} <= set(shown)
    assert set(columns.COLUMNS) | set(shown) <= set(columns.MEANINGS)


def test_a_table_of_one_seed_says_that_there_is_no_interval() -> None:
    text = printed(only([stored(), stored("l2")]))
    assert "±" not in text and "One seed: no interval." in text


def test_a_table_of_strategies_without_a_common_seed_does_not_call_several_seeds_one() -> None:
    text = printed(only([stored("a", 0), stored("a", 1), stored("b", 2), stored("b", 3)]))
    assert "±" in text and "One seed" not in text


def test_a_strategys_name_is_never_taken_for_markup() -> None:
    assert "[bold]x[/bold]" in printed(only([stored("[bold]x[/bold]")]))


def test_rows_as_json_have_every_column_and_null_for_what_is_undefined() -> None:
    (row,) = table.rows_for_json(only([stored(evaluated=(False, True), kept=20)]))
    assert row["strategy"] == "naive" and row["seeds"] == [0]
    assert row["forgetting"] is None
    assert row["final_accuracy"] == {"mean": 1.0, "half_width": None}


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1900, "1.9 kB"), (5_300_000, "5.3 MB"), (2e12, "2000.0 GB")]
)
def test_bytes_are_shown_with_their_unit(count: float, text: str) -> None:
    assert tables.readable_bytes(count) == text


# -- an uninformative loss --------------------------------------------------------------------------------------------


def with_a_constant_loss(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs as if their cross-entropy had ranged over a single class in experience 1."""
    return [replace(run, facts=replace(run.facts, constant_in=(1,))) for run in runs]


def test_a_row_whose_cross_entropy_was_constant_is_never_the_best_and_is_warned_of() -> None:
    lwf = with_a_constant_loss(over_seeds("lwf", [19, 20] * 3))
    comparison = only([*over_seeds("naive", [5] * 6), *over_seeds("mine", [9, 10] * 3), *lwf])
    standings = {row.strategy: row.standing for row in comparison.rows}
    assert standings == {"naive": None, "mine": "best", "lwf": None}
    (warning,) = [text for text in comparison.warnings if "cross-entropy" in text]
    assert "The cross-entropy of lwf" in warning and "experience 1" in warning


def test_a_row_whose_loss_was_0_is_never_the_best_and_is_warned_of() -> None:
    lwf = [replace(run, facts=replace(run.facts, idle_in=(1,))) for run in over_seeds("lwf", [19, 20] * 3)]
    comparison = only([*over_seeds("naive", [5] * 6), *over_seeds("mine", [9, 10] * 3), *lwf])
    standings = {row.strategy: row.standing for row in comparison.rows}
    assert standings == {"naive": None, "mine": "best", "lwf": None}
    assert [text for text in comparison.warnings if "loss" in text] == [
        "The loss of lwf was 0 at every step of experience 1: nothing was learned there. Not called the best."
    ]


def test_a_first_experience_of_one_class_keeps_no_row_from_being_the_best() -> None:
    runs = [*over_seeds("naive", [5] * 6), *over_seeds("mine", [9, 10] * 3), *over_seeds("lwf", [19, 20] * 3)]
    comparison = only([replace(run, facts=replace(run.facts, constant_in=(0,), idle_in=(0,))) for run in runs])
    assert {row.strategy: row.standing for row in comparison.rows}["lwf"] == "best"
    (warning,) = [text for text in comparison.warnings if "cross-entropy" in text]
    assert warning.startswith("Experience 0 has one class.")


def test_a_notebook_shows_tables_whose_numbers_are_not_broken_and_whose_names_are_escaped() -> None:
    from clbench.comparison.table import as_html

    comparison = only([*over_seeds("naive", [5, 6]), *over_seeds("<b>mine</b>", [9, 12])])
    text = as_html(comparison)
    assert "<li>Accuracies in percent, of the classes seen after the last experience." in text
    assert "&lt;b&gt;mine&lt;/b&gt;" in text and "<b>mine" not in text
    assert re.search(r'<td style="white-space: nowrap; text-align: right">[^<]*±', text)
    assert all(note in html.unescape(text) for note in comparison.notes)


# -- from Python ------------------------------------------------------------------------------------------------------


def test_in_a_notebook_the_table_is_the_text_and_is_not_shown_besides(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda segments, text: shown.append(text))
    assert "final accuracy" in repr(Runs([stored()]))
    assert shown == []


def test_as_text_the_table_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, repr(Runs([stored()])).splitlines())) <= 80


def test_the_audit_of_a_row_names_all_of_the_worst_that_any_of_its_runs_has() -> None:
    """Whatever their order."""
    verdicts = ("warn(opens a file)", "pass", "violation(test data, batch mates)", "violation(labels)")
    runs = [stored(seed=seed) for seed in range(4)]
    said = [
        replace(run, facts=replace(run.facts, verdict=verdict)) for run, verdict in zip(runs, verdicts, strict=True)
    ]
    for order in (said, said[::-1]):
        (row,) = compare(order)[0].rows
        assert row.audit == "violation(batch mates, labels, test data)"


def test_a_metric_that_does_not_exist_is_answered_with_the_one_that_was_probably_meant() -> None:
    with pytest.raises(UsageError, match="there is no metric 'forgeting'; did you mean 'forgetting'"):
        stored().metric("forgeting")
