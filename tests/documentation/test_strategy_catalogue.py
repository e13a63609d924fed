"""docs/strategies.md: what its tables say of the built-in strategies is what the program has and does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from clbench.errors import UsageError
from clbench.plugins.discovery import builtin_folder, discover, without_dialects
from clbench.runs.planned_runs import plan
from clbench.runs.request import Request
from clbench.streams.kinds import KINDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "strategies.md").read_text()
FILES = {path.stem for path in builtin_folder("strategy").glob("*.py")}
BUILTIN = {each.name: each for each in without_dialects(discover("strategy")) if each.name in FILES}
PRESETS = [f"{name}:{preset}" for name, plugin in BUILTIN.items() for preset in plugin.all_presets]
STREAMS = [name for name in KINDS if name != "class"]


def table(first: str) -> list[dict[str, str]]:
    """The rows of the table whose first column has this title, by column."""
    lines = PAGE[PAGE.index(f"| {first} |") :].partition("\n\n")[0].splitlines()
    titles, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in lines)
    return [dict(zip(titles, row, strict=True)) for row in rows]


def codes(text: str, mark: str = "") -> list[str]:
    """What a text has as code, or only what is followed by a footnote's mark."""
    return re.findall(rf"`([^`]+)`{mark}", text)


ROWS = [row for row in table("strategy") if not row["strategy"].startswith("**")]
NAMES = [codes(row["strategy"])[0] for row in ROWS]
MARKED = {
    mark: [name + preset for name, row in zip(NAMES, ROWS, strict=True) for preset in codes(row["presets"], mark)]
    for mark in ("¹", "²")
}
"""The presets with the mark of a fixed and of a growing head."""


def refusing(setting: str) -> set[str]:
    """The strategies that refuse a setting, by the page."""
    return {name for name, row in zip(NAMES, ROWS, strict=True) if setting in codes(row["refused settings"])}


def planned(data: Path, selectors: Iterable[str], values: dict[str, Any] | None = None, **given: Any) -> None:
    """Plan runs of strategies and presets; UsageError if one of them is refused."""
    chosen = list(selectors)
    if chosen:
        request = Request(chosen, ["splitdigits"], device="cpu", data=data, set=values or {}, **given)
        plan(request, lambda event: None)


def check_refused(data: Path, refused: set[str], asked: Iterable[str], **given: Any) -> None:
    """Check that of the strategies and presets asked for exactly these are refused, with the head that each needs."""
    fixed = {"recipe.head": "fixed"}
    for selector in refused:
        with pytest.raises(UsageError):
            planned(data, [selector], fixed if selector in MARKED["¹"] else {}, **given)
            pytest.fail(f"{selector} is not refused")
    accepted = [selector for selector in asked if selector not in refused]
    planned(data, [selector for selector in accepted if selector in MARKED["¹"]], fixed, **given)
    planned(data, [selector for selector in accepted if selector not in MARKED["¹"]], **given)


def test_every_built_in_strategy_has_one_row_in_the_order_of_the_readme() -> None:
    assert sorted(NAMES) == sorted(BUILTIN)
    (listed,) = re.findall(r"The built-in strategies, (.+?)\. `clbench\s", (ROOT / "README.md").read_text(), re.DOTALL)
    assert codes(listed) == NAMES


def test_the_paper_of_a_row_is_in_the_strategys_file() -> None:
    for name, row in zip(NAMES, ROWS, strict=True):
        assert row["paper"] in " ".join(BUILTIN[name].doc.split()), name


def test_the_presets_of_a_row_are_those_of_the_strategy_and_of_its_dialects() -> None:
    for name, row in zip(NAMES, ROWS, strict=True):
        assert codes(row["presets"]) == [f":{preset}" for preset in BUILTIN[name].all_presets], name


def test_the_hyper_parameters_of_a_row_exist_with_these_defaults() -> None:
    for name, row in zip(NAMES, ROWS, strict=True):
        defaults = {field.name: ast.literal_eval(field.default) for field in BUILTIN[name].fields}
        written = dict(code.split("=") for code in codes(row["main hyper-parameters"] + row["keeps of old data"]))
        assert bool(written) == bool(defaults), name
        for field, value in written.items():
            default = defaults[field]
            same = float(value) == default if type(default) in (int, float) else value == str(default)
            assert same, f"{name}.{field} is {default!r}"


def test_the_defaults_under_a_recipe_are_those_of_the_footnote() -> None:
    (note,) = re.findall(r"^- ⁴ under the recipe `quick`, (.+)\.$", PAGE, re.MULTILINE)
    written = {field: int(value) for field, value in (code.split("=") for code in codes(note))}
    for name, row in zip(NAMES, ROWS, strict=True):
        marked = [code.split("=")[0] for code in codes(row["main hyper-parameters"], "⁴")]
        own = {"quick": {field: written[field] for field in marked}} if marked else {}
        assert BUILTIN[name].attributes.get("in_recipe", {}) == own, name


@pytest.mark.parametrize(("head", "mark"), [("growing", "¹"), ("fixed", "²")], ids=["growing", "fixed"])
def test_the_presets_that_a_head_does_not_suit_are_marked(head: str, mark: str, data: Path) -> None:
    for selector in MARKED[mark]:
        with pytest.raises(UsageError, match="head"):
            planned(data, [selector], {"recipe.head": head})
    planned(data, [selector for selector in PRESETS if selector not in MARKED[mark]], {"recipe.head": head})


@pytest.mark.parametrize("setting", ["task", "domain"])
def test_the_settings_of_a_row_are_those_that_the_strategy_and_its_presets_refuse(setting: str, data: Path) -> None:
    asked = [*NAMES, *PRESETS]
    refused = {selector for selector in asked if selector.partition(":")[0] in refusing(setting)}
    check_refused(data, refused, asked, split="2", setting=setting)


def test_every_kind_of_stream_has_one_row() -> None:
    assert sorted(name for row in table("`--stream`") for name in codes(row["`--stream`"])) == sorted(STREAMS)


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_refuses_the_strategies_and_presets_of_its_row(stream: str, data: Path) -> None:
    (row,) = (row for row in table("`--stream`") if stream in codes(row["`--stream`"]))
    named = set(codes(row["refuses"]))
    strategies = set(NAMES) - named if row["refuses"].startswith("all but") else named
    more, fewer = set(codes(row["refuses the presets"])), set(codes(row["accepts the presets"]))
    presets = {selector for selector in PRESETS if selector.partition(":")[0] in strategies}
    assert not more & presets and fewer <= presets
    check_refused(data, (strategies | presets | more) - fewer, [*NAMES, *PRESETS], stream=stream)


@pytest.mark.parametrize("stream", ["permuted", "rotated"])
def test_domains_are_refused_by_the_strategies_that_refuse_their_setting(stream: str, data: Path) -> None:
    check_refused(data, refusing("domain"), NAMES, stream=stream, setting="domain")


def test_frozen_learns_with_the_options_of_the_footnotes(data: Path) -> None:
    head, over = {"frozen.head": "all_rows"}, {"frozen.cross_entropy_over": "seen"}
    planned(data, ["frozen"], head, split="2", setting="domain")
    for stream in ("repetition", "data_incremental"):
        planned(data, ["frozen"], {**head, **over}, stream=stream)
        for one in (head, over):
            with pytest.raises(UsageError):
                planned(data, ["frozen"], one, stream=stream)


@pytest.mark.parametrize(
    ("name", "values", "stream"),
    [("er", {"er.memories": "herding"}, "blurry"), ("lwf", {"lwf.warmup_epochs": 1}, "online")],
)
def test_an_option_that_needs_what_a_stream_does_not_give_is_refused(
    name: str, values: dict[str, Any], stream: str, data: Path
) -> None:
    with pytest.raises(UsageError, match=f"the stream {stream}"):
        planned(data, [name], values, stream=stream)
