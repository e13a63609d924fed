"""The confusion matrices: what was taken for what, counted by hand."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from stored_runs import publish

from clbench.comparison.classes import class_confusion
from clbench.comparison.grouping import compare
from clbench.comparison.rows import Comparison
from clbench.reporting.confusion import confusion, finding
from clbench.reporting.figures import all_figures
from clbench.reporting.publication import Selection, write_report
from clbench.results.stored_runs import read_all


def comparison(folder: Path) -> Comparison:
    (only,) = compare(read_all([folder])[0])
    return only


def test_rows_are_true_classes_and_columns_what_they_are_taken_for(tmp_path: Path) -> None:
    # Old ones that are wrong, 6 of 10, are given the newest experience's first class, 2; new ones, 1 of 10, class 3.
    publish(tmp_path, "lwf", old=0.4, new=0.9, order=(3, 1, 2, 0))
    figure = confusion(comparison(tmp_path))
    assert figure.headings == ("strategy", "true class", "3", "1", "2", "0")
    assert figure.rows == (
        ("lwf", "3", "40.0", "0.0", "60.0", "0.0"),
        ("lwf", "1", "0.0", "40.0", "60.0", "0.0"),
        ("lwf", "2", "10.0", "0.0", "90.0", "0.0"),
        ("lwf", "0", "10.0", "0.0", "0.0", "90.0"),
    )
    counts = {(row["class"], row["predicted"]): int(row["samples"]) for row in csv.DictReader(io.StringIO(figure.csv))}
    assert counts == {
        ("3", "3"): 4,
        ("3", "2"): 6,
        ("1", "1"): 4,
        ("1", "2"): 6,
        ("2", "3"): 1,
        ("2", "2"): 9,
        ("0", "3"): 1,
        ("0", "0"): 9,
    }
    assert finding(comparison(tmp_path)) == "The most frequent error: lwf predicts 60 % of class 1 as 2."


def test_seeds_with_other_class_orders_are_summed_by_class(tmp_path: Path) -> None:
    publish(tmp_path, "lwf", 0, old=0.0, order=(0, 1, 2, 3))  # takes 0 and 1 for 2
    publish(tmp_path, "lwf", 1, old=0.0, order=(2, 3, 1, 0))  # takes 2 and 3 for 1
    made = comparison(tmp_path)
    assert np.array_equal(
        class_confusion(made, made.rows[0]),
        [[10, 0, 10, 0], [0, 10, 10, 0], [0, 10, 10, 0], [0, 10, 0, 10]],
    )


def test_the_lower_reference_and_the_highest_remedy_are_shown(tmp_path: Path) -> None:
    for name, old in (("naive", 0.0), ("weak", 0.2), ("strong", 0.6), ("joint", 0.9)):
        publish(tmp_path, name, old=old)
    assert [title for title, _ in confusion(comparison(tmp_path)).panels] == ["naive (lower reference)", "strong"]


def test_of_more_than_twenty_classes_the_matrix_is_of_experiences_and_the_file_of_classes(tmp_path: Path) -> None:
    # All samples of experience 1 that are wrong go to the first class of experience 2, whichever classes those are.
    publish(tmp_path, "lwf", 0, old=0.5, sizes=(12, 12), order=list(range(24)))
    publish(tmp_path, "lwf", 1, old=0.5, sizes=(12, 12), order=list(range(23, -1, -1)))
    figure = confusion(comparison(tmp_path))
    assert figure.rows == (("lwf", "1", "50.0", "50.0"), ("lwf", "2", "0.0", "100.0"))
    rows = list(csv.DictReader(io.StringIO(figure.csv)))
    assert {row["predicted"] for row in rows if row["class"] != row["predicted"]} == {"12", "11"}
    assert sum(int(row["samples"]) for row in rows) == 2 * 24 * 10


@pytest.mark.slow
def test_without_an_evaluation_at_the_end_there_is_no_confusion_matrix(tmp_path: Path) -> None:
    publish(tmp_path / "r", "lwf", evaluated=[True, False])
    assert "confusion" not in {figure.key for figure in all_figures(comparison(tmp_path / "r"))}
    write_report([tmp_path / "r"], tmp_path / "report", Selection())
