"""The report: what its page says, its figures and tables as files, and what it does with odd and hostile runs."""

import csv
import html
import io
import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from page_text import shown
from PIL import Image
from rich.console import Console
from stored_runs import HOSTILE, publish, source

from clbench.comparison import table as comparison_table
from clbench.comparison.grouping import compare
from clbench.comparison.rows import Comparison
from clbench.errors import MachineError, UsageError
from clbench.reporting import figures, labels, provenance
from clbench.reporting.publication import Report, Selection, write_report
from clbench.reporting.strategy_marks import COLOURS, GREY, appearance
from clbench.results import manifests
from clbench.results.stored_runs import read_all
from clbench.system.toml import parse

FIGURES = (
    "old-new",
    "seen",
    "matrices",
    "forgetting",
    "stability-plasticity",
    "errors",
    "confusion",
    "cost",
    "settings",
)
ReportOf = Callable[[str], Report]


def page(report: Report) -> str:
    return report.page.read_text(encoding="utf-8")


def paragraphs(markup: str, name: str) -> list[str]:
    """The text of each paragraph of a class."""
    return [shown(found) for found in re.findall(rf'<p class="{name}">(.*?)</p>', markup, re.DOTALL)]


def alerts(markup: str) -> list[str]:
    banner = re.search(r'<section class="alert".*?</section>', markup, re.DOTALL)
    return [shown(item) for item in re.findall(r"<li>(.*?)</li>", banner[0], re.DOTALL)] if banner else []


def finding(markup: str, figure: str) -> str:
    (found,) = re.findall(rf'<figure id="[^"]*-{figure}">.*?<figcaption>(.*?)</figcaption>', markup, re.DOTALL)
    return shown(found)


def table(markup: str) -> dict[str, list[str]]:
    """The rows of the first table that sorts, by the name that they are sorted by."""
    (body, *_) = re.findall(r'<table class="sortable">.*?<tbody>(.*?)</tbody>', markup, re.DOTALL)
    rows = {}
    for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL):
        heading = re.search(r'data-sort="([^"]*)"', row)
        assert heading
        cells = [shown(cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        rows[re.sub("[\u2066-\u2069]", "", html.unescape(heading[1]))] = cells
    return rows


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def results(report: Report) -> Path:
    return report.page.parent.parent / "results"


def comparison(folder: Path) -> Comparison:
    (only,) = compare(read_all([folder])[0])
    return only


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_answer_is_a_short_sentence_with_the_numbers_worked_by_hand(report_of: ReportOf) -> None:
    (answer,) = paragraphs(page(report_of("usual")), "answer")
    # Three of six classes are old at the end. lwf keeps 0.4, 0.6, 0.4, 0.6, 0.4 of them: mean 0.48, and (0.48 + 1) / 2.
    assert answer == (
        "tiny. Accuracy over all classes after 3 experiences: naive 50.0 %; "
        "lwf 74.0 % (highest of 2 remedies; 5 seeds are too few to test that); joint, with all data, 95.0 %; "
        "guessing 16.7 %."
    )


@pytest.mark.slow
def test_the_table_has_every_strategy_with_its_numbers_its_evidence_and_its_marks(report_of: ReportOf) -> None:
    # lwf keeps 0.4, 0.6, 0.4, 0.6, 0.4 of the old: mean 0.48, s = 0.1095, and t(0.975, 4) = 2.776, so ± 0.136; half of
    # that in the final accuracy.
    rows = table(page(report_of("usual")))
    assert list(rows) == ["naive", "mine", "lwf", "joint"]
    assert rows["naive"][0] == "naive lower reference the usual one"
    assert rows["joint"][0] == "joint upper reference the usual one"
    assert rows["lwf"] == [
        "lwf the one of this test",
        *("74.0 ±6.8 best", "79.8 ±5.3", "48.0 ±13.6", "100.0 ±0.0", "52.0 ±13.6", "0.0 ±0.0", "82.7 ±4.5"),
        *("1.5", "80", "2.0 MB", "+24.0 ±6.8", "0.19", "by hand", "pass", "5"),
    ]
    assert rows["mine"][6] == "20.0 ±0.0"  # it learns 0.8 of each experience, and joint all
    assert rows["mine"][1] == "65.0 ±0.0 ≈" and rows["naive"][-5:] == ["–", "–", "default", "pass", "5"]


@pytest.mark.slow
def test_every_column_is_sorted_by_what_it_shows(report_of: ReportOf) -> None:
    (body, *_) = re.findall(r'<table class="sortable">.*?<tbody>(.*?)</tbody>', page(report_of("usual")), re.DOTALL)
    (lwf,) = [row for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL) if 'data-sort="lwf"' in row]
    final, *_, difference, p, tuned, verdict, seeds = re.findall(r'<td data-sort="([^"]*)"', lwf)
    assert (float(final), float(difference), float(p)) == pytest.approx((0.74, 0.24, 0.1875))
    assert (tuned, verdict, seeds) == ("by hand", "pass", "5")


def test_the_page_begins_with_old_and_new_classes_then_the_answer_then_the_table(report_of: ReportOf) -> None:
    markup = page(report_of("usual"))
    parts = (
        '<figure id="tiny-quick-old-new"',
        '<p class="answer"',
        '<table class="sort',
        '<figure id="tiny-quick-seen"',
    )
    places = [markup.index(part) for part in parts]
    assert places == sorted(places)
    assert markup.count('<figure id="tiny-quick-old-new"') == 1


def test_every_column_is_explained_in_the_page(report_of: ReportOf) -> None:
    markup = page(report_of("usual"))
    (legend,) = re.findall(r'<details class="legend">(.*?)</details>', markup, re.DOTALL)
    (headings,) = re.findall(r'<table class="sortable">.*?<thead>(.*?)</thead>', markup, re.DOTALL)
    explained = [shown(text) for text in re.findall(r"<dt>(.*?)</dt><dd>[a-z].{10,}?</dd>", legend)]
    assert explained == [shown(text) for text in re.findall(r"<th.*?</th>", headings)]


@pytest.mark.usefixtures("drawn")
def test_sections_that_differ_in_the_class_order_alone_say_so_in_heading_contents_and_file_names(
    tmp_path: Path,
) -> None:
    publish(tmp_path / "r")
    publish(tmp_path / "r", order=(1, 0, 3, 2))
    write_report([tmp_path / "r"], tmp_path / "report", Selection())
    markup = (tmp_path / "report" / "index.html").read_text()
    headings = [shown(text) for text in re.findall("<h2>(.*?)</h2>", markup)]
    assert len(set(headings)) == len(headings)
    assert [text.rpartition(", ")[2] for text in headings[:2]] == ["natural class order", "class order by seed"]
    assert set(pd.read_csv(tmp_path / "report" / "data.csv").class_order) == {"natural", "seed"}
    links = re.findall(r'<li><a href="#(tiny[^"]*)">(.*?)</a>', markup)
    assert len({anchor for anchor, _ in links}) == len({text for _, text in links}) == 2
    assert {path.name for path in (tmp_path / "report" / "tables").glob("*.csv")} == {
        "tiny-quick-natural-class-order.csv",
        "tiny-quick-class-order-by-seed.csv",
    }


def test_compare_shows_the_same_numbers_and_marks_as_the_page(report_of: ReportOf) -> None:
    report = report_of("usual")
    text = io.StringIO()
    comparison_table.print_comparison(Console(file=text, width=250), comparison(results(report)))
    for name, cells in table(page(report)).items():
        (line,) = [line for line in text.getvalue().splitlines() if line.startswith(name)]
        assert re.split(r"\s{2,}", line.strip())[1:] == cells[1:]


def test_the_banner_names_failed_damaged_left_out_and_unequal_runs(report_of: ReportOf) -> None:
    report = report_of("usual")
    said = alerts(page(report))
    assert re.fullmatch(
        r"Damaged, left out: tiny/spoilt/quick-seed0-\w{8}: result.json does not match MANIFEST.json", said[0]
    )
    assert said[1] == "Failed, left out: mine on tiny, seed 5: KeyError: 'lost' in experience 1"
    assert said[2:] == [
        *(f"Seeds 5 of {name} are left out: not every strategy has them." for name in ("joint", "lwf", "naive")),
        "Unequal budgets: samples seen, as multiples of the least: joint 3.0×.",
    ]
    assert "spoilt" not in table(page(report)) and list(report.left_out) == said[:2]


@pytest.mark.slow
def test_the_page_of_runs_with_nothing_wrong_has_no_banner(report_of: ReportOf) -> None:
    assert alerts(page(report_of("single"))) == []


def test_the_facts_have_date_number_versions_and_device(report_of: ReportOf) -> None:
    (facts,) = re.findall(r'<p class="facts">(.*?)</p>', page(report_of("usual")))
    assert [shown(fact) for fact in re.findall("<span>(.*?)</span>", facts)] == [
        "made 2026-01-02",
        "23 runs, 5 seeds per strategy",
        *("clbench 0.1.0", "torch 2.4.0", "avalanche-lib 0.6.0"),
        "device: A processor",
    ]


def test_every_figure_states_what_its_numbers_do(report_of: ReportOf) -> None:
    markup = page(report_of("usual"))
    assert "naive has forgotten" in finding(markup, "old-new") and "mine have" not in finding(markup, "old-new")
    assert finding(markup, "seen").startswith("Mean over the experiences: naive ")
    assert "mine from 80 to 50, lwf from 100 to 48" in finding(markup, "matrices")
    assert finding(markup, "forgetting") == (
        "Forgetting after the last experience: naive 100.0 ±0.0 points, mine 30.0 ±0.0 points, lwf 52.0 ±13.6 points, "
        "joint 10.0 ±0.0 points. Of 2 remedies, mine forgets least."
    )
    assert "Of 2 remedies, mine keeps most of the old classes, 50.0 ±0.0 %; none" in finding(
        markup, "stability-plasticity"
    )
    assert finding(markup, "errors").endswith("at the end: naive 100 %, lwf 52 %, mine 50 %, joint 10 %.")
    assert "mine 2.0× and 0 B, lwf 1.0× and 2.0 MB, joint 4.0× and 0 B" in finding(markup, "cost")
    # Told the experience, naive is right on its single-class experience too: (0 + 10 + 30) of 60.
    assert "naive's: 50.0 % over all classes, 66.7 % given the" in finding(markup, "settings")


def test_the_numbers_of_every_figure_are_in_the_page(report_of: ReportOf) -> None:
    markup = page(report_of("usual"))
    for name in FIGURES:
        (body,) = re.findall(rf'<figure id="[^"]*-{name}">.*?<tbody>(.*?)</tbody>', markup, re.DOTALL)
        assert "lwf" in body, name
    assert "<td>3</td><td>48.0 ±13.6</td><td>100.0 ±0.0</td>" in markup


def test_methods_are_described_by_the_file_that_ran_with_its_settings_and_hash(report_of: ReportOf) -> None:
    report = report_of("usual")
    markup = page(report)
    (article,) = [part for part in re.findall(r"<article.*?</article>", markup, re.DOTALL) if "<h3>lwf</h3>" in part]
    assert "Learning without forgetting, so far as a report looks at it." in article
    assert "alpha 2.0 (default 1.0) Weight of the old answers." in shown(article)
    assert "temperature 2.0 Softens them." in shown(article)
    (file,) = re.findall(r'href="(methods/[^"]+)"', article)
    (run, *_) = [run for run in read_all([results(report)])[0] if run.spec.strategy.name == "lwf"]
    assert (report.page.parent / file).read_bytes() == run.source and run.spec.strategy.sha256 in article


def test_the_command_makes_the_runs_again(report_of: ReportOf) -> None:
    assert provenance.commands(comparison(results(report_of("usual")))) == [
        "clbench run -s naive,mine,lwf,joint -S tiny --recipe quick --setting class --split 2+1+3 "
        "--class-order natural --seeds 0,1,2,3,4 --device cpu --threads 1 --set lwf.alpha=2.0"
    ]


def test_the_study_that_makes_the_runs_again_is_a_download(report_of: ReportOf) -> None:
    report = report_of("usual")
    assert '<a href="study.toml" download>' in page(report)
    text = (report.page.parent / "study.toml").read_text()
    study = parse(text)
    assert (study["scenario"], study["split"]) == ("tiny", "2+1+3")
    assert study["grid"] == [
        {"strategy": ["joint", "lwf", "naive"], "seeds": 6, "set": {"lwf": {"alpha": 2.0}}},
        {"strategy": "mine", "seeds": 5},
    ]
    files = re.findall(r"here (methods/\S+)", text)
    assert len(files) == 4 and all((report.page.parent / file).is_file() for file in files)


def test_configurations_of_one_strategy_take_a_command_each(tmp_path: Path) -> None:
    for alpha in (1.0, 4.0):
        publish(tmp_path, "mine", 3, config={"alpha": alpha}, recipe="quick-epochs2", order=(1, 0, 3, 2), threads=2)
    common = (
        "clbench run -s mine -S tiny --recipe quick --setting class --epochs 2 --split 2 --class-order seed --seeds 3, "
        "--device cpu --threads 2 --set mine.alpha="
    )
    assert sorted(provenance.commands(comparison(tmp_path))) == [f"{common}1.0", f"{common}4.0"]


def test_where_machines_differ_all_are_named(tmp_path: Path) -> None:
    for seed, environment in enumerate(({"processor": "A", "gpu": "G"}, {"processor": "B", "packages": None}, {})):
        publish(tmp_path, seed=seed, environment=environment)
    runs = read_all([tmp_path])[0]
    assert dict(provenance.surroundings(runs)) == {"processor": "A, B", "GPU": "G", "device": "cpu"}
    assert provenance.dates(runs) == ""


# -- files ------------------------------------------------------------------------------------------------------------


def test_every_figure_is_there_as_svg_png_and_pdf_and_linked(report_of: ReportOf) -> None:
    report = report_of("usual")
    markup, folder = page(report), report.page.parent
    for name in FIGURES:
        paths = [f"figures/tiny-quick-{name}.{ending}" for ending in ("svg", "png", "pdf")]
        assert all(f'href="{path}"' in markup for path in paths)
        svg, png, pdf = (folder / path for path in paths)
        root = ElementTree.fromstring(svg.read_bytes())
        title = root.find("{http://www.w3.org/2000/svg}title")
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and title is not None and "tiny" in (title.text or "")
        with Image.open(png) as image:
            assert image.width > 400 and len(image.convert("L").getcolors() or ()) > 20
        assert pdf.read_bytes().startswith(b"%PDF-") and b"/Title" in pdf.read_bytes()


def test_every_drawing_holds_all_markers_and_clips_that_it_refers_to_under_ids_of_its_own(report_of: ReportOf) -> None:
    markup = page(report_of("usual"))
    drawings = re.findall(r"<svg.*?</svg>", markup, re.DOTALL)
    assert len(drawings) > 10
    for drawing in drawings:
        referred = {one or other for one, other in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', drawing)}
        assert referred and referred <= set(re.findall(r' id="([^"]+)"', drawing))
    ids = re.findall(r' id="([^"]+)"', markup)
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_everything_the_page_links_to_is_there_and_nothing_lies_outside(report_of: ReportOf) -> None:
    for name in ("usual", "hostile"):
        report = report_of(name)
        markup = page(report)
        links = set(re.findall(r'(?<!:)href="([^"]+)"', markup)) - {"data:,"}
        ids = re.findall(r' id="([^"]+)"', markup)
        assert len(ids) == len(set(ids)) and {link[1:] for link in links if link.startswith("#")} <= set(ids)
        assert {link for link in links if not link.startswith("#")} == set(files(report.page.parent)) - {"index.html"}


def test_the_table_as_csv_has_the_full_numbers_and_the_evidence(report_of: ReportOf) -> None:
    path = report_of("usual").page.parent / "tables" / "tiny-quick.csv"
    rows = {row["strategy"]: row for row in csv.DictReader(io.StringIO(path.read_text()))}
    lwf = rows["lwf"]
    assert (lwf["reference"], lwf["standing"], lwf["n"], lwf["seeds"]) == ("", "best", "5", "0 1 2 3 4")
    assert float(lwf["final_accuracy"]) == pytest.approx(0.74)
    assert float(lwf["to_lower"]) == pytest.approx(0.24) and float(lwf["to_lower_p"]) == pytest.approx(2 / 2**5)
    assert float(lwf["to_lower_p_holm"]) == pytest.approx(3 * 2 / 2**5) and lwf["to_best"] == ""
    assert rows["naive"]["reference"] == "lower" and float(rows["naive"]["to_best"]) == pytest.approx(-0.24)


def test_the_table_as_markdown_and_latex_has_what_the_page_shows(report_of: ReportOf) -> None:
    report = report_of("usual")
    markdown, latex = ((report.page.parent / f"tables/tiny-quick.{end}").read_text() for end in ("md", "tex"))
    for cells in list(table(page(report)).values())[1:3]:
        assert f"| {' | '.join(cells[1:])} |" in markdown
        row = " & ".join(cells[1:]).replace("±", r"$\pm$").replace("≈", r"$\approx$")
        assert rf"& {row} \\" in latex
    assert r"\toprule" in latex and r"\begin{tabular}{lrrrrrrrrrrrrrrr}" in latex
    assert "- Unequal budgets: samples seen, as multiples of the least: joint 3.0×." in markdown


def test_the_tidy_data_have_a_row_for_each_count_of_each_run(report_of: ReportOf) -> None:
    data = pd.read_csv(report_of("usual").page.parent / "data.csv")
    # 23 runs, two settings, and after 1, 2, 3 experiences as many of them tested.
    assert len(data) == 23 * 2 * (1 + 2 + 3)
    chosen = data[(data.strategy == "lwf") & (data.seed == 1) & (data.setting == "class_incremental")]
    assert chosen[chosen.after == 2].correct.tolist() == [12, 6, 30]
    assert chosen[chosen.after == 2].total.tolist() == [20, 10, 30]


def test_a_page_of_usual_size_is_far_below_a_megabyte(report_of: ReportOf) -> None:
    assert report_of("usual").page.stat().st_size < 500_000


@pytest.mark.slow
def test_the_page_is_made_without_torch_and_avalanche_and_without_looking_at_the_network(tmp_path: Path) -> None:
    publish(tmp_path / "results")
    code = f"""
import socket, sys
def refuse(*arguments): raise AssertionError("the network was asked")
socket.socket.connect = refuse
sys.argv = ["clbench", "report", {str(tmp_path / "results")!r}, "--out", {str(tmp_path / "report")!r}]
from clbench.cli.program import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
assert not {{"torch", "torchvision", "avalanche"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 'report' / 'index.html'}: 1 run in 1 comparison\n"


# -- the same bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("every_format")
def test_all_files_are_the_same_bytes_from_a_copy_of_the_runs_given_in_another_order(
    report_of: ReportOf, tmp_path: Path
) -> None:
    report = report_of("usual")
    copy = tmp_path / "elsewhere"
    shutil.copytree(results(report), copy)
    parts = sorted(copy.glob("tiny/*"), reverse=True)
    again = write_report([*parts, copy], tmp_path / "again", Selection())
    assert again.left_out == report.left_out
    one, other = files(report.page.parent), files(again.page.parent)
    assert set(one) == set(other)
    assert [name for name in one if one[name] != other[name]] == []


def test_of_a_run_that_was_made_twice_the_same_is_read_whatever_the_order(tmp_path: Path) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    for place, seconds in zip(places, (1.0, 9.0), strict=True):
        publish(place, seconds=seconds)
    (one,), (other,) = read_all(places)[0], read_all(places[::-1])[0]
    assert one.result.totals == other.result.totals


# -- which runs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are not drawn, for tests that look at everything else."""
    monkeypatch.setattr(figures, "all_figures", lambda comparison: [])


@pytest.mark.usefixtures("drawn")
def test_the_title_names_each_scenario_once(tmp_path: Path) -> None:
    publish(tmp_path / "r")
    publish(tmp_path / "r", recipe="long")
    publish(tmp_path / "r", scenario="other")
    write_report([tmp_path / "r"], tmp_path / "report", Selection())
    (title,) = re.findall("<title>(.*?)</title>", (tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
    assert title in ("What is forgotten: other, tiny", "What is forgotten: tiny, other")


@pytest.mark.parametrize(
    ("selection", "runs", "strategies"),
    [
        (Selection(), 4, ["lwf", "naive"]),
        (Selection(strategies=("lwf",)), 2, ["lwf"]),
        (Selection(scenarios=("other",)), 1, ["naive"]),
        (Selection(recipes=("long",)), 1, ["lwf"]),
        (Selection(("naive", "lwf"), ("tiny",), ("quick",)), 2, ["lwf", "naive"]),
    ],
    ids=str,
)
@pytest.mark.usefixtures("drawn")
def test_runs_are_chosen_by_strategy_scenario_and_recipe(
    tmp_path: Path, selection: Selection, runs: int, strategies: list[str]
) -> None:
    publish(tmp_path / "r", "naive")
    publish(tmp_path / "r", "naive", scenario="other")
    publish(tmp_path / "r", "lwf")
    publish(tmp_path / "r", "lwf", recipe="long")
    report = write_report([tmp_path / "r"], tmp_path / "report", selection)
    data = pd.read_csv(tmp_path / "report" / "data.csv")
    assert report.runs == runs == data.run.nunique() and sorted(set(data.strategy)) == strategies


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(strategies=("naif",)), "no stored run has the strategy 'naif'; did you mean 'naive'?"),
        (Selection(scenarios=("x",)), "no stored run has the scenario 'x'"),
        (Selection(recipes=("slow",)), "no stored run has the recipe 'slow'"),
    ],
    ids=str,
)
def test_a_name_that_no_run_has_is_a_mistake(tmp_path: Path, selection: Selection, message: str) -> None:
    publish(tmp_path / "r")
    with pytest.raises(UsageError) as raised:
        write_report([tmp_path / "r"], tmp_path / "report", selection)
    assert str(raised.value).startswith(message) and not (tmp_path / "report").exists()


def test_without_a_sound_run_there_is_no_report_and_the_damage_is_told(tmp_path: Path) -> None:
    run = publish(tmp_path / "r")
    (run.path / "spec.json").unlink()
    with pytest.raises(UsageError, match=r"spec\.json is missing"):
        write_report([tmp_path / "r"], tmp_path / "report", Selection())


@pytest.mark.usefixtures("drawn")
def test_a_report_takes_the_place_of_the_last_whole_and_of_nothing_else(tmp_path: Path) -> None:
    publish(tmp_path / "r", "naive")
    write_report([tmp_path / "r"], tmp_path / "report", Selection())
    publish(tmp_path / "r", "lwf", scenario="other")
    write_report([tmp_path / "r"], tmp_path / "report", Selection(strategies=("lwf",)))
    assert {path.name for path in (tmp_path / "report" / "tables").iterdir()} == {
        f"other-quick{end}" for end in (".csv", ".md", ".tex", "-short.tex")
    }
    assert {path.name for path in tmp_path.iterdir()} == {"r", "report"}
    (tmp_path / "report" / "thesis.txt").write_text("mine")
    before = files(tmp_path / "report")
    with pytest.raises(MachineError, match="something other than a report"):
        write_report([tmp_path / "r"], tmp_path / "report", Selection())
    assert files(tmp_path / "report") == before


@pytest.mark.slow
def test_how_far_reading_and_drawing_are_can_be_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "all_figures", lambda comparison: [figures.matrices(comparison)])
    watched = []

    def watch(items: Sequence[Any], what: str) -> Sequence[Any]:
        watched.append((what, len(items)))
        return items

    publish(tmp_path / "r", "naive")
    publish(tmp_path / "r", "naive", scenario="other")
    write_report([tmp_path / "r"], tmp_path / "report", Selection(), watch)
    assert watched == [("reading runs", 2), ("drawing figures", 2)]


@pytest.mark.parametrize("entry", ["thesis.txt", "figures/mine.png", "data.csv"])
def test_a_folder_that_holds_something_else_is_refused_before_anything_is_drawn(
    entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clbench.reporting.publication.sections", lambda *_: pytest.fail("figures are drawn"))
    publish(tmp_path / "r")
    (tmp_path / "report" / entry).parent.mkdir(parents=True)
    (tmp_path / "report" / entry).touch()
    with pytest.raises(MachineError, match="something other than a report"):
        write_report([tmp_path / "r"], tmp_path / "report", Selection())


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("entry", ["figures/mine.png", "tables/deep/mine.csv"])
def test_a_report_into_which_something_else_was_put_is_not_replaced(entry: str, tmp_path: Path) -> None:
    publish(tmp_path / "r")
    write_report([tmp_path / "r"], tmp_path / "report", Selection())
    write_report([tmp_path / "r"], tmp_path / "report", Selection())  # a report alone is
    (tmp_path / "report" / entry).parent.mkdir(exist_ok=True)
    (tmp_path / "report" / entry).write_text("mine")
    with pytest.raises(MachineError, match="something other than a report"):
        write_report([tmp_path / "r"], tmp_path / "report", Selection())
    assert (tmp_path / "report" / entry).read_text() == "mine"


@pytest.mark.usefixtures("drawn")
def test_a_report_that_cannot_be_written_leaves_the_last_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "r")
    write_report([tmp_path / "r"], tmp_path / "report", Selection())
    before = files(tmp_path / "report")

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clbench.reporting.publication.write_synced", full)
    with pytest.raises(MachineError, match="No space left"):
        write_report([tmp_path / "r"], tmp_path / "report", Selection())
    assert files(tmp_path / "report") == before and {path.name for path in tmp_path.iterdir()} == {"r", "report"}


@pytest.mark.usefixtures("drawn")
def test_what_a_killed_command_left_is_cleared_up_and_the_report_it_had_moved_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "r")
    write_report([tmp_path / "r"], tmp_path / "report", Selection())
    before = files(tmp_path / "report")
    (tmp_path / "report").rename(tmp_path / ".report-0123abcd-before")
    (tmp_path / ".report-0123abcd").mkdir()
    (tmp_path / ".report-mine").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("clbench.reporting.publication.write_synced", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_report([tmp_path / "r"], tmp_path / "report", Selection())
    assert files(tmp_path / "report") == before
    assert {path.name for path in tmp_path.iterdir()} == {"r", "report", ".report-mine"}


@pytest.mark.usefixtures("drawn")
def test_a_command_that_is_stopped_while_it_replaces_a_report_leaves_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "r")
    write_report([tmp_path / "r"], tmp_path / "report", Selection())
    before, rename = files(tmp_path / "report"), Path.rename

    def stopped(path: Path, to: Path) -> Path:
        if to.name == "report" and not path.name.endswith("-before"):
            raise KeyboardInterrupt
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_report([tmp_path / "r"], tmp_path / "report", Selection())
    assert files(tmp_path / "report") == before and {path.name for path in tmp_path.iterdir()} == {"r", "report"}


def test_the_working_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "r")
    (tmp_path / "report").mkdir()
    monkeypatch.chdir(tmp_path / "report")
    for out in (Path(), tmp_path / "report"):
        with pytest.raises(MachineError, match="is the working folder"):
            write_report([tmp_path / "r"], out, Selection())


@pytest.mark.usefixtures("drawn")
def test_a_report_replaces_the_one_that_a_link_leads_to(tmp_path: Path) -> None:
    publish(tmp_path / "r")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    for _ in range(2):
        report = write_report([tmp_path / "r"], tmp_path / "link", Selection())
        assert (tmp_path / "link").is_symlink() and report.page == tmp_path / "link" / "index.html"
        assert (tmp_path / "elsewhere" / "index.html").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"r", "link", "elsewhere"}


# -- odd comparisons --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_strategy_one_seed_one_experience_claims_nothing_that_it_cannot_know(report_of: ReportOf) -> None:
    markup = page(report_of("single"))
    assert paragraphs(markup, "answer") == [
        "tiny. Accuracy over all classes after one experience: alone 70.0 %; guessing 25.0 %."
    ]
    (cells,) = table(markup).values()
    assert "±" not in " ".join(cells) and "best" not in " ".join(cells) and cells[-1] == "1"
    assert any("One seed (n = 1): there is no interval." in note for note in paragraphs(markup, "note"))
    assert finding(markup, "old-new") == "One experience, so nothing to forget. New classes: alone 70.0 %."
    assert "Undefined here" in finding(markup, "forgetting") and "Undefined here" in finding(markup, "errors")
    assert not re.search(r"\bnan\b", shown(markup), re.IGNORECASE)


@pytest.mark.slow
def test_a_joint_run_that_was_evaluated_at_the_end_alone_has_a_row_with_dashes(report_of: ReportOf) -> None:
    markup = page(report_of("long"))
    cells = table(markup)["joint"]
    assert cells[1] == "90.5 ±0.0" and cells[2] == "–" and cells[5] == "–"
    assert "joint" not in finding(markup, "forgetting")
    assert "after 20 experiences: naive" in paragraphs(markup, "answer")[0]


@pytest.mark.slow
def test_of_twelve_strategies_all_are_drawn_and_lines_in_one_panel_are_few_enough_to_be_told_apart(
    report_of: ReportOf,
) -> None:
    report = report_of("crowd")
    names = ["naive", "joint", *(f"third-party-{n}" for n in range(10))]
    assert set(table(page(report))) == set(names)
    chosen = ["naive", "joint", *(f"third-party-{n}" for n in range(4, 10))]
    for figure in {*FIGURES, "each"} - {"confusion"}:  # which is of two of them
        (shown_figure,) = re.findall(rf'<figure id="[^"]*-{figure}">(.*?)</figure>', page(report), re.DOTALL)
        text = "".join(re.findall(r"<svg.*?</svg>", shown_figure, re.DOTALL))
        few = figure in ("old-new", "seen", "forgetting", "errors")
        assert [name for name in names if name in text] == [name for name in names if name in chosen or not few], figure
        assert finding(page(report), figure).endswith("the references and those that end highest.") == few
        (numbers,) = re.findall(rf'<figure id="[^"]*-{figure}">.*?<tbody>(.*?)</tbody>', page(report), re.DOTALL)
        assert all(name in numbers for name in names)
    # Six remedies end alike: with one seed nothing tells them apart, and equal is not highest.
    assert [name for name, cells in table(page(report)).items() if cells[1].endswith("≈")] == [
        f"third-party-{n}" for n in range(4, 9)
    ]
    assert "(highest of 10 remedies, tied with 5 others)" in paragraphs(page(report), "answer")[0]


@pytest.mark.usefixtures("drawn")
def test_strategies_without_a_common_seed_are_not_said_to_be_better_or_worse(tmp_path: Path) -> None:
    publish(tmp_path / "r", "naive", 0)
    publish(tmp_path / "r", "naive", 1)
    publish(tmp_path / "r", "lwf", 2, old=0.9)
    markup = page(write_report([tmp_path / "r"], tmp_path / "report", Selection()))
    assert "no seed in common, so these runs cannot show" in paragraphs(markup, "answer")[0]
    assert any("no seed in common" in text for text in alerts(markup))
    assert "best" not in table(markup)["lwf"][1] and any("t-intervals" in note for note in paragraphs(markup, "note"))


@pytest.mark.usefixtures("drawn")
def test_without_an_evaluation_at_the_end_the_answer_says_that_there_is_no_result(tmp_path: Path) -> None:
    publish(tmp_path / "r", "mine", evaluated=[True, False])
    (answer,) = paragraphs(page(write_report([tmp_path / "r"], tmp_path / "report", Selection())), "answer")
    assert answer.endswith("No result after the last experience.")


@pytest.mark.slow
def test_every_figure_can_be_drawn_of_runs_that_took_no_time_and_were_not_evaluated(tmp_path: Path) -> None:
    publish(tmp_path / "r", "naive", seconds=0.0, samples_seen=0, evaluated=[True, False])
    publish(tmp_path / "r", "mine", seconds=0.0, stored_bytes=10**11)
    write_report([tmp_path / "r"], tmp_path / "report", Selection())


def test_methods_of_one_name_in_several_configurations_are_all_described(tmp_path: Path) -> None:
    name = "long-" * 20
    for scenario, alphas in (("one", (1.0, 2.0)), ("two", (3.0,))):
        for alpha in alphas:
            publish(tmp_path, name, config={"alpha": alpha}, scenario=scenario)
    found = provenance.methods(compare(read_all([tmp_path])[0]))
    assert [made.settings[0].value for made in found] == ["3.0", "1.0", "2.0"]
    assert len({made.anchor for made in found}) == 3 and len({made.file for made in found}) == 1


@pytest.mark.usefixtures("drawn")
def test_comparisons_that_differ_in_threads_alone_have_files_of_their_own(tmp_path: Path) -> None:
    for threads in (1, 2):
        publish(tmp_path / "r", threads=threads)
    write_report([tmp_path / "r"], tmp_path / "report", Selection())
    assert len(list((tmp_path / "report" / "tables").glob("*.csv"))) == 2


@pytest.mark.slow
def test_two_scenarios_have_a_table_of_scenarios_and_methods_with_the_best_in_bold(tmp_path: Path) -> None:
    for scenario, old in (("one", 0.4), ("two", 0.0)):
        publish(tmp_path / "r", "naive", scenario=scenario)
        publish(tmp_path / "r", "lwf_50%", old=old, scenario=scenario)
        publish(tmp_path / "r", "joint", old=1.0, scenario=scenario)
    write_report([tmp_path / "r"], tmp_path / "report", Selection())
    markup = (tmp_path / "report" / "index.html").read_text()
    headings = [shown(text) for text in re.findall("<h[1-6]>(.*?)</h[1-6]>", markup)]
    assert len(set(headings)) == len(headings) and {"Forgetting, one", "Forgetting, two"} <= set(headings)
    (body,) = re.findall(r'<section id="across">.*?<tbody>(.*?)</tbody>', markup, re.DOTALL)
    assert re.findall(r"<strong>(.*?)</strong>", body) == ["50.0", "70.0", "50.0"]  # joint aside; a tie in "two"
    latex = (tmp_path / "report/tables/across/quick-1.tex").read_text()
    assert r"lwf\_50\% & \textbf{70.0} & \textbf{50.0} \\" in latex and r"joint & 100.0 & 100.0 \\" in latex
    rows = list(csv.DictReader(io.StringIO((tmp_path / "report/tables/across/quick-1.csv").read_text())))
    assert [row["scenario"] for row in rows if row["best"] == "1"] == ["two", "one", "two"]
    assert "critical-difference" not in markup.lower()


@pytest.mark.slow
def test_six_scenarios_have_a_critical_difference_diagram(tmp_path: Path) -> None:
    for scenario in "abcdef":
        for name, old in (("naive", 0.0), ("lwf", 0.4), ("joint", 1.0)):
            publish(tmp_path / "r", name, old=old, scenario=scenario)
    write_report([tmp_path / "r"], tmp_path / "report", Selection())
    markup = (tmp_path / "report" / "index.html").read_text()
    (figure,) = re.findall(r'<figure id="across--quick-1-ranks">.*?</figure>', markup, re.DOTALL)
    assert "lwf has the best mean rank, 1.0 of 2; no other may be as good" in shown(figure)
    links = set(re.findall(r'(?<!:)href="([^"#]+)"', markup)) - {"data:,"}
    assert links == set(files(tmp_path / "report")) - {"index.html"}


# -- looks ------------------------------------------------------------------------------------------------------------


def test_a_strategy_looks_the_same_whatever_it_is_compared_with(tmp_path: Path) -> None:
    publish(tmp_path / "a", "somebodys")
    publish(tmp_path / "b", "somebodys", scenario="other", text=source("another file"))
    publish(tmp_path / "b", "lwf", scenario="other")
    looks = [
        {row.name: appearance(row) for row in comparison(folder).rows}["somebodys"]
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    assert looks[0] == looks[1] and looks[0].colour in COLOURS


def test_the_methods_compared_most_differ_in_colour_and_references_are_grey(tmp_path: Path) -> None:
    for name in ("naive", "joint", "lwf", "l2", "frozen"):
        publish(tmp_path, name)
    looks = {row.name: appearance(row) for row in comparison(tmp_path).rows}
    assert looks["naive"].colour == looks["joint"].colour == GREY and looks["naive"].marker != looks["joint"].marker
    assert len({looks[name].colour for name in ("lwf", "l2", "frozen")}) == 3


def test_configurations_of_one_strategy_share_its_colour_and_differ_otherwise(tmp_path: Path) -> None:
    for alpha in (1.0, 2.0, 3.0):
        publish(tmp_path, "lwf", config={"alpha": alpha})
    looks = [appearance(row) for row in comparison(tmp_path).rows]
    assert len({look.colour for look in looks}) == 1 and len(set(looks)) == 3


@pytest.mark.parametrize("name", ["lwf", "x" * 200, "W" * 30, "策略" * 20, "i" * 90, "a b c d e f g h i j k l m"])
def test_a_label_keeps_within_its_room_and_shows_both_ends(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        label = labels.short(name, 9)
    assert label == name or (len(label) > 4 and label[0] == name[0] and label[-1] == name[-1] and "…" in label)
    # No character of a usual font is wider than 1 em; the narrow ones, as i, leave room for more.
    assert len(label) <= 9 or set(name) & set("xi abcdef")
    assert len(labels.short("i" * 90, 9)) > len(labels.short("W" * 90, 9))


def test_labels_at_line_ends_keep_their_order_and_distance_and_stay_within_bounds() -> None:
    # 10 and 11 share the middle, 10.5, and move 2 to each side; 95 has room; 99.5 is held below 100.
    assert labels.spread([11, 10], 4, 0, 100) == pytest.approx([12.5, 8.5])
    assert labels.spread([50, 95, 99.5], 2, 0, 100) == pytest.approx([50, 95, 99.5])
    assert labels.spread([99.5, 99.5], 2, 0, 100) == pytest.approx([98, 100])
    assert labels.spread([], 2, 0, 100) == []


# -- hostile names ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hostile_names_are_shown_as_they_are_and_never_become_markup(report_of: ReportOf) -> None:
    markup = page(report_of("hostile"))
    assert set(table(markup)) == {"naive", *(name.replace("\u202e", "�") for name in HOSTILE)}
    assert len(re.findall("<script", markup)) == 1 and "<img" not in markup
    assert "{{ 7 * 7 }}" in markup and "&lt;script&gt;alert(1)&lt;/script&gt;" in markup


@pytest.mark.slow
def test_no_name_turns_the_text_around_it(report_of: ReportOf) -> None:
    markup = page(report_of("hostile"))
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067") & set(markup)
    # Set apart, so that the number after it is not drawn before it.
    assert "\u2068שלום עולם\u2069" in markup and markup.count("\u2068") == markup.count("\u2069")


def test_hostile_names_break_neither_the_tables_nor_the_figures_as_files(report_of: ReportOf) -> None:
    folder = report_of("hostile").page.parent
    for path in (folder / "figures").glob("*.svg"):
        ElementTree.fromstring(path.read_bytes())
    rows = list(csv.DictReader(io.StringIO((folder / "tables/tiny-quick.csv").read_text())))
    assert HOSTILE[0] in {row["strategy"] for row in rows} and len(rows) == len(HOSTILE) + 1
    lines = (folder / "tables/tiny-quick.md").read_text().splitlines()[2:]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[: len(rows) + 2]} == {16}
    assert not re.search(r"(?<!\\)<", "\n".join(lines))
    latex = (folder / "tables/tiny-quick.tex").read_text()
    assert {line.count(" & ") for line in latex.splitlines() if line.endswith(r"\\")} == {14}
    assert r"\$math\$ \{\{ 7 {*} 7 \}\}" in latex and r"\textless{}script\textgreater{}" in latex


def test_a_row_in_latex_that_begins_with_a_bracket_is_no_option_of_the_line_before(tmp_path: Path) -> None:
    from clbench.reporting.exports import as_latex

    publish(tmp_path, "[1cm]")
    assert "\n{[}1cm] & " in as_latex(comparison(tmp_path))


def test_a_file_that_is_no_python_is_shown_as_what_it_is_and_never_run(tmp_path: Path) -> None:
    publish(tmp_path, "broken", text="import os; os.abort()\n</pre><script>x</script> \x00")
    (made,) = provenance.methods([comparison(tmp_path)])
    assert made.doc.startswith("The file has no description (") and made.source.startswith(b"import os")


@pytest.mark.parametrize(
    ("said", "below"),
    [
        (
            "Mensink et al. 2013 (TPAMI 35(11)), equations 1 and 2, without its metric.",
            "Mensink et al. 2013 (TPAMI 35(11))",
        ),
        (
            '"feature extraction" in Li & Hoiem 2016 (arXiv 1606.09282), section 2.',
            '"feature extraction" in Li & Hoiem 2016 (arXiv 1606.09282)',
        ),
        ("the row of every comparison, for example van de Ven 2019 (arXiv 1904.07734).", "shrunk once"),
        ("paper, year, link.", "shrunk once"),
    ],
)
def test_below_a_strategy_stands_its_paper_or_else_its_variant(said: str, below: str, tmp_path: Path) -> None:
    text = source("shrunk once, where the code shrinks twice").replace("Variant:", f"Source: {said}\nVariant:")
    publish(tmp_path, "mine", text=text)
    (made,) = provenance.methods([comparison(tmp_path)])
    assert made.variant == below


@pytest.mark.usefixtures("drawn")
def test_what_a_file_says_of_itself_is_escaped(tmp_path: Path) -> None:
    publish(tmp_path / "r", "mine", text=source("</pre><script>alert(2)</script>"))
    markup = page(write_report([tmp_path / "r"], tmp_path / "report", Selection()))
    assert len(re.findall("<script", markup)) == 1 and "&lt;script&gt;alert(2)" in markup


def test_the_one_script_of_the_page_is_the_one_that_its_policy_allows(report_of: ReportOf) -> None:
    import base64
    import hashlib

    markup = page(report_of("hostile"))
    (script,) = re.findall(r"<script>(.*?)</script>", markup, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', markup)
    assert "default-src 'none'" in html.unescape(policy) and f"'sha256-{digest}'" in html.unescape(policy)
    assert "unsafe-inline" not in html.unescape(policy).split("script-src")[1]


def test_a_damaged_run_is_named_without_its_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "all_figures", lambda comparison: [])
    publish(tmp_path / "r")
    other = publish(tmp_path / "r", "other")
    manifest = json.loads((other.path / manifests.MANIFEST).read_bytes())
    manifest["files"]["\x1b[31m<b>"] = manifest["files"].pop("spec.json")
    (other.path / manifests.MANIFEST).write_text(json.dumps(manifest))
    report = write_report([tmp_path / "r"], tmp_path / "report", Selection())
    (said,) = report.left_out
    assert "�[31m<b> is missing" in said and "�[31m&lt;b&gt; is missing" in page(report)
