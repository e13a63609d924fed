"""No command prints what a plug-in, an exception or a stranger's run would have the terminal obey."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from stored_runs import fail, publish

from clbench.checks.strategy_contract import Result
from clbench.cli import plugins, program

ESCAPE = "\x1b]0;title\x07\x9b2J\u202e"
PLUGIN = f'''"""Clears the screen {ESCAPE}.

Variant: {ESCAPE}.
"""

import clbench


@clbench.config
class Config:
    alpha: float = 1.0
    """Weight {ESCAPE}."""


class Mine(clbench.Strategy[Config]):
    presets = {{"a": {{"loss": "{ESCAPE}", "source": "{ESCAPE}"}}}}

    def loss(self, batch):
        raise RuntimeError("lost {ESCAPE}")
'''
SMALL = ["-S", "splitdigits", "--split", "2", "--epochs", "1", "--threads", "1", "--device", "cpu"]
Printed = Callable[..., str]


@pytest.fixture
def printed(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    """What a command prints on both streams, in a folder with a hostile strategy and a stranger's runs."""
    monkeypatch.setenv("CLBENCH_DATA", str(data))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "mine.py").write_text(PLUGIN)
    results = tmp_path / "results"
    publish(results, f"stranger {ESCAPE}", scenario=f"tiny {ESCAPE}", config={"a": ESCAPE}, text=PLUGIN)
    publish(results, f"stranger {ESCAPE}", scenario=f"tiny {ESCAPE}", config={"a": "b"}, text=PLUGIN)
    fail(results, "other", 0, f"KeyError: {ESCAPE}", scenario=f"tiny {ESCAPE}")
    damaged = publish(results, f"damaged {ESCAPE}").path
    (damaged / f"more {ESCAPE}").touch()
    damaged.rename(damaged.with_name(f"run {ESCAPE}"))

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["clbench", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit):
            program.main()
        streams = capsys.readouterr()
        return streams.out + streams.err

    return call


def assert_harmless(text: str) -> None:
    assert not set("\x1b\x07\x9b\u202e") & set(text)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("show mine", "Clears the screen �"),
        ("show mine --json", "Clears the screen"),
        ("show mine:a", "L = �"),
        ("list strategies", "Clears the screen �"),
        ("list strategies --json", "Clears the screen"),
        ("list runs", "damaged"),
        ("list runs --json", "unreadable"),
        ("compare", "stranger �"),
        ("compare --json", "stranger"),
        (f"compare nowhere{ESCAPE}", "nowhere�"),
        (f"show nothing{ESCAPE}", "nothing�"),
        (f"report --strategy nothing{ESCAPE}", "nothing�"),
    ],
)
def test_what_a_command_prints_is_legible(printed: Printed, line: str, says: str) -> None:
    text = printed(*line.split())
    assert_harmless(text)
    assert says in text


def test_the_message_of_an_exception_is_legible(printed: Printed) -> None:
    text = printed("run", "-s", "mine", *SMALL, "--out", "mine")
    assert_harmless(text)
    assert text.count("lost �") == 2  # as it fails, and at the end


def test_what_a_check_found_is_legible(capsys: pytest.CaptureFixture[str]) -> None:
    plugins._print_check(
        Result("name", "failed", "What it tests.", f"RuntimeError: {ESCAPE}\nin line 3", f"Fix {ESCAPE}")
    )
    text = capsys.readouterr().out
    assert_harmless(text)
    assert len(text.splitlines()) == 4


def test_doctors_advice_runs_nothing_that_a_folder_is_named_for(tmp_path: Path) -> None:
    from clbench.diagnostics import doctor

    run = publish(tmp_path / "results").path
    (run / "more").touch()
    hostile = tmp_path / "results" / "tiny; rm -r ~"
    run.parent.parent.rename(hostile)
    (_, finding) = doctor._runs([tmp_path / "results"])
    assert "rm -r" in finding.what and "rm -r" not in finding.fix
