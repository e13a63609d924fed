"""The figures of accuracy within experiences and of rare classes, on runs whose numbers are known."""

import csv
import io
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from stored_runs import online, publish, returning

from clbench.comparison.grouping import compare
from clbench.comparison.rows import Comparison
from clbench.comparison.statistics import Estimate
from clbench.comparison.table import headings
from clbench.evaluation.curve import Curve
from clbench.reporting import findings, imbalance_figures
from clbench.reporting.figures import all_figures, within
from clbench.reporting.imbalance_figures import imbalance
from clbench.reporting.publication import Selection, write_report
from clbench.reporting.within_figures import thinned
from clbench.results.stored_runs import read_all

WITHIN = {"anytime_accuracy", "minimum_accuracy", "worst_case_accuracy", "stability_gap"}


def comparison(folder: Path) -> Comparison:
    (only,) = compare(read_all([folder])[0])
    return only


def two_seeds(folder: Path) -> Comparison:
    """Old classes are at 100 % before the second experience, fall to 20 and 40 %, and end at 50 %."""
    first = Curve((2, 4, 7, 9), (0, 0, 1, 1), ((8,), (16,), (4, 6), (8, 18)))
    second = Curve((2, 6, 8, 10), (0, 1, 1, 1), ((12,), (8, 10), (10, 18), (12, 20)))
    publish(folder, "er", 0, old=0.5, curve=first, steps=(5, 6))
    publish(folder, "er", 1, old=0.5, curve=second, steps=(4, 7))
    return comparison(folder)


def test_the_table_has_a_line_for_each_experience_with_the_fall_of_old_classes(tmp_path: Path) -> None:
    figure = within(two_seeds(tmp_path))
    assert figure.headings[2:] == ("old before, %", "old at least, %", "old at its end, %", "new at its end, %")
    (_, first_number, *first), (_, second_number, *second) = figure.rows
    assert (first_number, second_number) == ("1", "2")
    assert first[:3] == ["–"] * 3 and first[3].startswith("100.0")
    # Of 20 samples 4 and 8 at the lowest: 20 and 40 %.
    assert [text.split()[0] for text in second] == ["100.0", "30.0", "50.0", "100.0"]


def test_the_file_has_the_moments_that_all_seeds_have_and_the_ends(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(within(two_seeds(tmp_path)).csv)))
    of_second = [(float(row["steps"]), float(row["old_classes"])) for row in rows if row["experience"] == "2"]
    # From the beginning, after 5 and 4 steps, by the first two points of either to the end after 11.
    assert of_second == [(4.5, 1.0), (6.5, pytest.approx(0.3)), (8.5, pytest.approx(0.45)), (11.0, 0.5)]
    of_first = [(float(row["steps"]), float(row["new_classes"])) for row in rows if row["experience"] == "1"]
    assert of_first == [(2.0, pytest.approx(0.5)), (4.5, 1.0)]
    assert next(row["first_experience"] for row in rows if row["experience"] == "2") == "1.0"


def test_runs_with_a_curve_have_its_columns_and_others_have_not(tmp_path: Path) -> None:
    online(tmp_path / "online")
    assert set(headings(comparison(tmp_path / "online"))) >= WITHIN
    publish(tmp_path / "usual")
    usual = comparison(tmp_path / "usual")
    assert not WITHIN & set(headings(usual))
    assert "within" not in [figure.key for figure in all_figures(usual)]


def test_the_finding_says_how_far_old_classes_fall(tmp_path: Path) -> None:
    said = findings.within(two_seeds(tmp_path))
    assert said.startswith(
        "Drop in accuracy on old classes within an experience, below its value before it (stability gap): er 70."
    )


def test_each_strategy_has_a_panel_and_all_share_one(tmp_path: Path) -> None:
    online(tmp_path)
    titles = [title for title, _ in within(comparison(tmp_path)).panels]
    assert titles == ["Classes of the first experience", "naive (lower reference)", "means", "er"]


def test_evaluations_that_no_experience_reaches_are_warned_of(tmp_path: Path) -> None:
    publish(tmp_path / "seldom", curve=Curve((), (), ()), steps=(29, 6))
    (warning,) = comparison(tmp_path / "seldom").warnings
    assert warning.startswith("No evaluation falls within an experience; the longest has 29 gradient steps. ")
    assert not comparison_warns(two_seeds(tmp_path / "often"))
    publish(tmp_path / "usual")
    assert not comparison_warns(comparison(tmp_path / "usual"))


def test_the_warning_is_of_the_strategies_whose_experiences_are_too_short(tmp_path: Path) -> None:
    two_seeds(tmp_path)
    publish(tmp_path, "naive", 0, curve=Curve((), (), ()), steps=(29, 6))
    publish(tmp_path, "naive", 1, curve=Curve((), (), ()), steps=(29, 6))
    (warning,) = [each for each in comparison(tmp_path).warnings if "within an experience" in each]
    assert warning.startswith("No evaluation of naive falls within an experience; the longest has 29 ")


@pytest.mark.parametrize(("seeds", "bands"), [(2, False), (3, True)])
def test_a_band_is_drawn_from_three_seeds_on(tmp_path: Path, seeds: int, bands: bool) -> None:
    two_seeds(tmp_path)
    if seeds == 3:
        again = Curve((2, 4, 7, 9), (0, 0, 1, 1), ((9,), (17,), (5, 7), (9, 18)))
        publish(tmp_path, "er", 2, old=0.5, curve=again, steps=(5, 6))
    made = within(comparison(tmp_path))
    drawn = 0
    for _, panel in made.panels:
        _, axes = plt.subplots()
        panel.draw(axes)
        drawn += sum(len(path.vertices) > 0 for each in axes.collections for path in each.get_paths())
        plt.close()
    assert (drawn > 0) is bands


def comparison_warns(made: Comparison) -> bool:
    return any("within an experience" in warning for warning in made.warnings)


@pytest.mark.slow
def test_of_a_long_curve_the_falls_are_drawn_and_not_every_point() -> None:
    # It falls from 0.9 to 0.1 for a single evaluation, the 5000th, and once rises to 1, at the 7000th.
    values = [0.9 if at % 2 else 0.8 for at in range(10_000)]
    values[5000], values[7000] = 0.1, 1.0
    points = [(float(at), Estimate(value, None)) for at, value in enumerate(values)]
    drawn = thinned(points, 600)
    assert len(drawn) <= 600 and drawn == sorted(drawn, key=lambda point: point[0])
    assert {points[0], points[5000], points[7000], points[-1]} <= set(drawn)
    assert {value.mean for _, value in drawn} == {0.9, 0.8, 0.1, 1.0}
    assert thinned(points[:600], 600) == points[:600]


@pytest.mark.slow
@pytest.mark.usefixtures("every_format")
def test_the_report_has_the_figure_as_files(tmp_path: Path) -> None:
    online(tmp_path / "results")
    write_report([tmp_path / "results"], tmp_path / "report", Selection())
    files = {path.name.rpartition("-within")[2] for path in (tmp_path / "report" / "figures").glob("*-within*")}
    assert files == {".svg", ".png", ".pdf", ".csv"}
    assert all(path.stat().st_size for path in (tmp_path / "report" / "figures").iterdir())
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Accuracy within experiences" in page and "stability gap" in page


@pytest.mark.slow
def test_where_no_class_is_new_the_report_says_so(tmp_path: Path) -> None:
    returning(tmp_path / "results")
    write_report([tmp_path / "results"], tmp_path / "report", Selection())
    page = (tmp_path / "report" / "index.html").read_text()
    assert "no new class</text>" in page and "The last experience has no new class." in page
    assert ">nan<" not in page.lower()


# --- rare classes


def test_classes_stand_from_the_most_frequent_to_the_rarest(tmp_path: Path) -> None:
    publish(tmp_path, "er", old=0.4, new=0.9, order=(3, 1, 2, 0), training_images=(20, 500, 5, 60))
    made = comparison(tmp_path)
    # Of class 1 there are 500 images, of class 0 60, of 3 20 and of 2 5; old ones are 3 and 1.
    rows = (("1", "500", "40.0"), ("0", "60", "90.0"), ("3", "20", "40.0"), ("2", "5", "90.0"))
    assert imbalance(made).rows == rows
    assert imbalance_figures.finding(made) == (
        "The most frequent class has 100 times as many images as the rarest. Mean accuracy on the more frequent and on "
        "the rarer half of the classes: er 65 and 65 %."
    )


def test_where_frequencies_differ_between_seeds_classes_are_averaged_by_rank(tmp_path: Path) -> None:
    publish(tmp_path, "er", 0, old=0.4, order=(0, 1, 2, 3), training_images=(10, 20, 30, 100))
    publish(tmp_path, "er", 1, old=0.2, order=(0, 1, 2, 3), training_images=(100, 20, 30, 10))
    figure = imbalance(comparison(tmp_path))
    # First: class 3 (new, 1) and class 0 (old, 0.2). Last: class 0 (0.4) and class 3 (1).
    rows = list(csv.DictReader(io.StringIO(figure.csv)))
    assert [float(row["accuracy"]) for row in rows] == pytest.approx([0.6, 1.0, 0.3, 0.7])
    assert [row[0] for row in figure.rows] == ["rank 1", "rank 2", "rank 3", "rank 4"]
    assert "differs between seeds" in figure.note


def test_micro_and_macro_accuracy_stand_side_by_side_where_training_images_are_unequal(tmp_path: Path) -> None:
    publish(tmp_path / "rare", training_images=(50, 20, 20, 20))
    columns = list(headings(comparison(tmp_path / "rare")))
    assert columns[1:3] == ["final_accuracy", "final_accuracy_macro"]
    publish(tmp_path / "equal")
    equal = comparison(tmp_path / "equal")
    assert "final_accuracy_macro" not in headings(equal) and imbalance(equal).panels == ()
