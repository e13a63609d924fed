"""The report's page in a real browser: it is quiet, sorts, folds, adapts, and can be read by all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import FAULTY_LABELS, Open, colours, serious_faults
from stored_runs import publish

from clbench.reporting import figures
from clbench.reporting.publication import Report, Selection, write_report

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CASES = ("usual", "hostile", "crowd", "long", "single", "online", "returning")


@pytest.fixture
def opened(visit: Open, report_of: Callable[[str], Report]) -> Open:
    """Opens the page of a case; see `visit`."""
    return lambda case, width=1280, **options: visit(report_of(case).page, width, **options)


def column(page: Any, heading: str) -> list[str]:
    """The texts of a column of the table of strategies, from the top."""
    headings = [text.strip() for text in page.locator("table.sortable >> nth=0 >> thead th").all_inner_texts()]
    rows = page.locator("table.sortable >> nth=0 >> tbody tr").all()
    return [row.locator("th, td").nth(headings.index(heading)).inner_text() for row in rows]


# -- quiet ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_the_page_asks_for_nothing_and_complains_of_nothing(opened: Open, case: str) -> None:
    page = opened(case)
    for fold in page.locator("summary").all():
        fold.click()
    page.get_by_role("button", name="strategy").first.click()
    assert page.requests == [page.url] and page.complaints == []


def test_a_script_that_is_not_the_pages_own_does_not_run(opened: Open) -> None:
    page = opened("single")
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "document.title = 'taken'";
        document.body.append(script);
        const image = document.createElement("img");
        image.src = "https://example.invalid/x.png";
        document.body.append(image);
    }""")
    assert page.title().startswith("What is forgotten")
    assert len(page.complaints) == 2 and all("Content Security Policy" in text for text in page.complaints)


# -- the table --------------------------------------------------------------------------------------------------------


def test_the_table_sorts_by_a_number_up_and_down(opened: Open) -> None:
    page = opened("usual")
    heading = page.get_by_role("columnheader", name="old classes").first
    heading.get_by_role("button").click()
    assert column(page, "old classes") == ["0.0 ±0.0", "48.0 ±13.6", "50.0 ±0.0", "90.0 ±0.0"]
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").click()
    assert column(page, "old classes") == ["90.0 ±0.0", "50.0 ±0.0", "48.0 ±13.6", "0.0 ±0.0"]
    assert heading.get_attribute("aria-sort") == "descending"


def test_numbers_sort_by_their_size_and_not_by_their_letters(opened: Open) -> None:
    page = opened("crowd")
    page.get_by_role("button", name="seconds").click()
    assert column(page, "seconds") == [f"{1.0 + n}" for n in range(12)]


def test_names_sort_as_text_and_by_the_keyboard(opened: Open) -> None:
    page = opened("usual")
    button = page.get_by_role("button", name="strategy").first
    button.focus()
    page.keyboard.press("Enter")
    assert [text.split()[0] for text in column(page, "strategy")] == ["joint", "lwf", "mine", "naive"]
    page.get_by_role("button", name="seconds").first.click()
    assert button.locator("xpath=..").get_attribute("aria-sort") is None


def test_what_is_undefined_is_last_in_both_directions(opened: Open) -> None:
    page = opened("long")
    button = page.get_by_role("button", name="forgetting")
    orders = []
    for _ in range(2):
        button.click()
        orders.append([text.split()[0] for text in column(page, "strategy")])
    assert orders == [["lwf", "naive", "joint"], ["naive", "lwf", "joint"]]


def test_without_scripts_the_table_is_complete(opened: Open) -> None:
    page, other = opened("usual", java_script_enabled=False), opened("usual")
    cells = "table.sortable >> nth=0 >> tbody >> th, td"
    assert page.locator(cells).all_inner_texts() == other.locator(cells).all_inner_texts()
    assert page.locator("table.sortable >> nth=0 >> tbody tr").count() == 4
    assert page.locator("thead button").count() == 0 and page.locator("figure svg").count() == 16


# -- folds, dark mode, print, narrow screens --------------------------------------------------------------------------


def test_folds_open_and_show_the_numbers(opened: Open) -> None:
    page = opened("usual")
    fold = page.locator("figure details").first
    assert not fold.locator("table").is_visible()
    fold.locator("summary").click()
    assert fold.locator("table").is_visible() and "48.0 ±13.6" in fold.inner_text()


def test_dark_mode_turns_page_and_drawings_and_print_is_dark_on_white(opened: Open) -> None:
    page = opened("usual", color_scheme="light")
    ground, text, drawn = colours(page)
    assert ground == "rgb(255, 255, 255)" and text == drawn == "rgb(26, 26, 26)"
    page = opened("usual", color_scheme="dark")
    ground, text, drawn = colours(page)
    assert ground == "rgb(20, 20, 20)" and text == drawn == "rgb(232, 232, 232)"
    page.emulate_media(media="print", color_scheme="dark")
    assert colours(page) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)", "rgb(0, 0, 0)")


def test_print_leaves_out_what_paper_cannot_do_and_keeps_table_and_figures(opened: Open) -> None:
    page = opened("usual")
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible() and not page.locator("details").first.is_visible()
    assert page.locator("table.sortable").first.is_visible() and page.locator("figure svg").first.is_visible()
    assert page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("case", ["usual", "crowd", "long"])
def test_on_paper_no_column_is_cut(opened: Open, case: str) -> None:
    page = opened(case, width=718)  # A4 less margins of 10 mm
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 718


@pytest.mark.parametrize("case", CASES)
def test_at_375_pixels_the_document_does_not_scroll_sideways(opened: Open, case: str) -> None:
    page = opened(case, width=375)
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_a_table_wider_than_the_screen_says_that_it_scrolls_and_no_other_does(opened: Open) -> None:
    page = opened("usual", width=375)
    hint = "place => getComputedStyle(place, '::before').content"
    page.wait_for_selector(".scroll.wide > table.sortable")
    assert "scroll sideways" in page.locator(".scroll:has(> table.sortable)").evaluate(hint)
    page = opened("single")
    page.wait_for_selector(".scroll:not(.wide) > table.sortable")
    assert page.locator(".scroll:has(> table.sortable)").evaluate(hint) == "none"


def test_the_first_screen_has_the_figure_of_old_and_new_classes_and_the_answer(opened: Open) -> None:
    page = opened("usual")
    figure, answer = (page.locator(name).first.bounding_box() for name in ("figure", "p.answer"))
    assert figure["y"] < answer["y"] < 900


@pytest.mark.parametrize("case", CASES)
def test_no_label_in_a_drawing_is_cut_or_lies_on_another(opened: Open, case: str) -> None:
    assert opened(case).evaluate(FAULTY_LABELS) == []


def test_a_number_stands_behind_the_hebrew_name_that_it_belongs_to(opened: Open) -> None:
    page = opened("hostile")
    places = page.evaluate("""() => {
        const caption = document.querySelector("figcaption");
        const walker = document.createTreeWalker(caption, NodeFilter.SHOW_TEXT);
        const node = walker.nextNode(), at = node.data.indexOf("עולם");
        const place = (start, end) => {
            const range = document.createRange();
            range.setStart(node, start);
            range.setEnd(node, end);
            return range.getBoundingClientRect();
        };
        const number = node.data.slice(at).search(/[0-9]/) + at;
        const [name, value] = [place(at, at + 4), place(number, number + 2)];
        return [name.right, value.left, name.top, value.top];
    }""")
    assert places[0] <= places[1] or places[2] < places[3]


# -- for all ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_every_drawing_has_a_name_and_a_description(opened: Open, case: str) -> None:
    page = opened(case)
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    drawings = [node for node in nodes if node.get("role", {}).get("value") in ("image", "img")]
    assert len(drawings) == page.locator("figure svg").count() > 0
    names = [node["name"]["value"] for node in drawings]
    descriptions = [node.get("description", {}).get("value", "") for node in drawings]
    assert len(set(names)) == len(names) and all(len(text) > 10 for text in names)
    assert all(len(text) > 20 for text in descriptions)


@pytest.mark.parametrize(
    ("case", "scheme", "width"),
    [("usual", "light", 1280), ("usual", "dark", 375), ("hostile", "light", 375), ("single", "dark", 1280)],
)
def test_axe_finds_no_serious_fault(opened: Open, case: str, scheme: str, width: int) -> None:
    page = opened(case, width, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    assert serious_faults(page) == []


def test_axe_finds_no_serious_fault_and_no_label_is_cut_across_scenarios(
    visit: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "all_figures", lambda comparison: [])
    for position, name in enumerate(("naive", "ewc:kirkpatrick2017", "lwf", "er", "joint")):
        for scenario in range(6):
            old = (position + scenario % 2) / 6
            publish(tmp_path / "r", name, old=old, scenario=f"scenario {scenario}")
    report = write_report([tmp_path / "r"], tmp_path / "report", Selection())
    for width in (1280, 375):
        page = visit(report.page, width)
        assert page.locator("figure svg").count() == 1
        assert serious_faults(page) == page.evaluate(FAULTY_LABELS) == []
