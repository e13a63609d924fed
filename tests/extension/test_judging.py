"""Counts, agreement and the choice, from hand-made answers."""

from __future__ import annotations

import numpy as np
import pytest

from clbench.extension import judging
from clbench.extension.image_sets import ImageSet
from clbench.results.extension_result import Agreement, Candidate, JudgedClass
from clbench.results.run_spec import StrategySpec

CLASSES = ("cat", "dog", "fox")


def images(role, labels) -> ImageSet:
    labels = np.array(labels)
    names = tuple(f"{role}/{row}.png" for row in range(len(labels)))
    return ImageSet(role, np.zeros((len(labels), 2, 2, 3), np.uint8), labels, names, 0, "0" * 64)


def candidate(name, *, old=None, new=None, agrees=None, images=100) -> Candidate:
    def one(class_name, is_new, right):
        return JudgedClass(
            name=class_name,
            is_new=is_new,
            train_images=1,
            test_images=0 if right is None else 10,
            correct_before=None if is_new else 10 if right is not None else 0,
            correct_after=right or 0,
        )

    compared = None
    if agrees is not None:
        compared = Agreement(images=images, same=agrees, among_old=agrees, taken_by_new=images - agrees)
    return Candidate(
        strategy=StrategySpec(name=name, sha256="0" * 64, config={}),
        classes=(one("cat", False, old), one("fox", True, new)),
        on_new=None,
        on_unlabelled=compared,
        confusion=(),
        changed=(),
        gradient_steps=0,
        samples_seen=0,
        seconds=0,
    )


def test_each_class_is_counted_on_its_own_test_images():
    sets = {
        "new": images("new", [2, 2, 2]),
        "new_test": images("new_test", [2, 2]),
        "old_test": images("old_test", [0, 0, 1]),
    }
    before = {"old_test": np.array([0, 1, 1]), "new_test": np.array([0, 1])}
    after = {"old_test": np.array([0, 2, 2]), "new_test": np.array([2, 0])}
    cat, dog, fox = judging.judged_classes(CLASSES, 2, sets, before, after)
    assert (cat.test_images, cat.correct_before, cat.correct_after, cat.train_images) == (2, 1, 1, 0)
    assert (dog.test_images, dog.correct_before, dog.correct_after) == (1, 1, 0)
    assert (fox.test_images, fox.correct_before, fox.correct_after, fox.train_images) == (2, None, 1, 3)


def test_agreement_counts_answers_that_stay_and_those_taken_by_new_classes():
    scores = np.array([[3, 1, 0], [0, 1, 5], [2, 1, 9], [0, 4, 1]], dtype=np.float32)
    found = judging.agreement(np.array([0, 1, 1, 0]), scores, 2)
    # Answers now: cat, fox, fox, dog. Among cat and dog: cat, dog, cat, dog.
    assert (found.images, found.same, found.taken_by_new, found.among_old) == (4, 1, 2, 2)


def test_confusion_has_every_test_image_once():
    sets = {"new_test": images("new_test", [2, 2]), "old_test": images("old_test", [0, 0, 1])}
    after = {"old_test": np.array([0, 2, 2]), "new_test": np.array([2, 0])}
    found = judging.confusion(CLASSES, sets, after)
    assert [(each.true, each.answer, each.images) for each in found] == [
        ("cat", "cat", 1),
        ("cat", "fox", 1),
        ("dog", "fox", 1),
        ("fox", "cat", 1),
        ("fox", "fox", 1),
    ]


def test_changed_answers_name_the_image_and_both_answers():
    sets = {"old_test": images("old_test", [0, 1]), "unlabelled": images("unlabelled", [-1, -1])}
    before = {"old_test": np.array([0, 1]), "unlabelled": np.array([0, 0])}
    after = {"old_test": np.array([0, 2]), "unlabelled": np.array([0, 2])}
    found = judging.changed_answers(CLASSES, sets, before, after)
    assert [(each.image, each.true, each.before, each.after) for each in found] == [
        ("old_test/1.png", "dog", "dog", "fox"),
        ("unlabelled/1.png", None, "cat", "fox"),
    ]


def all_changed(old: int, unlabelled: int) -> list[str]:
    """The images that are listed if the predictions of this many have changed."""
    sets = {"old_test": images("old_test", [0] * old), "unlabelled": images("unlabelled", [-1] * unlabelled)}
    before = {role: np.zeros(len(own), dtype=np.int64) for role, own in sets.items()}
    after = {role: np.ones(len(own), dtype=np.int64) for role, own in sets.items()}
    return [each.image for each in judging.changed_answers(CLASSES, sets, before, after)]


def test_old_and_unlabelled_images_whose_answers_changed_are_listed_in_turn():
    assert all_changed(3, 1) == ["old_test/0.png", "unlabelled/0.png", "old_test/1.png", "old_test/2.png"]
    assert all_changed(1, 3) == ["old_test/0.png", "unlabelled/0.png", "unlabelled/1.png", "unlabelled/2.png"]


@pytest.mark.parametrize(("old", "unlabelled"), [(300, 300), (300, 10), (0, 300), (150, 50)])
def test_no_more_changed_answers_are_listed_than_the_most(old, unlabelled):
    listed = all_changed(old, unlabelled)
    assert len(listed) == judging.MOST_CHANGED == len(set(listed))
    assert sum(name.startswith("unlabelled") for name in listed) == min(unlabelled, max(100, 200 - old))


def test_with_old_test_images_the_best_mean_is_chosen():
    best, rule = judging.choose(
        [candidate("a", old=10, new=0), candidate("b", old=8, new=8), candidate("c", old=0, new=10)]
    )
    assert best.strategy.name == "b" and "mean of old-class and new-class accuracy" in rule


def test_without_them_the_best_on_new_classes_of_those_that_agree():
    tried = [candidate("a", new=10, agrees=60), candidate("b", new=8, agrees=96), candidate("c", new=6, agrees=100)]
    best, rule = judging.choose(tried)
    assert best.strategy.name == "b" and "unlabelled images" in rule


def test_new_images_alone_do_not_decide_since_a_new_class_may_have_taken_the_old_images():
    tried = [candidate(name, new=right) for name, right in (("l2", 10), ("imprint", 7), ("naive", 10))]
    on_new = Agreement(images=10, same=0, among_old=10, taken_by_new=10)
    tried = [each.model_copy(update={"on_new": on_new}) for each in tried]
    best, rule = judging.choose(tried)
    assert best.strategy.name == "imprint" and rule.startswith("the usual one, since new images alone do not show")
    assert judging.choose([tried[0], tried[2]])[0].strategy.name == "l2"


def test_if_none_agrees_the_one_that_agrees_most():
    best, rule = judging.choose([candidate("a", new=10, agrees=60), candidate("b", new=1, agrees=80)])
    assert best.strategy.name == "b" and "none reaches 95 %" in rule


@pytest.mark.parametrize("values", [{"old": 5, "new": 5}, {"new": 5, "agrees": 99}])
def test_of_equals_the_first_is_chosen(values):
    assert judging.choose([candidate("a", **values), candidate("b", **values)])[0].strategy.name == "a"


@pytest.mark.parametrize("right, expected", [(0, True), (4, True), (5, False), (9, False)])
def test_it_is_like_guessing_if_guessing_reaches_it_in_more_than_5_percent(right, expected):
    # Of 9 images with 5 classes: P(≥ 4) = 0.086, P(≥ 5) = 0.020.
    assert judging.like_guessing(right, 9, 5) is expected


def test_of_many_images_too():
    assert judging.like_guessing(120, 1000, 10) is False
    assert judging.like_guessing(105, 1000, 10) is True


@pytest.mark.parametrize("right, said", [(0, True), (1, True), (2, True), (3, False), (10, False)])
def test_what_is_kept_and_has_learned_nothing_is_warned_of(right, said):
    # With ten images and 20 classes guessing reaches two in 8.6 % of cases and three in 1.2 %.
    assert bool([*judging.warnings_after(candidate("a", old=10, new=right), 20, 1)]) is said


def test_without_test_images_of_new_classes_nothing_is_said_of_them():
    assert not [*judging.warnings_after(candidate("a", old=10), 20, 1)]


@pytest.mark.parametrize("tried, advice", [(1, "-s all tries the other"), (2, "-s NAME keeps another")])
def test_the_warning_says_what_else_can_be_done(tried, advice):
    (said,) = judging.warnings_after(candidate("a", old=10, new=0), 3, tried)
    assert said.startswith("a gets 0 of 10 test images of new classes right") and advice in said


def test_a_single_test_image_that_is_answered_rightly_is_not_warned_of():
    one = JudgedClass(name="fox", is_new=True, train_images=1, test_images=1, correct_before=None, correct_after=1)
    assert not [*judging.warnings_after(candidate("a", old=10).model_copy(update={"classes": (one,)}), 5, 1)]


def test_strategies_that_are_as_good_as_the_chosen_one_are_named():
    tried = [candidate(name, old=8, new=right) for name, right in (("a", 8), ("b", 7), ("c", 8), ("d", 8))]
    best, rule = judging.choose(tried)
    assert best.strategy.name == "a" and rule.endswith("; c and d have the same")
    assert judging.choose(tried[:3])[1].endswith("; c has the same")
    assert "same" not in judging.choose(tried[:2])[1]
