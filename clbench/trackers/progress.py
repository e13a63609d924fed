"""The progress of runs: a live bar in a terminal, and a line per experience."""

from __future__ import annotations

import contextlib
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from clbench.base.events import (
    Event,
    ExperienceFinished,
    Note,
    RunFailed,
    RunFinished,
    RunSkipped,
    RunStarted,
    TrainingProgress,
)


class ProgressDisplay:
    """Shows the events of a grid of runs on `console` (standard error)."""

    def __init__(self, console: Console) -> None:
        self.total = 0
        self._started: dict[str, RunStarted] = {}
        self._latest: dict[str, str] = {}
        self._tasks: dict[str, TaskID] = {}
        self._ended = 0
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def expect(self, runs: int) -> None:
        """Start counting towards this number of runs."""
        self.total, self._ended = runs, 0

    def __enter__(self) -> ProgressDisplay:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, RunStarted):
            self._started[event.run] = event
            resumed = f", resuming after experience {event.resumed_after - 1}" if event.resumed_after else ""
            self._print(f"{event.run}: {event.experiences} experiences, {event.length} each{resumed}")
            self._tasks[event.run] = self._live.add_task(
                _short(event.run), total=event.experiences, completed=event.resumed_after, detail=""
            )
        elif isinstance(event, TrainingProgress):
            self._show_training(event)
        elif isinstance(event, ExperienceFinished):
            self._show_experience(event)
        elif isinstance(event, Note):
            self._print(event.text)
        else:
            self._show_end(event)

    def _show_training(self, event: TrainingProgress) -> None:
        started = self._started[event.run]
        detail = (
            f"experience {event.experience}, {100 * event.fraction:.0f} % of {started.length}, "
            f"{event.images_per_second:,.0f} images/s{self._latest.get(event.run, '')}"
        )
        self._live.update(self._tasks[event.run], completed=event.experience + event.fraction, detail=detail)

    def _show_experience(self, event: ExperienceFinished) -> None:
        old, new = _percent(event.old_accuracy), _percent(event.new_accuracy)
        self._latest[event.run] = f" | old {old} new {new}"
        self._live.update(self._tasks[event.run], completed=event.experience + 1)
        what = f"old classes {old:>6}, new classes {new:>6}" if event.new_accuracy is not None else "not evaluated"
        self._print(f"  {_short(event.run)} experience {event.experience}: {what}   ({event.seconds:.1f} s)")

    def _show_end(self, event: RunFinished | RunSkipped | RunFailed) -> None:
        self._ended += 1
        if event.run in self._tasks:
            self._live.remove_task(self._tasks.pop(event.run))
        count = f"[{self._ended}/{self.total}]"
        if isinstance(event, RunFailed):
            kept = f"; traceback in {event.path}/traceback.txt" if event.path else ""
            self._print(f"{count} {event.run} FAILED {event.message}{kept}", style="red")
        elif isinstance(event, RunSkipped):
            self._print(f"{count} {event.run} already done, skipped")
        else:
            self._print(f"{count} {event.run} finished")

    def _print(self, text: str, style: str = "") -> None:
        with contextlib.suppress(OSError):  # the reader has closed the pipe; the runs continue
            self._live.console.print(Text(text, style=style), soft_wrap=True)


def _short(run: str) -> str:
    """`splitmnist/lwf/quick-seed0-1cc8f1cc` -> `splitmnist lwf seed 0`."""
    scenario, strategy, rest = run.split("/")
    return f"{scenario} {strategy} seed {rest.rpartition('-seed')[2].partition('-')[0]}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
