"""Displays the progress of runs: a live bar in a terminal, and a line per experience."""

from __future__ import annotations

import contextlib
import importlib.util
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from clbench.base.events import (
    DecodingProgress,
    Event,
    ExperienceFinished,
    FeaturesProgress,
    Note,
    RunFailed,
    RunFinished,
    RunSkipped,
    RunStarted,
    TrainingProgress,
)
from clbench.system.terminal import print_lines

_NAME_WIDTH = 28
_SCENARIO_WIDTH = 8
"""What the name of a strategy leaves of that of the scenario."""

_MANY_RUNS = 100
"""In a larger grid, skipped runs are counted instead of named."""

_ESTIMATED_OVER_SECONDS = 300.0


class _Bars(Progress):
    """Bars that leave room for the ^C that a terminal shows: on a full line it would move the bars by one."""

    def get_renderable(self) -> RenderableType:
        """Return the bars as wide as they may be."""
        return _Narrower(super().get_renderable())


@dataclass(frozen=True)
class _Narrower:
    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.inner, options.update_width(options.max_width - len("^C")))


class ProgressDisplay:
    """Shows the events of a grid of runs on `console` (standard error).

    In a terminal, each run that is under way has a bar, and a grid of several runs has one for all of them on top.
    """

    def __init__(self, console: Console) -> None:
        self.total = 0
        self._started: dict[str, RunStarted] = {}
        self._latest: dict[str, str] = {}
        self._tasks: dict[str, TaskID] = {}
        self._counted: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}
        """The share that is done of each run under way."""

        self._ended = self._skipped = self._untold = 0
        self._all: TaskID | None = None
        self._starting: TaskID | None = None
        # The name, the bar and the time left are never cut; the detail takes what is left of the line.
        self._live = _Bars(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=12),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[detail]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=console,
            transient=True,
            disable=not (console.is_terminal or _shows_in_a_notebook(console)),
            expand=True,
            speed_estimate_period=_ESTIMATED_OVER_SECONDS,
        )

    def expect(self, runs: int) -> None:
        """Start counting towards this number of runs."""
        self.total, self._ended, self._skipped = runs, 0, 0
        if self._all is not None:
            self._live.remove_task(self._all)
        if runs > 1:
            self._started_up()
        self._all = self._live.add_task("all runs", total=runs, detail="") if runs > 1 else None

    def __enter__(self) -> ProgressDisplay:
        # Until the first run begins: torch is being imported, or data downloaded.
        self._starting = self._live.add_task("Starting …", total=None, detail="")
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell_skipped()
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, RunStarted):
            self._started_up()
            self._started[event.run] = event
            resumed = f", resuming after experience {event.resumed_after - 1}" if event.resumed_after else ""
            length = event.length if event.experiences == 1 else f"{event.experiences} experiences, {event.length} each"
            self._print(f"{event.run}: {length}{resumed}")
            if event.run in self._tasks:  # it was lost with its machine and continues on another
                self._live.remove_task(self._tasks[event.run])
            self._tasks[event.run] = self._live.add_task(
                _short(event.run), total=event.experiences, completed=event.resumed_after, detail=""
            )
            self._shares[event.run] = 0.0
        elif isinstance(event, TrainingProgress):
            self._show_training(event)
        elif isinstance(event, ExperienceFinished):
            self._show_experience(event)
        elif isinstance(event, FeaturesProgress):
            self._show_counted(f"features {event.features}", event)
        elif isinstance(event, DecodingProgress):
            self._show_counted(f"images {event.images}", event)
        elif isinstance(event, Note):
            self._print(event.text)
        elif isinstance(event, RunFinished | RunSkipped | RunFailed):
            self._show_end(event)

    def _started_up(self) -> None:
        if self._starting is not None:
            self._live.remove_task(self._starting)
            self._starting = None

    def _show_training(self, event: TrainingProgress) -> None:
        started = self._started[event.run]
        which = f"experience {event.experience}, " if started.experiences > 1 else ""
        detail = (
            f"{which}{100 * event.fraction:.0f} % of {started.length}"
            f"{self._latest.get(event.run, '')} | {event.images_per_second:,.0f} images/s"
        )
        self._advance(event.run, event.experience + event.fraction, detail)

    def _advance(self, run: str, experiences: float, detail: str) -> None:
        """Move the bars to this number of completed experiences of a run."""
        self._live.update(self._tasks[run], completed=experiences, detail=detail)
        self._shares[run] = experiences / self._started[run].experiences
        self._advance_all()

    def _advance_all(self) -> None:
        if self._all is None:
            return
        # Runs that were published before took no time: without them, the time left is that of the others.
        worked = self._ended - self._skipped + sum(self._shares.values())
        detail = f"{self._ended} of {self.total} done"
        self._live.update(self._all, total=self.total - self._skipped, completed=worked, detail=detail)

    def _show_experience(self, event: ExperienceFinished) -> None:
        old, new = _percent(event.old_accuracy), _percent(event.new_accuracy)
        several = self._started[event.run].experiences > 1
        short = f"old {old} new {new}" if several or event.old_accuracy is not None else f"new {new}"
        self._latest[event.run] = f" | {short}"
        self._advance(event.run, event.experience + 1, short)  # instead of the detail on its training
        evaluated = (event.old_accuracy, event.new_accuracy) != (None, None)
        aligned = f"old {old:>6}, new {new:>6}" if several else short
        what = aligned if evaluated else "not evaluated"
        seconds = f"{event.seconds:.1f}" if event.seconds < 100 else f"{event.seconds:.0f}"
        which = f" experience {event.experience}" if several else ""
        self._print(f"  {_short(event.run)}{which}: {what} ({seconds} s)")

    def _show_counted(self, what: str, event: FeaturesProgress | DecodingProgress) -> None:
        self._started_up()
        if what not in self._counted:
            self._counted[what] = self._live.add_task(_cut(what, _NAME_WIDTH), total=event.total, detail="")
        task = self._counted[what]
        self._live.update(
            task,
            completed=event.done,
            detail=f"{event.done:,} of {event.total:,} images | {event.images_per_second:,.0f} images/s",
        )
        if event.done == event.total:
            self._live.remove_task(self._counted.pop(what))

    def _show_end(self, event: RunFinished | RunSkipped | RunFailed) -> None:
        self._ended += 1
        self._skipped += isinstance(event, RunSkipped)
        self._shares.pop(event.run, None)
        if event.run in self._tasks:
            self._live.remove_task(self._tasks.pop(event.run))
        self._advance_all()
        count = f"[{self._ended}/{self.total}]"
        if isinstance(event, RunFailed):
            kept = f"; traceback in {event.path}/traceback.txt" if event.path else ""
            self._print(f"{count} {event.run} FAILED {event.message}{kept}", style="red")
        elif isinstance(event, RunSkipped) and self.total > _MANY_RUNS:
            self._untold += 1
        elif isinstance(event, RunSkipped):
            self._print(f"{count} {event.run} already done, skipped")
        elif self.total:
            self._print(f"{count} {event.run} finished")

    def _tell_skipped(self) -> None:
        """Print how many runs were skipped, if they are too many to name each."""
        if self._untold:
            skipped, self._untold = self._untold, 0
            self._print(f"{skipped:,} runs are already done, skipped")

    def _print(self, text: str, style: str = "") -> None:
        self._tell_skipped()
        with contextlib.suppress(OSError):  # the reader has closed the pipe; the runs continue
            print_lines(self._live.console, Text(text, style=style))


def _shows_in_a_notebook(console: Console) -> bool:
    """Whether a notebook can show bars that move: rich needs ipywidgets for that, or warns at every step."""
    return console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None


def _short(run: str) -> str:
    """`splitmnist/lwf/quick-seed0-1cc8f1cc` -> `splitmnist lwf seed 0`; long names are cut, the scenario's first."""
    if run.count("/") != 2:  # a strategy that extends a network
        return _cut(run, _NAME_WIDTH)
    scenario, strategy, rest = run.split("/")
    seed = f"seed {rest.rpartition('-seed')[2].partition('-')[0]}"
    room = _NAME_WIDTH - len(f" {seed}") - 1
    strategy = _cut(strategy, room - min(len(scenario), _SCENARIO_WIDTH))
    return f"{_cut(scenario, room - len(strategy))} {strategy} {seed}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
