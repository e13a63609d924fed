"""The metrics on cases small enough to work out by hand; the fractions in the tests are those of the comments."""

import inspect
import json
import math
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from clbench.evaluation import metrics
from clbench.evaluation.counts import Counts, count
from clbench.evaluation.metrics import chance, derive, intransigence

EXPERIENCE_CLASSES = [[3, 7], [0], [5, 2]]  # not in the order of their ids, and not evenly split
LABELS = [3, 3, 7, 7, 7, 0, 5, 2, 2, 2]  # samples per class: 3 → 2, 7 → 3, 0 → 1, 5 → 1, 2 → 3
CLASS_INCREMENTAL = [
    [3, 7, 7, 7, 3, -1, -1, -1, -1, -1],
    [3, 0, 0, 7, 7, 0, -1, -1, -1, -1],
    [5, 5, 2, 7, 0, 2, 5, 2, 3, 0],
]
TASK_INCREMENTAL = [
    [3, 7, 7, 7, 3, -1, -1, -1, -1, -1],
    [3, 3, 7, 7, 7, 0, -1, -1, -1, -1],
    [7, 7, 7, 7, 3, 0, 5, 5, 2, 2],
]


def one_class_each(*correct: Sequence[int] | None, total: Sequence[int]) -> Counts:
    """Task-incremental counts of experiences of one class, for which a class's counts are its experience's."""
    rows = tuple(None if row is None else tuple(row) for row in correct)
    return Counts(rows, tuple(total), rows, tuple(total), (1,) * len(total), (None,) * len(total))


def uneven() -> Counts:
    """Three experiences of 2, 1 and 2 classes and of 5, 1 and 4 test samples: the counts of CLASS_INCREMENTAL."""
    return Counts(
        correct=((3,), (3, 1), (1, 0, 2)),
        total=(5, 1, 4),
        class_correct=((1, 2), (1, 2, 1), (0, 1, 0, 1, 1)),
        class_total=(2, 3, 1, 1, 3),
        classes_per_experience=(2, 1, 2),
        old_as_new=(None, 2, 4),
    )


# --- counting


def test_class_incremental_predictions_are_counted_per_experience_and_class():
    assert count(CLASS_INCREMENTAL, LABELS, EXPERIENCE_CLASSES, [True] * 3, setting="class_incremental") == uneven()


def test_task_incremental_predictions_are_counted_and_have_no_old_as_new():
    counts = count(TASK_INCREMENTAL, LABELS, EXPERIENCE_CLASSES, [True] * 3, setting="task_incremental")
    assert counts.correct == ((3,), (5, 1), (2, 1, 3))
    assert counts.class_correct == ((1, 2), (2, 3, 1), (0, 2, 1, 1, 2))
    assert counts.old_as_new == (None, None, None)


def test_a_row_without_an_evaluation_is_not_read():
    rows = [[99], [], CLASS_INCREMENTAL[2]]
    counts = count(rows, LABELS, EXPERIENCE_CLASSES, [False, False, True], setting="class_incremental")
    assert counts.correct == (None, None, (1, 0, 2))
    assert counts.class_correct == (None, None, (0, 1, 0, 1, 1))
    assert counts.old_as_new == (None, None, 4)


def test_predictions_of_samples_of_classes_not_yet_seen_are_ignored():
    rows = np.array(CLASS_INCREMENTAL)
    rows[0, 5:] = [0, 5, 2, 2, 2]  # right, but before their classes came
    rows[1, 6:] = 99  # no class at all
    assert count(rows, LABELS, EXPERIENCE_CLASSES, [True] * 3, setting="class_incremental") == uneven()


def test_int16_arrays_are_counted_like_lists_into_plain_integers():
    counts = count(
        np.array(CLASS_INCREMENTAL, dtype=np.int16),
        np.array(LABELS, dtype=np.uint8),
        [np.array(own) for own in EXPERIENCE_CLASSES],
        np.array([True] * 3),
        setting="class_incremental",
    )
    assert counts == uneven()
    assert Counts.from_json(json.loads(json.dumps(counts.to_json()))) == counts


@pytest.mark.parametrize(
    ("setting", "i", "n", "prediction"),
    [
        pytest.param("class_incremental", 1, 0, -1, id="missing"),
        pytest.param("class_incremental", 1, 5, 5, id="of a class to come"),
        pytest.param("class_incremental", 2, 9, 4, id="of no class"),
        pytest.param("class_incremental", 2, 9, 8, id="of no class, beyond the highest id"),
        pytest.param("task_incremental", 2, 5, -1, id="missing, task-incremental"),
        pytest.param("task_incremental", 2, 5, 3, id="of another experience"),
    ],
)
def test_a_prediction_that_the_setting_does_not_allow_is_an_error_naming_it(setting, i, n, prediction):
    rows = np.array(CLASS_INCREMENTAL if setting == "class_incremental" else TASK_INCREMENTAL)
    rows[i, n] = prediction
    with pytest.raises(
        ValueError, match=rf"predictions\[{i}\]\[{n}\] is {prediction} for a sample of class {LABELS[n]}"
    ):
        count(rows, LABELS, EXPERIENCE_CLASSES, [True] * 3, setting=setting)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": [4, *LABELS[1:]]}, "label 4 is in no experience"),
        ({"labels": LABELS[:9]}, r"predictions\[0\] has 10 entries for 9 labels"),
        ({"labels": [float(label) for label in LABELS]}, "labels must be a one-dimensional array of integers"),
        ({"predictions": CLASS_INCREMENTAL[:2]}, "predictions has 2 rows for 3 experiences"),
        ({"evaluated": [True] * 4}, "evaluated has 4 rows for 3 experiences"),
        ({"experience_classes": [[3, 7], [0], [5, 2, 3]]}, "listed twice"),
        ({"experience_classes": [[3, 7], [0, -1], [5, 2]]}, "at least 0"),
        (
            {"experience_classes": [[], [3, 7, 0], [5, 2]], "evaluated": [False] * 3},
            "the first experience has no classes",
        ),
        (
            {"experience_classes": [[3, 7, 0], [4], [5, 2]], "evaluated": [False] * 3},
            "an experience has no test samples",
        ),
        ({"setting": "instance_incremental"}, "setting is 'instance_incremental'"),
    ],
)
def test_inconsistent_input_is_refused(change, sentence):
    fitting = {
        "predictions": CLASS_INCREMENTAL,
        "labels": LABELS,
        "experience_classes": EXPERIENCE_CLASSES,
        "evaluated": [True] * 3,
        "setting": "class_incremental",
    }
    with pytest.raises(ValueError, match=sentence):
        count(**(fitting | change))


# --- counts that cannot be true


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"total": (), "class_total": ()}, "there are no experiences"),
        ({"total": (5, 0, 5), "class_total": (2, 3, 0, 2, 3)}, "an experience has no test samples"),
        ({"classes_per_experience": (0, 3, 2)}, "the first experience has no classes"),
        ({"classes_per_experience": (2, 0, 3)}, r"class_total adds up to \(5, 0, 5\) per experience"),
        ({"classes_per_experience": (2, 1)}, "classes_per_experience has 2 entries for 3 experiences"),
        ({"correct": ((3,), (3, 1))}, "correct has 2 entries for 3 experiences"),
        ({"old_as_new": (None, 2)}, "old_as_new has 2 entries for 3 experiences"),
        ({"class_total": (2, 3, 1, 4)}, "class_total has 4 entries, not 5"),
        ({"class_total": (2, 3, 1, 1, 2)}, r"class_total adds up to \(5, 1, 3\) per experience"),
        ({"correct": (None, (3, 1), (1, 0, 2))}, "evaluation 0 is in only one of correct and class_correct"),
        ({"correct": ((3,), (3, 1, 0), (1, 0, 2))}, r"correct\[1\] has 3 entries, not 2"),
        ({"class_correct": ((1, 2), (1, 2), (0, 1, 0, 1, 1))}, r"class_correct\[1\] has 2 entries, not 3"),
        ({"class_correct": ((3, 0), (1, 2, 1), (0, 1, 0, 1, 1))}, r"class_correct\[0\]\[0\] is 3, but the class has 2"),
        ({"correct": ((2,), (3, 1), (1, 0, 2))}, r"class_correct\[0\] adds up to \(3,\) .* correct\[0\] is \(2,\)"),
        ({"correct": ((3,), (4, -1), (1, 0, 2))}, "a count is an integer of at least 0"),
        ({"correct": ((3.0,), (3, 1), (1, 0, 2))}, "correct.* holds 3.0"),
        ({"correct": ((3,), (3, True), (1, 0, 2))}, "correct.* holds True"),
        ({"correct": (3, (3, 1), (1, 0, 2))}, r"correct\[0\] is 3, not a tuple"),
        ({"total": (5, None, 4)}, "total holds None"),
        ({"old_as_new": (None, 2, 7.0)}, "old_as_new holds 7.0"),
        ({"old_as_new": (0, 2, 4)}, r"old_as_new\[0\] is 0, but there is nothing to count"),
        ({"old_as_new": (None, None, 4)}, r"old_as_new\[1\] is None"),
        ({"old_as_new": (None, 3, 4)}, r"old_as_new\[1\] is 3; 2 samples of old classes were wrong"),
    ],
)
def test_contradictory_counts_are_refused_with_the_reason(change, sentence):
    stored = {name: getattr(uneven(), name) for name in uneven().to_json()}
    with pytest.raises(ValueError, match=sentence):
        Counts(**(stored | change))


def test_old_as_new_without_an_evaluation_is_refused():
    with pytest.raises(ValueError, match=r"old_as_new\[1\] is 0, but there is nothing to count"):
        Counts(((1,), None), (2, 2), ((1,), None), (2, 2), (1, 1), (None, 0))


def test_counts_are_stored_as_plain_lists():
    assert uneven().to_json() == {
        "correct": [[3], [3, 1], [1, 0, 2]],
        "total": [5, 1, 4],
        "class_correct": [[1, 2], [1, 2, 1], [0, 1, 0, 1, 1]],
        "class_total": [2, 3, 1, 1, 3],
        "classes_per_experience": [2, 1, 2],
        "old_as_new": [None, 2, 4],
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": [0]}, "counts have the fields"),
        ({"total": 10}, "total is 10, not a list"),
        ({"total": [5, 1, 5]}, "class_total adds up to"),
    ],
)
def test_stored_counts_that_are_damaged_are_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        Counts.from_json(uneven().to_json() | change)


def test_stored_counts_that_lack_a_field_are_refused():
    stored = uneven().to_json()
    del stored["old_as_new"]
    with pytest.raises(ValueError, match="counts have the fields"):
        Counts.from_json(stored)


# --- metrics


def test_accuracy_matrix_has_a_gap_above_the_diagonal():
    assert derive(uneven())["accuracy_matrix"] == [[3 / 5, None, None], [3 / 5, 1.0, None], [1 / 5, 0.0, 2 / 4]]


def test_final_accuracy_weighs_samples_and_its_other_form_weighs_experiences():
    derived = derive(uneven())
    assert derived["final_accuracy"] == 3 / 10  # (1 + 0 + 2) / (5 + 1 + 4)
    assert derived["final_accuracy_by_experience"] == pytest.approx(7 / 30)  # (1/5 + 0/1 + 2/4) / 3


def test_macro_accuracy_weighs_classes():
    # 90 of 100 of one class and 1 of 2 of another are right: micro 91/102, macro (0.9 + 0.5) / 2. The third class has
    # no test samples, and so no recall to average.
    counts = Counts(((91,),), (102,), ((90, 1, 0),), (100, 2, 0), (3,), (None,))
    assert metrics.final_accuracy_macro(counts) == pytest.approx(0.7)
    assert metrics.final_accuracy(counts) == pytest.approx(91 / 102)


def test_macro_accuracy_is_that_of_scikit_learn():
    draw = np.random.default_rng(3)
    labels, predicted = draw.choice(4, 500, p=(0.7, 0.2, 0.07, 0.03)), draw.integers(0, 4, 500)
    counts = count([predicted], labels, [[0, 1, 2, 3]], [True], setting="class_incremental")
    assert metrics.final_accuracy_macro(counts) == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_accuracy_seen_weighs_samples_and_its_mean_is_the_average_incremental_accuracy():
    derived = derive(uneven())
    assert derived["accuracy_seen"] == [3 / 5, 4 / 6, 3 / 10]
    assert derived["average_incremental_accuracy"] == pytest.approx(47 / 90)  # (54 + 60 + 27) / 90 / 3


def test_old_accuracy_weighs_samples_of_earlier_experiences_and_new_accuracy_is_the_diagonal():
    derived = derive(uneven())
    assert derived["old_accuracy"] == [None, 3 / 5, 1 / 6]
    assert derived["new_accuracy"] == [3 / 5, 1.0, 2 / 4]
    assert derived["learning_accuracy"] == pytest.approx(7 / 10)  # (3/5 + 1 + 1/2) / 3


def test_recency_bias_is_the_share_of_old_samples_predicted_as_the_newest_classes():
    assert derive(uneven())["recency_bias"] == [None, 2 / 5, 4 / 6]


def test_recency_bias_is_undefined_in_the_task_incremental_setting():
    counts = count(TASK_INCREMENTAL, LABELS, EXPERIENCE_CLASSES, [True] * 3, setting="task_incremental")
    assert derive(counts)["recency_bias"] == [None, None, None]


def test_a_class_never_predicted_has_accuracy_zero():
    per_class = derive(uneven())["per_class_accuracy"]
    assert per_class == [[1 / 2, 2 / 3], [1 / 2, 2 / 3, 1.0], [0.0, 1 / 3, 0.0, 1.0, 1 / 3]]


def test_a_class_without_test_samples_has_no_accuracy():
    counts = Counts(((1,),), (2,), ((0, 1),), (0, 2), (2,), (None,))
    assert derive(counts)["per_class_accuracy"] == [[None, 1 / 2]]


def test_forgetting_is_the_best_earlier_minus_the_last_accuracy():
    # Experience 0 goes 0.8, 0.9, 0.4 and forgets 0.9 - 0.4; experience 1 goes 0.6, 0.5 and forgets 0.6 - 0.5.
    counts = one_class_each([8], [9, 6], [4, 5, 10], total=[10, 10, 10])
    derived = derive(counts)
    assert derived["forgetting"] == pytest.approx((0.5 + 0.1) / 2)
    # After experience 1 the best earlier of experience 0 is the 0.8 of experience 0, not the 0.9 of now.
    assert derived["forgetting_after"] == [None, pytest.approx(0.8 - 0.9), pytest.approx(0.3)]


def test_forgetting_exceeds_backward_transfer_if_the_best_accuracy_is_not_the_first():
    counts = one_class_each([8], [9, 6], [4, 5, 10], total=[10, 10, 10])
    assert derive(counts)["backward_transfer"] == pytest.approx(((0.4 - 0.8) + (0.5 - 0.6)) / 2)  # -0.25, not -0.3


def test_forgetting_is_negative_if_old_accuracy_improves():
    derived = derive(one_class_each([2], [3, 4], [5, 8, 1], total=[10, 10, 10]))
    assert derived["forgetting"] == pytest.approx(-(0.2 + 0.4) / 2)  # best earlier: 0.3 and 0.4; last: 0.5 and 0.8
    assert derived["backward_transfer"] == pytest.approx((0.3 + 0.4) / 2)


def test_forgetting_weighs_experiences_not_samples():
    # 100 samples lose 0.5, and 4 samples lose 0.25.
    assert derive(one_class_each([80], [80, 3], [30, 2, 0], total=[100, 4, 7]))["forgetting"] == (0.5 + 0.25) / 2


def test_one_experience_has_accuracies_and_nothing_to_forget():
    assert derive(Counts(((3,),), (4,), ((1, 2),), (2, 2), (2,), (None,))) == {
        "accuracy_matrix": [[3 / 4]],
        "final_accuracy": 3 / 4,
        "final_accuracy_macro": 3 / 4,
        "final_accuracy_by_experience": 3 / 4,
        "average_incremental_accuracy": 3 / 4,
        "accuracy_seen": [3 / 4],
        "old_accuracy": [None],
        "new_accuracy": [3 / 4],
        "forgetting": None,
        "forgetting_after": [None],
        "backward_transfer": None,
        "learning_accuracy": 3 / 4,
        "recency_bias": [None],
        "per_class_accuracy": [[1 / 2, 2 / 2]],
    }


def test_a_joint_run_evaluated_at_the_last_experience_only_has_final_accuracies_and_gaps():
    counts = Counts(
        (None, None, (1, 0, 2)), (5, 1, 4), (None, None, (0, 1, 0, 1, 1)), (2, 3, 1, 1, 3), (2, 1, 2), (None, None, 4)
    )
    assert derive(counts) == {
        "accuracy_matrix": [[None] * 3, [None] * 3, [1 / 5, 0.0, 2 / 4]],
        "final_accuracy": 3 / 10,
        "final_accuracy_macro": pytest.approx(1 / 3),  # (0 + 1/3 + 0 + 1 + 1/3) / 5
        "final_accuracy_by_experience": pytest.approx(7 / 30),
        "average_incremental_accuracy": None,
        "accuracy_seen": [None, None, 3 / 10],
        "old_accuracy": [None, None, 1 / 6],
        "new_accuracy": [None, None, 2 / 4],
        "forgetting": None,
        "forgetting_after": [None, None, None],
        "backward_transfer": None,
        "learning_accuracy": None,
        "recency_bias": [None, None, 4 / 6],
        "per_class_accuracy": [None, None, [0.0, 1 / 3, 0.0, 1.0, 1 / 3]],
    }


def test_a_missing_evaluation_leaves_forgetting_undefined_from_there_on():
    derived = derive(one_class_each([8], None, [4, 5, 10], total=[10, 10, 10]))
    assert derived["forgetting_after"] == [None, None, None]  # experience 0 may have been best when no one looked
    derived = derive(one_class_each([8], [9, 6], None, total=[10, 10, 10]))
    assert derived["forgetting_after"] == [None, pytest.approx(-0.1), None]
    assert derived["final_accuracy"] is None and derived["final_accuracy_by_experience"] is None


def test_every_metric_function_is_derived_under_its_name_and_states_its_formula():
    public = {
        name
        for name, function in inspect.getmembers(metrics, inspect.isfunction)
        if function.__module__ == metrics.__name__ and list(inspect.signature(function).parameters) == ["counts"]
    }
    assert {name for name in public if not name.startswith("_")} - {"derive"} == set(derive(uneven()))
    for name in derive(uneven()):
        first_line = inspect.getdoc(getattr(metrics, name)).splitlines()[0]
        assert set(first_line) & set("Σ=/["), f"{name}: {first_line}"


# --- references


def test_intransigence_is_what_the_joint_run_learned_better_at_each_experience():
    ours = one_class_each([8], [9, 6], [4, 5, 10], total=[10, 10, 10])
    joint = one_class_each([8], [8, 9], [9, 9, 7], total=[10, 10, 10])
    assert intransigence(ours, joint) == [0.0, pytest.approx(0.3), pytest.approx(-0.3)]


def test_intransigence_is_undefined_if_the_joint_run_was_not_evaluated():
    ours = one_class_each([8], [9, 6], [4, 5, 10], total=[10, 10, 10])
    assert intransigence(ours, one_class_each(None, None, [9, 9, 7], total=[10, 10, 10])) == [
        None,
        None,
        pytest.approx(-0.3),
    ]


def test_intransigence_refuses_a_joint_run_on_another_split():
    ours = one_class_each([8], [9, 6], total=[10, 10])
    with pytest.raises(ValueError, match=r"another split: its class_total is \(10, 20\), not \(10, 10\)"):
        intransigence(ours, one_class_each([8], [9, 6], total=[10, 20]))
    with pytest.raises(ValueError, match=r"another split: its classes_per_experience is \(2,\), not \(1, 1\)"):
        intransigence(ours, Counts(((8,),), (20,), ((4, 4),), (10, 10), (2,), (None,)))


def test_chance_is_one_in_the_classes_seen_and_in_the_experiences_own_classes_weighted_by_samples():
    assert chance((2, 1, 5), (6, 2, 10)) == {
        "class_incremental": [1 / 2, 1 / 3, 1 / 8],
        "task_incremental": [1 / 2, 5 / 8, 7 / 18],  # (3 + 2 + 2 of 18 right)
        "domain_incremental": [1 / 2, 5 / 8, 7 / 18],
    }


@pytest.mark.parametrize(("classes", "total"), [((2, 2), (5,)), ((2, 0), (5, 5)), ((2, 2), (5, 0))])
def test_chance_refuses_an_empty_experience(classes, total):
    with pytest.raises(ValueError, match="classes"):
        chance(classes, total)


# --- the promise of the module


def test_importing_metrics_imports_neither_numpy_nor_torch():
    program = (
        "import sys, clbench.evaluation.metrics; sys.exit(bool({'numpy', 'torch', 'avalanche'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=300).returncode == 0


def test_derived_metrics_are_json_without_nan():
    derived = derive(uneven())
    assert json.loads(json.dumps(derived, allow_nan=False)) == derived
    assert math.isfinite(derived["forgetting"])
