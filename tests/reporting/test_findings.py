"""What the sentences of a report say: superlatives only of several, above guessing, and above doing nothing."""

import re
from pathlib import Path

import pytest
from stored_runs import publish

from clbench.comparison.grouping import compare
from clbench.comparison.rows import Comparison
from clbench.reporting import findings
from clbench.results.stored_runs import read_all

ALL = (
    findings.answer,
    findings.old_and_new,
    findings.matrices,
    findings.forgetting,
    findings.stability_and_plasticity,
    findings.errors,
    findings.cost,
)
SUPERLATIVE = re.compile(r"\b(best|most|highest|lowest|least|widest|fastest)\b")


def comparison(folder: Path) -> Comparison:
    (only,) = compare(read_all([folder])[0])
    return only


@pytest.mark.parametrize("names", [["lwf"], ["naive"], ["naive", "lwf"], ["naive", "lwf", "joint"]], ids="-".join)
def test_of_a_single_remedy_no_superlative_is_said(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        publish(tmp_path, name, old={"naive": 0.0, "lwf": 0.6, "joint": 0.9}[name])
    found = comparison(tmp_path)
    assert [said for said in (finding(found) for finding in ALL) if SUPERLATIVE.search(said)] == []


def test_a_single_remedy_that_learned_nothing_is_told_next_to_naive_which_did(tmp_path: Path) -> None:
    publish(tmp_path, "naive", old=0.0, new=1.0)
    publish(tmp_path, "lwf", old=0.9, new=0.0)
    found = comparison(tmp_path)
    assert findings.stability_and_plasticity(found) == (
        "lwf keeps 90.0 % of the old classes, naive 0.0 %; lwf learns 0.0 % of the new ones, naive 100.0 %."
    )
    # Four classes: guessing is right in a quarter of the cases.
    assert findings.old_and_new(found).endswith("New classes not learned, at or below guessing (25.0 %): lwf 0.0 %.")


def test_a_remedy_has_most_of_the_new_classes_only_if_naive_has_less(tmp_path: Path) -> None:
    for name, new in (("naive", 1.0), ("lwf", 0.9), ("l2", 0.8)):
        publish(tmp_path, name, new=new, old=0.5 if name == "lwf" else 0.0)
    said = findings.stability_and_plasticity(comparison(tmp_path))
    assert said == (
        "Of 2 remedies, lwf keeps most of the old classes, 50.0 %; "
        "none of 2 remedies learns more of the new ones than naive (100.0 %)."
    )


def test_a_remedy_has_most_only_if_it_has_more_than_guessing(tmp_path: Path) -> None:
    for name, old in (("lwf", 0.2), ("l2", 0.1)):
        publish(tmp_path, name, old=old, new=0.2)
    found = comparison(tmp_path)
    said = findings.stability_and_plasticity(found)
    assert "none of 2 remedies keeps more" in said.lower() and "than guessing (25.0 %)" in said
    assert "lwf 20.0 % (none of 2 remedies above guessing)" in findings.answer(found)


def test_a_remedy_that_learned_nothing_new_is_not_said_to_forget_least(tmp_path: Path) -> None:
    for name, new, old in (("naive", 1.0, 0.0), ("lwf", 0.0, 0.9), ("l2", 0.9, 0.5)):
        publish(tmp_path, name, new=new, old=old, sizes=(2, 1, 1))
    assert "least" not in findings.forgetting(comparison(tmp_path))


def test_remedies_that_are_equal_share_what_is_said(tmp_path: Path) -> None:
    for name in ("lwf", "l2", "ewc"):
        publish(tmp_path, name, old=0.4 if name == "ewc" else 0.8, new=0.9)
    said = findings.stability_and_plasticity(comparison(tmp_path))
    assert said == (
        "Of 3 remedies, l2 and lwf keep most of the old classes, 80.0 %; all 3 remedies learn 90.0 % of the new ones."
    )


def test_the_answer_calls_a_remedy_highest_only_among_several_and_above_naive(tmp_path: Path) -> None:
    for name, old in (("naive", 0.6), ("lwf", 0.4), ("l2", 0.2)):
        publish(tmp_path, name, old=old)
    assert findings.answer(comparison(tmp_path)) == (
        "Accuracy over all classes after 2 experiences: naive 80.0 %; lwf 70.0 % (none of 2 remedies above naive); "
        "guessing 25.0 %."
    )
    publish(tmp_path, "ewc", old=0.8)
    assert "; ewc 90.0 % (highest of 3 remedies); guessing" in findings.answer(comparison(tmp_path))


@pytest.mark.slow
def test_of_many_strategies_a_sentence_tells_the_references_and_the_highest_and_how_many_are_left(
    tmp_path: Path,
) -> None:
    publish(tmp_path, "naive", old=0.0)
    for n in range(10):
        publish(tmp_path, f"s{n}", old=0.1 * n)
    said = findings.old_and_new(comparison(tmp_path))
    assert "s6 60.0 %, s7 70.0 %, s8 80.0 %, s9 90.0 %, and 5 others." in said
    for finding in ALL:
        assert len(finding(comparison(tmp_path))) < 500


def test_a_single_row_has_seconds_and_no_multiples_of_its_own(tmp_path: Path) -> None:
    publish(tmp_path, "naive", seconds=2.0)
    assert findings.cost(comparison(tmp_path)) == "Time and bytes kept between experiences: naive 2.0 s and 0 B."


def test_being_told_the_experience_is_a_gap_only_where_it_gains(tmp_path: Path) -> None:
    # Told the experience, the mistaken old samples are given to the other class of two, which is wrong as well.
    for name in ("naive", "lwf"):
        publish(tmp_path, name, old=0.5)
    assert findings.settings(comparison(tmp_path)).startswith("No strategy gains.")
    publish(tmp_path / "one", "lwf", old=0.5)
    assert findings.settings(comparison(tmp_path / "one")).startswith("lwf: 75.0 % over all classes, 75.0 % given the")
