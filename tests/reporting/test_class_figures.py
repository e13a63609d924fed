"""The figures of single classes: what is in their numbers and files, whatever the order of the classes."""

import csv
import io
from pathlib import Path

import pytest
from stored_runs import in_memory, publish

from clbench.comparison.grouping import compare
from clbench.comparison.rows import Comparison
from clbench.reporting import class_findings
from clbench.reporting.class_figures import per_class, per_domain
from clbench.reporting.publication import Selection, write_report
from clbench.results.stored_runs import StoredRun, read_all


def comparison(folder: Path) -> Comparison:
    (only,) = compare(read_all([folder])[0])
    return only


def test_classes_stand_in_the_order_in_which_they_were_learned_with_the_number_of_their_experience(
    tmp_path: Path,
) -> None:
    publish(tmp_path, "naive", old=0.0, order=(3, 1, 2, 0))
    publish(tmp_path, "lwf", old=0.4, new=0.9, order=(3, 1, 2, 0))
    figure = per_class(comparison(tmp_path))
    assert figure.headings == ("class", "learned in experience", "naive", "lwf")
    assert figure.rows == (
        ("3", "1", "0.0", "40.0"),
        ("1", "1", "0.0", "40.0"),
        ("2", "2", "100.0", "90.0"),
        ("0", "2", "100.0", "90.0"),
    )
    assert "in the order in which they were learned" in figure.note


def test_a_class_is_averaged_by_its_id_if_the_seeds_have_other_orders(tmp_path: Path) -> None:
    # Class 0 is old for seed 0 and new for seed 1, and the other way round class 2.
    publish(tmp_path, "naive", 0, old=0.0, order=(0, 1, 2, 3))
    publish(tmp_path, "naive", 1, old=0.2, order=(2, 1, 0, 3))
    figure = per_class(comparison(tmp_path))
    rows = list(csv.DictReader(io.StringIO(figure.csv)))
    assert [(row["class"], float(row["accuracy"]), row["experience"]) for row in rows] == [
        ("0", pytest.approx((0.0 + 1.0) / 2), ""),
        ("1", pytest.approx((0.0 + 0.2) / 2), ""),
        ("2", pytest.approx((1.0 + 0.2) / 2), ""),
        ("3", 1.0, ""),
    ]
    assert [row[1] for row in figure.rows] == ["–"] * 4 and "differs between seeds" in figure.note


def test_the_finding_names_the_lowest_and_the_highest_class(tmp_path: Path) -> None:
    publish(tmp_path, "lwf", old=0.4, new=0.9, order=(3, 1, 2, 0))
    assert class_findings.per_class(comparison(tmp_path)) == (
        "Range over the classes: lwf 40 % (class 1) to 90 % (class 2)."
    )


@pytest.mark.slow
def test_classes_are_named_as_the_dataset_names_them_and_their_names_are_only_text(tmp_path: Path) -> None:
    names = ("cat", "<b>dog</b>", "=1+1", "a\x07b")
    publish(tmp_path / "r", "naive", order=(1, 0, 3, 2), class_names=names)
    write_report([tmp_path / "r"], tmp_path / "report", Selection())
    markup = (tmp_path / "report" / "index.html").read_text()
    assert "naive 0 % (class cat) to 100 % (class a�b)" in markup
    assert "&lt;b&gt;dog&lt;/b&gt;" in markup and "<b>" not in markup and "\x07" not in markup
    rows = csv.DictReader(io.StringIO((tmp_path / "report/figures/tiny-quick-per-class.csv").read_text()))
    assert [row["class_name"] for row in rows] == ["<b>dog</b>", "cat", "a�b", "'=1+1"]
    rows = csv.DictReader(io.StringIO((tmp_path / "report/figures/tiny-quick-confusion.csv").read_text()))
    assert ("cat", "a�b") in {(row["class_name"], row["predicted_name"]) for row in rows}


def test_a_hundred_classes_are_in_panels_of_twenty_five_and_all_in_the_numbers(tmp_path: Path) -> None:
    publish(tmp_path, "naive", sizes=(10,) * 10, samples=2)
    figure = per_class(comparison(tmp_path))
    assert [title for title, _ in figure.panels] == [f"Classes, part {part} of 4" for part in (1, 2, 3, 4)]
    assert len(figure.rows) == 100


def test_the_panel_of_all_classes_is_called_so_however_long_their_names_are(tmp_path: Path) -> None:
    publish(tmp_path, "naive", class_names=("a tulip half off", "rose & thorn", "sunflower", "daisy"))
    ((title, _),) = per_class(comparison(tmp_path)).panels
    assert title == "All classes"


@pytest.mark.slow
def test_the_accuracy_of_each_class_is_in_the_report_and_its_csv_is_linked(tmp_path: Path) -> None:
    publish(tmp_path / "r", "naive")
    write_report([tmp_path / "r"], tmp_path / "report", Selection())
    path = "figures/tiny-quick-per-class.csv"
    assert (tmp_path / "report" / path).exists()
    assert f'href="{path}"' in (tmp_path / "report" / "index.html").read_text()


# -- domains ----------------------------------------------------------------------------------------------------------


def of_domains(folder: Path, seed: int, domains: tuple[str, ...], order: tuple[int, ...], names: str) -> StoredRun:
    """A run on two domains of two classes, the first of which is half forgotten."""
    run = publish(folder, "naive", seed, old=0.5, order=order)
    classes = tuple(f"{domain}/{each}" for domain in names.split() for each in ("cat", "dog"))
    scenario = run.spec.scenario.model_copy(update={"domains": domains, "class_names": classes})
    return in_memory(f"{seed}", run.spec.model_copy(update={"scenario": scenario}), run.result, run.costs)


def test_a_domain_is_averaged_by_its_name_if_the_seeds_have_other_orders(tmp_path: Path) -> None:
    runs = [
        of_domains(tmp_path, 0, ("sketch", "photo"), (2, 3, 0, 1), "photo sketch"),
        of_domains(tmp_path, 1, ("photo", "sketch"), (0, 1, 2, 3), "photo sketch"),
        of_domains(tmp_path, 2, ("photo", "sketch"), (0, 1, 2, 3), "photo sketch"),
    ]
    (both,) = compare(runs)
    figure = per_domain(both)
    assert figure.headings == ("domain", "naive")
    assert [(name, value.split()[0]) for name, value in figure.rows] == [("photo", "66.7"), ("sketch", "83.3")]
    assert figure.note == "The order differs between seeds: domains are averaged by name."
    assert (
        class_findings.per_domain(both) == "Range over the domains: naive 67 % (domain photo) to 83 % (domain sketch)."
    )
    assert "Old classes are the classes of earlier domains, new ones those of the newest." in both.notes
    (one,) = compare(runs[:1])
    assert per_domain(one).rows == (("sketch", "50.0"), ("photo", "100.0"))
    assert [name for name, _ in per_domain(one).panels] == ["All domains"]


def test_domains_that_each_seed_draws_are_known_by_their_numbers(tmp_path: Path) -> None:
    natural = (0, 1, 2, 3)
    runs = [
        of_domains(tmp_path, 0, ("30°", "-90°"), natural, "30° -90°"),
        of_domains(tmp_path, 1, ("7°", "110°"), natural, "7° 110°"),
    ]
    (both,) = compare(runs)
    assert not per_domain(both).panels
    assert [row[0] for row in per_class(both).rows] == ["domain 1/cat", "domain 1/dog", "domain 2/cat", "domain 2/dog"]
    (one,) = compare(runs[:1])
    assert [row[0] for row in per_class(one).rows] == ["30°/cat", "30°/dog", "-90°/cat", "-90°/dog"]


def test_streams_that_are_no_domains_have_no_figure_of_them(tmp_path: Path) -> None:
    publish(tmp_path, "naive")
    assert not per_domain(comparison(tmp_path)).panels
