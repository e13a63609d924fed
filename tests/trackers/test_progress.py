"""The progress of runs in a terminal of 80 columns."""

from __future__ import annotations

import io

from rich.console import Console

from clbench.base.events import (
    ExperienceFinished,
    FeaturesProgress,
    Note,
    RunFinished,
    RunSkipped,
    RunStarted,
    TrainingProgress,
)
from clbench.trackers.progress import ProgressDisplay

LONG = "a-scenario-with-a-long-name/and-a-strategy-of-a-third-party/quick-seed1993-0123abcd"


def screen(display: ProgressDisplay, width: int = 80) -> list[str]:
    """What the live display shows now."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(display._live.get_renderable())
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in lines)
    return [line.rstrip() for line in lines if line.strip()]


def terminal() -> ProgressDisplay:
    return ProgressDisplay(Console(file=io.StringIO(), width=80, force_terminal=True))


def test_the_line_of_a_run_keeps_seed_bar_and_time_left() -> None:
    display = terminal()
    display.expect(1)
    display(RunStarted(LONG, 5, "200 epochs", 0))
    display(ExperienceFinished(LONG, 0, None, 0.99, 3.0))
    display(TrainingProgress(LONG, 1, 0, 0.5, 12345.0))
    (line,) = screen(display)
    assert "… seed 1993 " in line and "━" in line and ":" in line
    assert line.endswith("…")  # the detail gives way
    assert len(line) == 78  # and the terminal's ^C has room


def test_a_long_name_of_a_scenario_leaves_the_strategys_whole() -> None:
    display = terminal()
    for strategy in ("lwf", "naive"):
        display(RunStarted(f"a-scenario-with-a-long-name/{strategy}/quick-seed0-0123abcd", 5, "10 epochs", 0))
    display(RunStarted("splitdigits/a-strategy-of-a-third-party/quick-seed0-0123abcd", 5, "10 epochs", 0))
    lwf, naive, third = screen(display)
    assert lwf.startswith("a-scenario-with-… lwf seed 0 ")
    assert naive.startswith("a-scenario-wit… naive seed 0 ")
    assert third.startswith("splitdi… a-strategy-… seed 0 ")


def test_the_line_of_a_run_says_nothing_of_an_experience_that_is_over() -> None:
    display = terminal()
    display.expect(1)
    display(RunStarted("digits/naive/quick-seed0-0123abcd", 3, "10 epochs", 0))
    display(TrainingProgress("digits/naive/quick-seed0-0123abcd", 0, 8, 0.8, 100.0))
    display(ExperienceFinished("digits/naive/quick-seed0-0123abcd", 0, None, 0.99, 1.0))
    display(ExperienceFinished("digits/naive/quick-seed0-0123abcd", 1, 0.5, 0.98, 1.0))
    (line,) = screen(display)
    assert line.endswith("old 50.0 % new 98.0 %") and "experience 0" not in line


def test_a_grid_has_one_bar_for_all_its_runs_that_counts_only_what_is_to_be_done() -> None:
    display = terminal()
    runs = [f"digits/naive/quick-seed{seed}-0123abcd" for seed in range(4)]
    display.expect(4)
    display(RunSkipped(runs[0], ""))
    for run in runs[1:3]:
        display(RunStarted(run, 2, "1 epoch", 0))
    display(ExperienceFinished(runs[1], 0, None, 1.0, 1.0))
    (task,) = [task for task in display._live.tasks if task.description == "all runs"]
    assert (task.completed, task.total) == (0.5, 3)
    assert "1 of 4 done" in screen(display)[0] and len(screen(display)) == 3
    display(RunFinished(runs[1], ""))
    assert (task.completed, task.total) == (1.0, 3)
    assert "2 of 4 done" in screen(display)[0]


def test_something_is_on_the_screen_until_the_first_run_begins() -> None:
    for runs in (1, 2):
        display = terminal()
        with display:
            assert screen(display)[0].startswith("Starting …")
            display.expect(runs)
            assert len(screen(display)) == 1
            display(RunStarted("digits/naive/quick-seed0-0123abcd", 2, "1 epoch", 0))
            assert "Starting" not in " ".join(screen(display)) and len(screen(display)) == runs


def test_a_single_run_has_its_own_bar_only() -> None:
    display = terminal()
    display.expect(1)
    display(RunStarted("digits/naive/quick-seed0-0123abcd", 2, "1 epoch", 0))
    assert len(screen(display)) == 1


def test_the_line_of_an_experience_fits() -> None:
    out = io.StringIO()
    display = ProgressDisplay(Console(file=out, width=80))
    display(RunStarted(LONG, 20, "1 epoch", 0))
    display(ExperienceFinished(LONG, 10, 1.0, 1.0, 1234.5))
    assert len(out.getvalue().splitlines()[-1]) <= 80


def test_an_experience_without_new_classes_is_evaluated_and_one_that_is_not_trained_is_not() -> None:
    out = io.StringIO()
    display = ProgressDisplay(Console(file=out, width=80))
    display(RunStarted(LONG, 20, "1 epoch", 0))
    display(ExperienceFinished(LONG, 10, 0.944, None, 1.0))
    assert "experience 10: old 94.4 %, new      – (1.0 s)" in out.getvalue().splitlines()[-1]
    display(ExperienceFinished(LONG, 11, None, None, 1.0))
    assert "experience 11: not evaluated (1.0 s)" in out.getvalue().splitlines()[-1]


def test_a_note_is_broken_between_words_on_a_terminal_only() -> None:
    said = "assumed of the network: images of 224 px (--size), pixels in 0..1, not normalized (--mean, --std)"
    for is_terminal, lines in ((True, [said[:80].rpartition(" ")[0], "normalized (--mean, --std)"]), (False, [said])):
        out = io.StringIO()
        ProgressDisplay(Console(file=out, width=80, force_terminal=is_terminal))(Note(said))
        assert [line.rstrip() for line in out.getvalue().splitlines()] == lines


def test_the_line_of_an_extraction_has_images_rate_and_time_left_and_goes_when_all_are_done() -> None:
    display = terminal()
    features = "timm:vit_tiny_patch16_224 on cifar100"
    display(FeaturesProgress(features, 1, 60_000, 1.0))
    (line,) = screen(display)
    assert "features timm:vit_tiny_patc…" in line and "--:--" in line
    display(FeaturesProgress(features, 30_000, 60_000, 189.3))
    (line,) = screen(display)
    assert "━" in line and "30,000 of 60,000" in line
    display(FeaturesProgress(features, 60_000, 60_000, 189.3))
    assert screen(display) == []


def test_an_extraction_that_another_process_starts_over_has_one_line() -> None:
    display = terminal()
    for done in (10, 20, 5):
        display(FeaturesProgress("mlp on digits", done, 100, 10.0))
    (line,) = screen(display)
    assert "5 of 100 images | 10 images/s" in line
