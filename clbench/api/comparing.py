"""`clbench.run`, `run_study`, `report` and `load`: run strategies on streams, and read and report stored runs."""

from __future__ import annotations

import base64
import contextlib
import io
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from clbench.base.events import Listener, Note
from clbench.comparison.grouping import compare
from clbench.comparison.rows import Comparison
from clbench.comparison.table import print_comparison
from clbench.errors import AuditError, ClbenchError, UsageError
from clbench.executors.choosing import open_executor
from clbench.executors.executor import Command
from clbench.results import stored_runs
from clbench.results.counts_frame import frame
from clbench.results.stored_run import StoredRun, Unreadable
from clbench.runs.grid_search import FOLDER
from clbench.runs.option import accepted, with_options
from clbench.runs.outcome import Outcome, describe_missing
from clbench.runs.parallelism import DEFAULT_THREADS
from clbench.runs.planned_runs import Planned, experiment_name
from clbench.runs.planning import Planning
from clbench.runs.request import Request, options
from clbench.runs.study import Section, read_study
from clbench.system.files import from_home
from clbench.system.signals import Interruption, as_keyboard_interrupt
from clbench.system.suggestions import did_you_mean
from clbench.system.terminal import Terminal
from clbench.trackers.progress import ProgressDisplay
from clbench.trackers.tracking import Tracking

if TYPE_CHECKING:
    import pandas as pd


class RunsFailed(ClbenchError):
    """Some runs of a grid failed, or are stored but cannot be read; `runs` holds the others."""

    def __init__(self, message: str, runs: Runs) -> None:
        super().__init__(message)
        self.runs = runs


class Runs(Sequence[StoredRun]):
    """A sequence of finished runs, shown as a comparison: as text, or in a notebook as a figure and tables."""

    def __init__(self, runs: Iterable[StoredRun]) -> None:
        self._runs = list(runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: Any) -> Any:
        return Runs(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def frame(self) -> pd.DataFrame:
        """The runs' counts as a tidy frame; see `clbench.load`."""
        return frame(self._runs)

    def __repr__(self) -> str:
        text = io.StringIO()
        width = shutil.get_terminal_size((120, 24)).columns  # 120 if there is no terminal
        console = Terminal(file=text, width=width, force_jupyter=False)  # or rich shows it in the notebook itself
        for comparison in compare(self._runs):
            print_comparison(console, comparison)
        return text.getvalue().rstrip() or "no runs"

    def _repr_html_(self) -> str:
        from clbench.comparison.table import as_html

        comparisons = compare(self._runs)
        picture = self._figure(comparisons)
        return "".join([picture, *map(as_html, comparisons)]) or "no runs"

    @staticmethod
    def _figure(comparisons: Sequence[Comparison]) -> str:
        """The old/new figure as HTML."""
        from clbench.reporting.figures import old_and_new
        from clbench.reporting.rendering import png

        panels = [panel for each in comparisons for _, panel in old_and_new(each).panels]
        if not panels:
            return ""
        encoded = base64.b64encode(png(panels, columns=2)).decode()
        said = "Accuracy on old and on new classes after each experience"
        return f'<img alt="{said}" src="data:image/png;base64,{encoded}" style="max-width: 100%">'


def run(
    strategy: str | Path | Sequence[str | Path],
    scenario: str | Path | Sequence[str | Path],
    *,
    recipe: str | None = None,
    network: str | Path | None = None,
    weights: str | Path | None = None,
    seeds: int | Sequence[int] | None = None,
    seed: int | None = None,
    set: Mapping[str, Any] | None = None,
    split: str | int | Sequence[int] | None = None,
    class_order: str | Sequence[int] | None = None,
    stream: str | None = None,
    epochs: int | None = None,
    setting: str | None = None,
    tune: str | None = None,
    device: str = "auto",
    threads: int = DEFAULT_THREADS,
    jobs: int | Literal["auto"] | None = None,
    on: str = "local",
    gpus_per_run: float | None = None,
    allow_mixed: bool = False,
    share: bool = True,
    keep_networks: Literal["last", "all"] | None = None,
    track: str | Sequence[str] | None = None,
    out: str | Path = "results",
    data: str | Path | None = None,
    strict: bool = False,
) -> Runs:
    """Run strategies on scenarios, as `clbench run` does, and return the stored runs; finished ones are not repeated.

    `seeds` is a number of seeds (3: seeds 0, 1 and 2) or the seeds themselves. `set` gives hyper-parameters, by
    "strategy.name" or, with one strategy, by "name". The other arguments are the command's options, listed below.

    Raises UsageError, DataError, MachineError or PluginError before anything is trained. At the end it raises
    RunsFailed if some runs failed or cannot be read, or, with `strict`, AuditError if a strategy broke the rules.
    Ctrl-C raises KeyboardInterrupt. Finished runs are stored in every case.
    """
    request = Request.from_python(locals())  # every argument is an option of the request
    with as_keyboard_interrupt():
        return _finished(run_sections([Section(request)], _console()), strict)


def run_study(study: str | Path, **said: Any) -> Runs:
    """Run a study, as `clbench run study.toml` does, and return the stored runs; finished ones are skipped.

    Besides the study it takes, by name, the options of `run` that are listed below; they override those in the study.
    Raises what `run` raises; UsageError says which line of the study is wrong.
    """
    sections = read_study(Path(from_home(study)), beside_a_study(said))
    with as_keyboard_interrupt():
        return _finished(run_sections(sections, _console()), said.get("strict", False))


def beside_a_study(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments from Python as fields of a request. Raises UsageError for one that only the study can set."""
    for name in said:
        if name not in options():
            raise UsageError(f"run_study has no argument '{name}'{did_you_mean(name, options())}")
        if options()[name].option.belongs_to == "study":
            raise UsageError(f"{name} cannot be given with a study, which defines it", "Change it in the study.")
    return {name: accepted(options(), name, value) for name, value in said.items()}


def _finished(outcomes: Sequence[Outcome], strict: bool) -> Runs:
    """Return the runs. Raises RunsFailed if some have failed and, with `strict`, AuditError for a violation."""
    runs, unreadable = stored(outcomes)
    if missing := describe_missing(outcomes, unreadable):
        raise RunsFailed(missing, runs)
    if strict:
        require_clean(runs)
    return runs


def _console() -> Console:
    return Terminal(file=sys.stderr)


run.__doc__ = with_options(run.__doc__, options())
run_study.__doc__ = with_options(
    run_study.__doc__, {name: each for name, each in options().items() if each.option.belongs_to != "study"}
)


def require_clean(runs: Iterable[StoredRun]) -> None:
    """Raise AuditError if the audit of a run found a violation."""
    found = {
        f"  {run.path}: {finding.name}: in experience {finding.experience} it {finding.what}"
        for run in runs
        for finding in run.result.audit.findings
        if finding.severity == "violation"
    }
    if found:
        raise AuditError("A strategy broke the rules; the runs are stored:\n" + "\n".join(sorted(found)))


def run_request(request: Request, console: Console) -> list[Outcome]:
    """Plan and execute the grid, with progress on `console`; return how each run ended, in the order planned."""
    return run_sections([Section(request)], console)


def run_sections(
    sections: Sequence[Section], console: Console, checked: Callable[[], None] = lambda: None
) -> list[Outcome]:
    """Plan and execute the runs of all sections together, each run once, with progress on `console`.

    The sections share one machine and one results folder. `checked` is called after all checks have passed, before
    anything is trained.
    """
    request = sections[0].request
    with _executing(request, console) as (execute, progress):
        planning = Planning(sections, progress)
        checked()
        if trials := planning.trials:
            progress(Note(f"{len(trials)} trials on validation streams, kept in {request.out / FOLDER}"))
            execute(trials, request.out / FOLDER)
        return execute(planning.runs(), request.out)


def execute_planned(planner: Callable[[Listener], list[Planned]], request: Request, console: Console) -> list[Outcome]:
    """Execute the runs that `planner` plans, on the machine and in the folders of `request`, with progress on
    `console`."""
    with _executing(request, console) as (execute, progress):
        return execute(planner(progress), request.out)


_Execute = Callable[[Sequence[Planned], Path], list[Outcome]]
"""Executes planned runs in a results folder."""


@contextlib.contextmanager
def _executing(request: Request, console: Console) -> Iterator[tuple[_Execute, ProgressDisplay]]:
    """Yield a function that executes planned runs, with progress on `console`, and the progress display."""
    with (
        Interruption() as interruption,
        ProgressDisplay(console) as progress,
        Tracking(request.track, progress) as tracking,
        open_executor(Command(request, interruption, tracking)) as executor,
    ):

        def execute(planned: Sequence[Planned], folder: Path) -> list[Outcome]:
            progress.expect(len(planned))
            tracking.expect(experiment_name(planned))
            return executor.execute(planned, folder)

        yield execute, progress


def stored(outcomes: Iterable[Outcome]) -> tuple[Runs, list[Unreadable]]:
    """Return the published runs among the outcomes, read back from their files, and those that cannot be read."""
    found = stored_runs.read_paths(outcome.path for outcome in outcomes if not outcome.failed)
    runs = Runs(run for run in found if isinstance(run, StoredRun))
    return runs, [run for run in found if isinstance(run, Unreadable)]


def report(
    *places: str | Path,
    out: str | Path | None = None,
    strategy: str | Sequence[str] = (),
    scenario: str | Sequence[str] = (),
    recipe: str | Sequence[str] = (),
) -> Path:
    """Write a report on the runs in `places`, folders and packs, as `clbench report` does; return its page.

    By default these are the runs in `results`, without those of other results folders inside it.

    `strategy`, `scenario` and `recipe` choose among the runs, by name. Raises UsageError if there is nothing to report,
    and MachineError if `out` (default: reports/NAME) cannot be written or holds something else. Warns about runs that
    failed or are damaged, which are left out.
    """
    from clbench.reporting.publication import write_report
    from clbench.results.run_selection import Selection

    wanted = ((names,) if isinstance(names, str) else tuple(names) for names in (strategy, scenario, recipe))
    if not places and out is None:
        out = Path("reports") / stored_runs.RESULTS.name
    written = write_report(
        [*map(from_home, places)] or stored_runs.usual_places()[0],
        None if out is None else Path(from_home(out)),
        Selection(*wanted),
    )
    for text in written.left_out:
        warnings.warn(text, stacklevel=2)
    return written.page


def load(*places: str | Path) -> pd.DataFrame:
    """Return the stored runs in `places`, folders and packs (default: results), as a tidy frame.

    It has a row per run, setting, `after` (the experience trained last) and `on` (the experience tested). Its columns
    are run, scenario, split, class_order, trained, strategy, preset, config, recipe, seed, setting, after, on, correct,
    total and accuracy. Raises UsageError for a place that does not exist or a run that is not as it was published.
    """
    runs, unreadable = stored_runs.read_all([*map(from_home, places)] or stored_runs.usual_places()[0])
    if unreadable:
        faults = "\n".join(map(str, unreadable))
        raise UsageError(f"{len(unreadable)} runs are not as they were published:\n{faults}", "See: clbench doctor")
    return frame(runs)
