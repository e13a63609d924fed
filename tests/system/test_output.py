"""What is printed and written is harmless: control characters, changes of direction and formulas are only text."""

import csv
import io
import json

import pytest
from rich.progress import Progress
from rich.text import Text

from clbench.system.output import as_csv, duration, legible, one_line, say, say_json, say_prose, unwrapped
from clbench.system.tables import print_table
from clbench.system.terminal import Terminal

COMMANDS = {
    "clear the screen": "\x1b[2J",
    "write the clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "the same in one character": "\x9b2J",
    "go back over the line": "safe\b\b\b\bevil\r",
    "turn the direction": "\u202eevil\u2066",
    "no character": "\ud800",
}
OBEYED = set("\x1b\x07\x9b\b\r\u202e\u2066\ud800")


@pytest.mark.parametrize("text", COMMANDS.values(), ids=COMMANDS)
def test_what_is_said_commands_no_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(f"a{text}b")
    said = capsys.readouterr().out
    assert not OBEYED & set(said) and "�" in said and said.startswith("a") and said.endswith("b\n")


def test_newlines_and_indentation_of_what_is_said_stay(capsys: pytest.CaptureFixture[str]) -> None:
    say("first\n\n  second\tthird")
    assert capsys.readouterr().out == "first\n\n  second        third\n"


@pytest.mark.parametrize("text", COMMANDS.values(), ids=COMMANDS)
def test_json_has_the_value_and_commands_no_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    say_json({text: [text, "Straße\n", 1.5]})
    said = capsys.readouterr().out
    assert not OBEYED & set(said) and "Straße" in said
    assert json.loads(said) == {text: [text, "Straße\n", 1.5]}


@pytest.mark.parametrize("text", COMMANDS.values(), ids=COMMANDS)
def test_a_table_and_a_message_command_no_terminal(text: str) -> None:
    file = io.StringIO()
    console = Terminal(file=file, width=60, force_terminal=False)
    print_table(console, text, [f"name {text}", "n"], [[f"cell {text}", "1"]], numbers=[1])
    console.print(Text(text))
    assert not OBEYED & set(file.getvalue()) and "cell" in file.getvalue()


def test_a_terminal_keeps_its_own_colours_and_its_progress_bar() -> None:
    file = io.StringIO()
    console = Terminal(file=file, width=60, force_terminal=True, color_system="standard", legacy_windows=False)
    console.print(Text("name \x1b[2J", style="red"))
    with Progress(console=console) as progress:
        progress.add_task("run \x1b]0;title\x07", total=2)
    shown = file.getvalue()
    assert "\x1b[31mname �[2J" in shown and "\x1b[?25l" in shown  # red; the cursor hidden while the bar moves
    assert "\x1b[2J" not in shown and "\x1b]0" not in shown


def test_one_line_is_one_and_bounded() -> None:
    assert one_line("a\n b\tc\x1b") == "a b c�"
    assert len(one_line("x" * 10_000_000)) == 2000


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_a_csv_cell_that_a_spreadsheet_would_run_is_quoted(text: str) -> None:
    (row,) = csv.reader(io.StringIO(as_csv([[text, "plain"]]), newline=""))
    assert row == [legible(f"'{text}"), "plain"]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\v", "\x85"])
def test_no_text_begins_a_row_of_its_own_in_csv(end: str) -> None:
    text = as_csv([[f"name{end}=1+1", 2]])
    assert len(text.splitlines()) == 1 and len(list(csv.reader(io.StringIO(text, newline="")))) == 1


def test_numbers_in_csv_stay_numbers() -> None:
    assert as_csv([["n", "x"], [-1, -0.5], [None, "a,b"]]) == 'n,x\n-1,-0.5\n,"a,b"\n'


DOCSTRING = """A method: it has a
second line.

    L = CE    of a formula
    continued

Source: a paper.
Variant: some words
and more.
name    what it is
other   what else
"""


def test_a_paragraph_is_one_line_and_formulas_columns_and_labels_keep_theirs() -> None:
    assert unwrapped(DOCSTRING).split("\n") == [
        "A method: it has a second line.",
        "",
        "    L = CE    of a formula",
        "    continued",
        "",
        "Source: a paper.",
        "Variant: some words and more.",
        "name    what it is",
        "other   what else",
    ]


def test_prose_fills_the_terminal_and_breaks_no_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    say_prose("one two three four five six seven a-word-with-hyphens-longer-than-30 eight", "  ", "  ")
    assert capsys.readouterr().out.splitlines() == [
        "  one two three four five six",
        "    seven",
        "    a-word-with-hyphens-longer-than-30",
        "    eight",
    ]


def test_a_long_line_is_broken_between_words_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    said = "To ask it: clbench predict model-2\nname    what it is\n    an indented line stays"
    say(said)
    assert capsys.readouterr().out == f"{said}\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    say(said)
    assert capsys.readouterr().out.splitlines() == [
        "To ask it: clbench",
        "predict model-2",
        "name    what it is",
        "    an indented line stays",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 seconds"), (1.2, "1 second"), (90.0, "90 seconds"), (840.0, "14 minutes"), (10_800.0, "3 hours")],
)
def test_a_duration_is_as_exact_as_an_estimate_deserves(seconds: float, said: str) -> None:
    assert duration(seconds) == said
