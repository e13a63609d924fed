"""The page of a network in a real browser: it is quiet, adapts, and can be read by all."""

from collections.abc import Callable
from pathlib import Path

import pytest
from browsing import FAULTY_LABELS, Open, colours, serious_faults
from extension_results import CASES, COMMAND, FACTS, thumbnails

from clbench.reporting.extension_page import extension_page

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of the page of a case, made once."""
    folder = tmp_path_factory.mktemp("pages")

    def made(case: str) -> Path:
        file = folder / f"{case}.html"
        if not file.exists():
            found = CASES[case]()
            file.write_text(extension_page(found, thumbnails(found), COMMAND, FACTS), "utf-8", errors="replace")
        return file

    return made


@pytest.fixture
def opened(visit: Open, page_of: Callable[[str], Path]) -> Open:
    """Opens the page of a case, with all folds open; see `visit`."""

    def open_case(case: str, width: int = 1280, **options: object) -> object:
        page = visit(page_of(case), width, **options)
        page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        return page

    return open_case


@pytest.mark.parametrize("case", CASES)
def test_the_page_asks_for_nothing_and_complains_of_nothing(opened: Open, case: str) -> None:
    page = opened(case)
    assert [url for url in page.requests if not url.startswith("data:image/")] == [page.url] and page.complaints == []


def test_every_picture_is_seen(opened: Open) -> None:
    page = opened("usual")
    widths = page.evaluate("[...document.images].map(image => [image.complete, image.naturalWidth, image.width])")
    assert widths == [[True, 96, 96]] * 9


@pytest.mark.parametrize("case", CASES)
def test_at_375_pixels_the_document_does_not_scroll_sideways(opened: Open, case: str) -> None:
    assert opened(case, 375).evaluate("document.documentElement.scrollWidth") <= 375


@pytest.mark.parametrize("case", ["usual", "many", "hostile"])
def test_on_paper_no_column_is_cut(opened: Open, case: str) -> None:
    page = opened(case, 718)  # A4 less margins of 10 mm
    page.emulate_media(media="print")
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = false)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(place => place.scrollWidth <= 719)")


@pytest.mark.parametrize("case", CASES)
def test_no_label_in_a_drawing_is_cut_or_lies_on_another(opened: Open, case: str) -> None:
    assert opened(case).evaluate(FAULTY_LABELS) == []


@pytest.mark.parametrize(
    ("case", "scheme", "width"),
    [
        ("usual", "light", 1280),
        ("usual", "dark", 375),
        ("without_old_tests", "dark", 1280),
        ("nothing_known", "light", 375),
        ("many", "light", 375),
        ("hostile", "light", 1280),
        ("hostile", "dark", 375),
        ("train", "light", 1280),
    ],
)
def test_axe_finds_no_serious_fault(opened: Open, case: str, scheme: str, width: int) -> None:
    assert serious_faults(opened(case, width, color_scheme=scheme)) == []


def test_dark_mode_turns_page_and_drawings_and_print_is_dark_on_white(opened: Open) -> None:
    page = opened("usual", color_scheme="dark")
    assert colours(page) == ("rgb(20, 20, 20)", "rgb(232, 232, 232)", "rgb(232, 232, 232)")
    page.emulate_media(media="print", color_scheme="dark")
    assert colours(page) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)", "rgb(0, 0, 0)")


def test_the_answer_is_on_the_first_screen(opened: Open) -> None:
    for width in (1280, 375):
        page = opened("usual", width)
        (answer, numbers) = (page.locator(name).bounding_box() for name in ("p.answer", "dl.tiles"))
        assert answer["y"] < numbers["y"] < 900 and numbers["y"] + numbers["height"] < 900


def test_every_drawing_has_a_name_and_a_description(opened: Open) -> None:
    page = opened("usual")
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    drawings = [node for node in nodes if node.get("role", {}).get("value") in ("image", "img")]
    names = [node["name"]["value"] for node in drawings]
    assert names[:3] == [
        "Each class before and after. Old classes: ○ before, ● after",
        "Each class before and after. New class",
        "Which class is mistaken for which. Share of each class, %",
    ]
    assert names[3] == "showed cup, before: cup, now: crab" and len(names) == 3 + 9
    assert all(len(node.get("description", {}).get("value", "")) > 20 for node in drawings[:3])


def test_strategies_sort_by_a_number_from_the_keyboard(opened: Open) -> None:
    page = opened("usual")
    button = page.get_by_role("button", name="new, %", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    names = page.locator("#strategies tbody th").all_inner_texts()
    assert [name.split()[0] for name in names] == ["frozen", "lwf_mc", "naive"]


def test_all_that_can_be_used_can_be_reached_by_the_keyboard(opened: Open) -> None:
    page = opened("many")
    everything = page.locator("a[href], summary, button, [tabindex='0']").count()
    reached = set()
    for _ in range(everything + 5):
        page.keyboard.press("Tab")
        found = page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        reached.add(found)
    kinds = ("<a ", "<summary", "<button", '<div class="scroll', "<pre")
    assert all(any(found.startswith(kind) for found in reached) for kind in kinds)
