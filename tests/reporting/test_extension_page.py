"""The page of a network that was trained or extended: its numbers, what it says where they are missing, its figures."""

import html
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from extension_results import CASES, COMMAND, FACTS, candidate, hostile, many, result, thumbnails, usual
from page_text import shown
from PIL import Image
from scipy.stats import binomtest
from stored_runs import HOSTILE

from clbench.evaluation.proportions import mean_proportion
from clbench.extension.judging import choose
from clbench.reporting.extension_figures import confusion_matrix, main_figure, per_class
from clbench.reporting.extension_page import extension_page
from clbench.results.extension_result import (
    Agreement,
    Candidate,
    ChangedAnswer,
    ExtensionResult,
    ImagesUsed,
    LeftOut,
)


def page_of(found: ExtensionResult) -> str:
    return extension_page(found, thumbnails(found), COMMAND, FACTS)


def answer(markup: str) -> str:
    (found,) = re.findall(r'<p class="answer">(.*?)</p>', markup, re.DOTALL)
    return shown(found)


def tiles(markup: str) -> dict[str, tuple[str, str]]:
    """The numbers at the top: value and detail by label."""
    (found,) = re.findall(r'<dl class="tiles">(.*?)</dl>', markup, re.DOTALL)
    parts = re.findall(r"<dt>(.*?)</dt><dd><strong>(.*?)</strong><span>(.*?)</span>", found, re.DOTALL)
    return {shown(label): (shown(value), shown(detail)) for label, value, detail in parts}


def section(markup: str, name: str) -> str:
    """A section of the page; nothing if it has none."""
    found = re.search(rf'<section id="{name}">.*?</section>', markup, re.DOTALL)
    return found[0] if found else ""


def tables(markup: str) -> list[list[list[str]]]:
    """The tables of a piece of the page, as rows of texts, headings first."""
    return [
        [[shown(cell) for cell in re.findall(r"<t[hd]\b.*?</t[hd]>", row, re.DOTALL)]
         for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)]
        for table in re.findall(r"<table.*?</table>", markup, re.DOTALL)
    ]  # fmt: skip


def wilson(count: int, total: int) -> str:
    """Wilson's interval as scipy has it, as the page writes it."""
    ends = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return f"{100 * ends.low:.1f} to {100 * ends.high:.1f}"


def of_classes(*counts: tuple[int, int]) -> str:
    ends = mean_proportion(counts)
    assert ends
    return f"{100 * ends.low:.1f} to {100 * ends.high:.1f}"


# -- the answer -------------------------------------------------------------------------------------------------------


def test_the_answer_says_who_was_extended_by_what_with_what_and_what_became_of_it() -> None:
    assert answer(page_of(usual())) == (
        "lite0 (pretrained), head only, 128 px knew 4 classes. It was extended by 1 class (crab) with the strategy "
        "lwf_mc, without any image of an old class. Accuracy on the old classes went from 90.0 % to 80.0 %. Accuracy "
        "on the new class is 80.0 %."
    )


def test_the_first_numbers_are_means_over_the_classes_that_can_be_judged_with_their_intervals() -> None:
    before, after = of_classes((10, 10), (9, 10), (16, 20)), of_classes((6, 10), (9, 10), (18, 20))
    assert tiles(page_of(usual())) == {
        "Old classes, before": ("90.0 %", f"{before} %; mean over 3 classes, 40 images"),
        "Old classes, after": ("80.0 %", f"{after} %; −10.0 points"),
        "New class": ("80.0 %", f"{wilson(20, 25)} %; 25 images"),
        "Predictions as before": ("95.0 %", f"{wilson(190, 200)} %; 200 unlabelled images"),
    }


def test_what_was_lost_is_told_by_class() -> None:
    lost = section(page_of(usual()), "classes")
    counts = (
        "Of 3 old classes with test images, 1 is recognized less often than before, 1 more often and 1 equally often."
    )
    assert counts in shown(lost)
    assert [shown(item) for item in re.findall(r"<li>.*?</li>", lost, re.DOTALL)] == [
        "cup: 10 of 10 images before, 6 after (−40.0 points)"
    ]


@pytest.mark.slow
def test_of_many_classes_the_five_that_lost_most_are_named() -> None:
    items = re.findall(r"<li>.*?</li>", section(page_of(many()), "classes"), re.DOTALL)
    assert [shown(item) for item in items] == [
        f"old {n}: 18 of 20 images before, 8 after (−50.0 points)" for n in (10, 21, 32, 43, 54)
    ]


def test_an_accuracy_that_did_not_change_stayed() -> None:
    found = result(candidate({"a": (10, 9, 9)}, {"b": (10, 10)}, errors=[("a", "b", 1)]))
    markup = page_of(found)
    assert "Accuracy on the old classes stayed at 90.0 %." in answer(markup)
    counts = "none is recognized less often than before, none more often and 1 equally often"
    assert counts in shown(section(markup, "classes"))


def test_images_of_old_classes_that_were_trained_on_are_counted() -> None:
    found = result(candidate({"a": (10, 9, 9), "b": (0, 0, 0)}, {"c": (0, 0)}, errors=[("a", "c", 1)], rehearsed=5))
    assert "with the strategy lwf_mc, with 10 images of old classes." in answer(page_of(found))


# -- what is not known ------------------------------------------------------------------------------------------------


def test_without_old_test_images_old_accuracy_is_not_known_and_how_to_get_it_is_said() -> None:
    markup = page_of(CASES["without_old_tests"]())
    assert answer(markup).endswith(
        "Accuracy on the new classes is 85.0 %. Of 400 unlabelled images, 95.0 % get the same prediction as before, "
        "and 12 are assigned to a new class. Its accuracy on the old classes is not known."
    )
    assert tiles(markup)["Old classes"] == ("not known", "no test images of them were given")
    (alert,) = re.findall(r'<section class="alert".*?</section>', markup, re.DOTALL)
    assert "A few images of each class are enough to find out" in shown(alert) and "--old-test FOLDER" in shown(alert)
    assert "with another --out, since this folder is not replaced." in shown(alert)


def test_agreement_has_its_own_table_and_is_never_called_accuracy() -> None:
    markup = section(page_of(CASES["without_old_tests"]()), "agreement")
    assert tables(markup) == [
        [
            ["images", "compared", "same answer, %", "same among old classes, %", "answered with a new class"],
            ["unlabelled", "400", f"95.0 ({wilson(380, 400)})", f"97.5 ({wilson(390, 400)})", "12 (3.0 %)"],
            ["test images of new classes", "20", f"5.0 ({wilson(1, 20)})", f"90.0 ({wilson(18, 20)})", "19 (95.0 %)"],
        ]
    ]
    assert re.findall(r"[^.]*accura[^.]*\.", shown(markup)) == [
        " This is not accuracy: if the old network was wrong, the same prediction is wrong again, and a different one "
        "may be correct."
    ]


@pytest.mark.parametrize("case", ["usual", "many", "without_old_tests", "nothing_known"])
def test_a_class_without_test_images_cannot_be_judged_and_is_not_0(case: str) -> None:
    found = CASES[case]()
    rows = {row[0]: row[1:] for row in per_class(found).rows}
    untested = [each for each in found.kept.classes if not each.test_images]
    assert untested
    for each in untested:
        assert rows[each.name][-2] == "cannot be judged" and rows[each.name][-1] == "–"
        assert rows[each.name][-3] == ("–" if each.is_new else "cannot be judged")


def test_classes_that_cannot_be_judged_are_named_in_a_warning() -> None:
    assert "1 class has no test images and cannot be judged: kettle." in shown(page_of(usual()))
    some = candidate({"a": (0, 0, 0)}, {f"c{n}": (10 * (n == 0), 10 * (n == 0)) for n in range(8)})
    assert "7 classes have no test images and cannot be judged: c1, c2, c3, c4, c5 and 2 more." in shown(
        page_of(result(some))
    )


def test_with_nothing_known_there_is_no_number_but_what_training_took() -> None:
    markup = page_of(CASES["nothing_known"]())
    assert tiles(markup)["New class"] == ("cannot be judged", "no test images")
    assert "No class has test images, so none can be judged." in shown(section(markup, "classes"))
    assert tables(section(markup, "strategies")) == [[["strategy", "seconds", "steps"], ["lwf_mc kept", "12.5", "400"]]]
    assert not section(markup, "agreement") and not section(markup, "confusions") and "<svg" not in markup
    assert main_figure(CASES["nothing_known"]()) == b""


def test_agreement_on_no_image_at_all_is_left_out() -> None:
    none = Agreement(images=0, same=0, among_old=0, taken_by_new=0)
    kept = candidate({"a": (0, 0, 0)}, {"b": (0, 0)}, on_new=none, on_unlabelled=none)
    assert not section(page_of(result(kept)), "agreement")


# -- strategies -------------------------------------------------------------------------------------------------------


def test_every_strategy_is_in_the_table_with_the_kept_one_marked_the_rule_and_what_was_left_out() -> None:
    markup = section(page_of(usual()), "strategies")
    (table,) = tables(markup)
    before = f"90.0 ({of_classes((10, 10), (9, 10), (16, 20))})"
    assert table[0] == [
        *("strategy", "old before, %", "old after, %", "new, %", "mean of old and new, %"),
        *("agreement, unlabelled, %", "agreement, new images, %", "seconds", "steps"),
    ]
    # (0.6 + 0.9 + 0.9) / 3 and 20 / 25; then (0.2 + 0.3 + 0.5) / 3 and 1; (0.7 + 0.8 + 0.75) / 3 and 0.6.
    assert table[1:] == [
        [
            "lwf_mc kept",
            before,
            f"80.0 ({of_classes((6, 10), (9, 10), (18, 20))})",
            f"80.0 ({wilson(20, 25)})",
            "80.0",
            "95.0",
            "88.0",
            "12.5",
            "400",
        ],
        [
            "naive",
            before,
            f"33.3 ({of_classes((2, 10), (3, 10), (10, 20))})",
            f"100.0 ({wilson(25, 25)})",
            "66.7",
            "45.0",
            "60.0",
            "9.0",
            "400",
        ],
        [
            "frozen",
            before,
            f"75.0 ({of_classes((7, 10), (8, 10), (15, 20))})",
            f"60.0 ({wilson(15, 25)})",
            "67.5",
            "–",
            "–",
            "3.0",
            "400",
        ],
    ]
    assert "Selection rule: the highest mean of old-class and new-class accuracy." in shown(markup)
    assert "ewc: it needs the Fisher information of old images; give --old-images" in shown(markup)


def test_a_strategy_is_kept_by_what_selects_it_and_not_by_its_place() -> None:
    first, second = (candidate({}, {"a": (0, 0)}, strategy=name) for name in ("lwf", "lwf:pycil"))
    found = result(first, second, chosen="lwf:pycil", left_out=(LeftOut(strategy="ewc", reason="no"),))
    (table,) = tables(section(page_of(found), "strategies"))
    assert [row[0] for row in table] == ["strategy", "lwf", "lwf:pycil kept"]


def compared(old: int | None, new: int, agrees: int | None, strategy: str = "lwf_mc") -> Candidate:
    """Of ten test images each, `old` and `new` are right; of ten unlabelled ones, `agrees` are predicted as before."""
    errors = [("a", "b", 10 - old)] if old not in (None, 10) else []
    return candidate(
        {"a": (0, 0, 0) if old is None else (10, 10, old)},
        {"b": (10, new)},
        strategy=strategy,
        errors=[*errors, *([("b", "a", 10 - new)] if new < 10 else [])],
        on_unlabelled=agrees and Agreement(images=10, same=agrees, among_old=agrees, taken_by_new=10 - agrees),
    )


@pytest.mark.parametrize(
    ("candidates", "optimistic"),
    [
        ((compared(9, 9, None), compared(8, 9, None, "naive")), True),  # the mean of old and new
        ((compared(None, 9, 10), compared(None, 8, 10, "naive")), True),  # the new, of those that agree
        ((compared(None, 9, 9), compared(None, 9, 8, "naive")), False),  # agreement
        ((compared(None, 9, None, "imprint"), compared(None, 9, None)), False),  # the usual one
    ],
)
def test_the_kept_one_is_called_optimistic_only_if_test_accuracies_chose_it(candidates, optimistic) -> None:
    kept, rule = choose(candidates)
    assert kept is candidates[0]
    said = shown(section(page_of(result(*candidates, rule=rule)), "strategies"))
    assert "more certain than their intervals suggest." in said
    assert ("slightly optimistic" in said) == optimistic


# -- confusion --------------------------------------------------------------------------------------------------------


def test_confusions_between_old_and_new_are_counted_and_listed_in_both_directions() -> None:
    summary, old_as_new, new_as_old, numbers = tables(section(page_of(usual()), "confusions"))
    assert summary[1:] == [
        ["old classes", "40", "33 (82.5 %)", "3 (7.5 %)", "4 (10.0 %)"],
        ["new classes", "25", "20 (80.0 %)", "5 (20.0 %)", "0 (0.0 %)"],
    ]
    assert old_as_new[1:] == [["cup", "crab", "3", "10"], ["chair", "crab", "1", "10"]]
    assert new_as_old[1:] == [["crab", "lamp", "5", "25"]]
    assert numbers == [
        ["shown", "cup", "chair", "lamp", "kettle", "crab"],
        ["cup", "6", "1", "0", "0", "3"],
        ["chair", "0", "9", "0", "0", "1"],
        ["lamp", "2", "0", "18", "0", "0"],
        ["crab", "0", "0", "5", "0", "20"],
    ]


def test_of_several_new_classes_those_that_are_taken_for_each_other_are_listed() -> None:
    lists = tables(section(page_of(CASES["without_old_tests"]()), "confusions"))[1:3]
    assert lists == [
        [["shown", "answer", "images", "of"], ["crab", "old 3", "1", "10"]],
        [["shown", "answer", "images", "of"], ["crab", "lobster", "1", "10"], ["lobster", "crab", "1", "10"]],
    ]


@pytest.mark.slow
def test_of_many_confusions_the_ten_most_frequent_are_listed_and_the_rest_is_counted() -> None:
    markup = section(page_of(many()), "confusions")
    old_as_new = tables(markup)[1]
    # n % 11 = 10 for nine of a hundred classes, each with 12 images taken for a new one; then those with 11.
    assert [row[2] for row in old_as_new[1:]] == ["12"] * 9 + ["11"]
    total = sum(2 + n % 11 for n in range(100))
    assert f"and 90 more pairs with {total - 9 * 12 - 11} images" in shown(markup)


def test_a_matrix_is_drawn_for_thirty_classes_and_not_for_more() -> None:
    def of(count: int) -> ExtensionResult:
        return result(candidate({f"old {n}": (2, 2, 2) for n in range(count - 1)}, {"new": (2, 2)}))

    assert confusion_matrix(of(30)).panels and not confusion_matrix(of(31)).panels


def test_without_any_confusion_that_is_said() -> None:
    found = result(candidate({"a": (10, 9, 10)}, {"b": (10, 10)}))
    text = shown(section(page_of(found), "confusions"))
    assert "No test image of an old class is mistaken for a new one." in text
    assert "No test image of a new class is mistaken for an old one." in text


# -- figures ----------------------------------------------------------------------------------------------------------


def drawn_classes(found: ExtensionResult) -> list[int]:
    """How many classes each panel has a row for; 0 of a histogram."""
    from matplotlib.figure import Figure

    counts = []
    for _, panel in per_class(found).panels:
        axes = Figure().add_subplot()
        panel.draw(axes)
        counts.append(0 if axes.patches else len(axes.get_yticks()))
    return counts


def test_few_classes_are_all_drawn_and_of_many_the_most_changed_with_a_histogram() -> None:
    assert drawn_classes(usual()) == [3, 1]
    forty = result(candidate({f"old {n}": (2, 2, 2) for n in range(40)}, {"new": (2, 2)}))
    assert drawn_classes(forty) == [20, 20, 1]
    assert drawn_classes(many()) == [20, 0, 20, 0]
    assert len(per_class(many()).rows) == 500


def test_the_histogram_has_every_class_once() -> None:
    from matplotlib.figure import Figure

    heights = []
    for title, panel in per_class(many()).panels:
        if title.startswith("All"):
            axes = Figure().add_subplot()
            panel.draw(axes)
            heights.append([bar.get_height() for bar in axes.patches])  # type: ignore[attr-defined]
    assert [sum(each) for each in heights] == [100, 399]
    # No change: 10 classes (n % 11 = 0), in the middle step of 21; −50 points: 9 classes.
    assert heights[0][10] == 10 and heights[0][5] == 9


def test_a_point_lies_where_its_class_is_with_its_interval() -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    per_class(usual()).panels[0][1].draw(axes)
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    interval, point = lines[2], lines[3]  # the first class, which lost most: cup, after
    ends = binomtest(6, 10).proportion_ci(0.95, method="wilson")
    assert point[0] == [60.0] and interval[0] == pytest.approx([100 * ends.low, 100 * ends.high])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cup", "chair", "lamp"]


def test_the_main_figure_is_a_picture() -> None:
    picture = Image.open(io.BytesIO(main_figure(usual())))
    assert picture.format == "PNG" and picture.width > 600


# -- images whose prediction changed ----------------------------------------------------------------------------------


class Pictures(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.found.append(dict(attrs))


def pictures(markup: str) -> list[dict[str, Any]]:
    parser = Pictures()
    parser.feed(markup)
    return parser.found


def test_images_are_shown_with_what_they_show_and_what_they_were_and_are_taken_for() -> None:
    found = pictures(page_of(usual()))
    assert [each["alt"] for each in found] == (
        ["showed cup, before: cup, now: crab"] * 3
        + ["showed lamp, before: cup, now: lamp"] * 2
        + ["an unlabelled image, before: chair, now: crab"] * 4
    )
    assert [each["src"].partition(";")[0] for each in found[:2]] == ["data:image/png", "data:image/jpeg"]


@pytest.mark.slow
def test_twenty_four_images_are_shown_and_the_rest_is_counted() -> None:
    markup = page_of(many())
    assert len(pictures(markup)) == 24
    assert "The first 24 of those listed in result.json, which has 35 more." in shown(section(markup, "changed"))


@pytest.mark.parametrize("content", [b"", b"<svg onload='alert(1)'/>", b"GIF89a"])
def test_an_image_without_a_picture_is_described_in_words(content: bytes) -> None:
    one = ChangedAnswer(image="x/a.jpg", role="old_test", true="a", before="a", after="b")
    found = result(candidate({"a": (1, 1, 0)}, {"b": (0, 0)}, errors=[("a", "b", 1)], changed=(one,)))
    markup = extension_page(found, {("old_test", "x/a.jpg"): content}, COMMAND, FACTS)
    assert pictures(markup) == []
    assert "no picture a.jpg showeda beforea right nowb" in shown(section(markup, "changed"))


# -- how it was made --------------------------------------------------------------------------------------------------


def test_the_page_says_how_the_network_was_made_and_how_to_make_it_again() -> None:
    markup = section(page_of(usual()), "made")
    lineage = tables(markup)[0]
    assert lineage[1:] == [
        ["clbench train", "naive", "120", "0", "cup, chair, lamp, kettle", "1" * 16],
        ["clbench extend (this page)", "lwf_mc", "30", "0", "crab", "9" * 16],
    ]
    text = shown(markup)
    for said in (
        "L = CE(new) + λ·KL(old)",
        "Variant: the one of this test; no other.",
        "Recipe photos (10 epochs), strategy lwf_mc: 400 gradient steps over 6,000 images, repetitions counted, in",
        "20 % of the images of each new class were held out for testing, drawn with the seed.",
        COMMAND,
        f"tensors of this network {'e' * 64}",
        f"tensors of the network that was extended {'2' * 64}",
        "torch 2.4.0",
    ):
        assert said in text
    assert ["test images of old classes", "40", "1", "c" * 64] in [row for table in tables(markup) for row in table]


def test_of_a_strategy_without_gradient_steps_the_page_names_no_recipe() -> None:
    found = usual()
    kept = found.kept.model_copy(update={"gradient_steps": 0, "samples_seen": 0})
    others = tuple(each for each in found.candidates if each is not found.kept)
    text = shown(section(page_of(found.model_copy(update={"candidates": (kept, *others)})), "made"))
    assert "Training strategy lwf_mc: no gradient steps, in" in text and "Recipe photos (10 epochs)" not in text


def test_files_that_could_not_be_read_are_a_warning() -> None:
    broken = ImagesUsed(role="unlabelled", images=5, broken=2, sha256="d" * 64)
    text = shown(page_of(replace_images(usual(), (broken,))))
    assert "2 files given as unlabelled images could not be read, and were left out." in text


def replace_images(found: ExtensionResult, images: tuple[ImagesUsed, ...]) -> ExtensionResult:
    return found.model_copy(update={"images": images})


def test_what_is_not_known_of_a_machine_is_left_out() -> None:
    markup = extension_page(usual(), {}, COMMAND, replace(FACTS, environment=type(FACTS.environment)()))
    assert "made 2026" not in markup and "device: cpu" in shown(markup)


def test_the_share_that_was_held_out_is_not_rounded() -> None:
    assert "12.5 % of the images of each" in shown(page_of(usual().model_copy(update={"held_out": 0.125})))


def test_a_constant_channel_is_divided_by_one_and_not_by_its_deviation() -> None:
    found = usual()
    found = found.model_copy(update={"input": found.input.model_copy(update={"std": (0.5, 0.0, 0.25)})})
    assert "divided by 0.5, 1 (for a standard deviation of 0), 0.25" in shown(page_of(found))


def test_the_page_of_a_first_network_compares_nothing() -> None:
    markup = page_of(CASES["train"]())
    assert answer(markup) == (
        "lite0 (pretrained), head only, 128 px was trained on 90 images of 3 classes (cup, chair and lamp). "
        "Accuracy on the test images is 86.7 %."
    )
    assert "2 files given as training images could not be read, and were left out." in shown(markup)
    interval = of_classes((9, 10), (7, 10), (10, 10))
    assert tiles(markup) == {"Accuracy": ("86.7 %", f"{interval} %; mean over 3 classes, 30 images")}
    assert not section(markup, "agreement") and not section(markup, "strategies") and not section(markup, "changed")
    body = shown(markup[markup.index("<body>") : markup.index("<script>")].replace(COMMAND, ""))
    body = body.replace("Before trusting this page", "")
    assert not re.findall(r"\b(?:old|before|agree\w*|new class\w*)\b", body, re.IGNORECASE)
    assert "plain training on all classes: " in body and "L = " not in body
    assert tables(section(markup, "confusions"))[0][1:] == [
        ["chair", "cup", "2", "10"],
        ["cup", "lamp", "1", "10"],
        ["chair", "lamp", "1", "10"],
    ]


# -- hostile names ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_names_are_names_whatever_is_in_them() -> None:
    markup = page_of(hostile())
    assert markup.count("<script") == markup.count("</script>") == 1 and "<img src=x" not in markup
    text = re.sub("[\u2066-\u2069]", "", html.unescape(markup))
    for name in HOSTILE:
        assert name.replace("\u202e", "�") in text
    assert "\u202e" not in markup and "\u0007" not in markup


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_page_is_well_formed_and_small(case: str) -> None:
    markup = page_of(CASES[case]())
    assert len(markup.encode("utf-8", errors="replace")) < 1_000_000
    assert "default-src 'none'" in html.unescape(markup)
    assert "http://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", markup)
    for tag in ("section", "table", "figure", "details", "dl", "ul", "svg", "div", "td", "th", "p"):
        assert len(re.findall(rf"<{tag}\b", markup)) == markup.count(f"</{tag}>"), tag
    ids = re.findall(r' id="([^"]*)"', markup)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'href="#([^"]*)"', markup)) <= set(ids)


@pytest.mark.slow
def test_the_same_result_makes_the_same_page() -> None:
    assert page_of(usual()) == page_of(usual())
