"""Metrics within experiences, and of experiences that bring no class, on cases worked out by hand."""

from __future__ import annotations

import pytest

from clbench.evaluation import metrics
from clbench.evaluation.counts import Counts, count
from clbench.evaluation.curve import Curve


def within() -> tuple[Counts, Curve]:
    """Three experiences of a class each, of 10, 10 and 20 test samples; evaluated after every 5 steps of 12 each.

    Accuracy on the first: 0.6, 0.8, end 1.0 | 0.2, 0.5, end 0.7 | 0.4, 0.1, end 0.3
    on the second:                      0.3, 0.8, end 0.9 | 0.5, 0.6, end 0.6
    on the third:                                           0.5, 0.9, end 0.95
    """
    ends = ((10,), (7, 9), (3, 6, 19))
    counts = Counts(ends, (10, 10, 20), ends, (10, 10, 20), (1, 1, 1), (None, None, None))
    curve = Curve(
        steps=(5, 10, 17, 22, 29, 34),
        experiences=(0, 0, 1, 1, 2, 2),
        correct=((6,), (8,), (2, 3), (5, 8), (4, 5, 10), (1, 6, 18)),
    )
    return counts, curve


def test_anytime_accuracy_is_the_mean_over_all_evaluations():
    # 6/10, 8/10, 10/10 | 5/20, 13/20, 16/20 | 19/40, 25/40, 28/40
    expected = (0.6 + 0.8 + 1.0 + 0.25 + 0.65 + 0.8 + 0.475 + 0.625 + 0.7) / 9
    assert metrics.anytime_accuracy(*within()) == pytest.approx(expected, abs=1e-15)


def test_minimum_accuracy_is_the_lowest_since_each_experience_was_learned():
    # The first: 0.1, in the third experience. The second: 0.5, not the 0.3 while it was being learned.
    assert metrics.minimum_accuracy(*within()) == pytest.approx((0.1 + 0.5) / 2, abs=1e-15)


def test_worst_case_accuracy_adds_the_newest_experience():
    # De Lange et al. 2023: 1/3 · 0.95 + 2/3 · 0.3
    assert metrics.worst_case_accuracy(*within()) == pytest.approx(0.95 / 3 + 0.3 * 2 / 3, abs=1e-15)


def test_the_stability_gap_is_the_fall_from_the_end_of_the_experience_before():
    # Second: 1.0 - 0.2. Third: 16/20 at its beginning, and least at its second point, (1 + 6)/20.
    assert metrics.stability_gaps(*within()) == [None, pytest.approx(0.8), pytest.approx(0.8 - 0.35)]
    assert metrics.stability_gap(*within()) == pytest.approx((0.8 + 0.45) / 2, abs=1e-15)


def test_without_points_within_the_ends_alone_count():
    counts, _ = within()
    alone = Curve((), (), ())
    assert metrics.anytime_accuracy(counts, alone) == metrics.average_incremental_accuracy(counts)
    assert metrics.minimum_accuracy(counts, alone) == pytest.approx((0.3 + 0.6) / 2)
    # 10/10 - 7/10, and 16/20 - 9/20
    assert metrics.stability_gaps(counts, alone) == [None, pytest.approx(0.3), pytest.approx(0.35)]


def test_a_missing_evaluation_at_an_end_leaves_them_undefined():
    ends = ((10,), None, (3, 6, 19))
    counts = Counts(ends, (10, 10, 20), ends, (10, 10, 20), (1, 1, 1), (None, None, None))
    values = metrics.derive(counts, within()[1])
    assert [values[name] for name in ("anytime_accuracy", "minimum_accuracy", "worst_case_accuracy")] == [None] * 3
    assert values["stability_gap"] is None
    assert values["stability_gaps"] == [None, None, None]


def test_of_one_experience_only_anytime_accuracy_is_defined():
    counts = Counts(((8,),), (10,), ((8,),), (10,), (1,), (None,))
    values = metrics.derive(counts, Curve((2,), (0,), ((4,),)))
    assert values["anytime_accuracy"] == pytest.approx(0.6)
    assert values["minimum_accuracy"] is values["worst_case_accuracy"] is values["stability_gap"] is None


def test_a_run_without_a_curve_has_no_metric_of_it():
    counts, curve = within()
    assert set(metrics.derive(counts, curve)) - set(metrics.derive(counts)) == set(metrics.BY_NAME_WITHIN)


@pytest.mark.parametrize(
    ("steps", "experiences", "correct", "problem"),
    [
        ((2, 2), (0, 0), ((1,), (1,)), "steps do not ascend"),
        ((0,), (0,), ((1,),), "steps do not ascend"),
        ((1, 2), (1, 0), ((1, 1), (1,)), "experiences do not ascend"),
        ((1,), (1,), ((1,),), "has 1 entries, not 2"),
        ((1, 2), (0,), ((1,),), "experiences has 1 entries for 2 points"),
        ((1,), (0,), ((-1,),), "an integer of at least 0"),
        ((1,), (0,), ((True,),), "an integer of at least 0"),
    ],
)
def test_a_curve_that_contradicts_itself_is_refused(steps, experiences, correct, problem):
    with pytest.raises(ValueError, match=problem):
        Curve(steps, experiences, correct)


def test_a_curve_of_another_stream_is_refused():
    counts, _ = within()
    with pytest.raises(ValueError, match="11, but there are 10"):
        Curve((1,), (0,), ((11,),)).check_against(counts)
    with pytest.raises(ValueError, match="in experience 3 of 3"):
        Curve((1,), (3,), ((1, 1, 1, 1),)).check_against(counts)


def test_a_curve_comes_back_from_json():
    _, curve = within()
    assert Curve.from_json(curve.to_json()) == curve
    with pytest.raises(ValueError, match="fields"):
        Curve.from_json({"steps": []})


def test_points_at_the_end_of_an_experience_are_left_to_the_counts():
    curve = Curve((2, 4, 6, 8), (0, 0, 1, 1), ((1,), (2,), (1, 1), (2, 2)))
    assert curve.within((4, 9)) == Curve((2, 6, 8), (0, 1, 1), ((1,), (1, 1), (2, 2)))


# --- experiences that bring no class


def returning() -> Counts:
    """Four experiences that bring 2, 0, 1 and 0 classes, of 4, 0, 5 and 0 test samples."""
    return Counts(
        correct=((4,), (2, 0), (1, 0, 5), (3, 0, 3, 0)),
        total=(4, 0, 5, 0),
        class_correct=((2, 2), (1, 1), (0, 1, 5), (2, 1, 3)),
        class_total=(2, 2, 5),
        classes_per_experience=(2, 0, 1, 0),
        old_as_new=(None, 0, 3, 0),
    )


RETURNING = {
    # R[i][1] and R[i][3] have no samples.
    "accuracy_matrix": [[1, None, None, None], [0.5, None, None, None], [0.25, None, 1, None], [0.75, None, 0.6, None]],
    "accuracy_seen": [1, 0.5, 6 / 9, 6 / 9],
    "final_accuracy": 6 / 9,
    "final_accuracy_macro": (2 / 2 + 1 / 2 + 3 / 5) / 3,
    "final_accuracy_by_experience": (0.75 + 0.6) / 2,
    "average_incremental_accuracy": (1 + 0.5 + 6 / 9 + 6 / 9) / 4,
    # In experiences 1 and 3 all classes are old ones.
    "old_accuracy": [None, 0.5, 0.25, 6 / 9],
    "new_accuracy": [1, None, 1, None],
    "learning_accuracy": 1,
    # 1: 1 - 0.5. 2: 1 - 0.25. 3: ((1 - 0.75) + (1 - 0.6)) / 2.
    "forgetting_after": [None, 0.5, 0.75, 0.325],
    "forgetting": 0.325,
    "backward_transfer": ((0.75 - 1) + (0.6 - 1)) / 2,
    # 3 of the 4 samples of old classes; if no class is new, none can be taken for a new one.
    "recency_bias": [None, None, 0.75, None],
}


@pytest.mark.parametrize("name", RETURNING)
def test_metrics_where_experiences_bring_no_class(name: str):
    assert _rounded(metrics.BY_NAME[name](returning())) == _rounded(RETURNING[name])


def test_metrics_within_experiences_that_bring_no_class():
    curve = Curve((1, 3, 5, 7), (0, 1, 2, 3), ((2,), (1, 0), (2, 0, 2), (0, 0, 4, 0)))
    values = metrics.derive(returning(), curve)
    # 2/4, 1 | 1/4, 2/4 | 4/9, 6/9 | 4/9, 6/9
    assert values["anytime_accuracy"] == pytest.approx((0.5 + 1 + 0.25 + 0.5 + 4 / 9 + 6 / 9 + 4 / 9 + 6 / 9) / 8)
    # The first: 0, in the last experience; that of experience 2: the end's 3/5, after 4/5.
    assert values["minimum_accuracy"] == pytest.approx((0 + 0.6) / 2)
    assert values["worst_case_accuracy"] is None
    assert _rounded(values["stability_gaps"]) == _rounded([None, 1 - 0.25, 0.5 - 0.25, 6 / 9 - 4 / 9])


def test_the_worst_case_weighs_by_the_experiences_that_bring_classes():
    rows = ((4,), (2, 0), (1, 0, 3))
    counts = Counts(rows, (4, 0, 4), ((4,), (2,), (1, 3)), (4, 4), (1, 0, 1), (None, None, None))
    # Two bring classes: half of the newest, 3/4, and half of the lowest of the first, 1/4.
    assert metrics.worst_case_accuracy(counts, Curve((), (), ())) == pytest.approx((0.75 + 0.25) / 2)


def test_predictions_are_counted_where_an_experience_brings_no_class():
    rows = [[3, 3, -1], [7, 3, -1], [7, 0, 0]]
    counts = count(rows, [3, 7, 0], [[3, 7], [], [0]], [True] * 3, setting="class_incremental")
    assert counts.correct == ((1,), (0, 0), (0, 0, 1))
    assert counts.total == (2, 0, 1)
    assert counts.old_as_new == (None, 0, 1)


def test_counts_with_no_class_in_the_first_experience_are_refused():
    with pytest.raises(ValueError, match="the first experience has no classes"):
        Counts(((0,), (0, 1)), (0, 2), ((), (1,)), (2,), (0, 1), (None, None))


def test_guessing_is_no_better_for_an_experience_that_brings_no_class():
    chance = metrics.chance([2, 0, 1], [4, 0, 5])
    assert chance["class_incremental"] == [1 / 2, 1 / 2, 1 / 3]
    assert chance["task_incremental"] == pytest.approx([1 / 2, 1 / 2, (4 / 2 + 5 / 1) / 9])


def test_intransigence_is_of_the_experiences_that_bring_classes():
    assert metrics.intransigence(returning(), returning()) == [0.0, None, 0.0, None]


def _rounded(value):
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return None if value is None else round(value, 12)
