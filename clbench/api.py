"""clbench from Python: the same runs, files, names, defaults and errors as from the command line."""

from __future__ import annotations

import io
import operator
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from clbench.base.events import Listener
from clbench.comparison.comparison import compare
from clbench.comparison.table import print_comparison
from clbench.errors import AuditError, ClbenchError, UsageError
from clbench.executors.execute import execute_all
from clbench.results import stored_runs
from clbench.results.stored_runs import StoredRun
from clbench.runs.grid import Planned, Request, plan, seeds_from
from clbench.runs.grid_search import plan_finals, plan_trials
from clbench.runs.outcome import Outcome
from clbench.system.signals import Interruption
from clbench.trackers.progress import Watcher

if TYPE_CHECKING:
    import pandas as pd


class RunsFailed(ClbenchError):
    """Some runs of a grid failed; `runs` holds those that did not."""

    def __init__(self, message: str, runs: Runs) -> None:
        super().__init__(message)
        self.runs = runs


class Runs(Sequence[StoredRun]):
    """Finished runs: a sequence of them, their comparison as text, and a figure of it in a notebook."""

    def __init__(self, runs: Iterable[StoredRun]) -> None:
        self._runs = list(runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: Any) -> Any:
        return Runs(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def frame(self) -> pd.DataFrame:
        """The runs' counts as a tidy frame; see `clbench.load`."""
        return stored_runs.frame(self._runs)

    def __repr__(self) -> str:
        text = io.StringIO()
        console = Console(file=text, width=120)
        for comparison in compare(self._runs):
            print_comparison(console, comparison)
        return text.getvalue().rstrip() or "no runs"

    def _repr_png_(self) -> bytes | None:
        from clbench.reporting.figures import old_and_new
        from clbench.reporting.rendering import png

        panels = [panel for each in compare(self._runs) for _, panel in old_and_new(each).panels]
        return png(panels, columns=2) if panels else None


def run(
    strategy: str | Sequence[str],
    scenario: str | Sequence[str],
    *,
    recipe: str | None = None,
    seeds: int | Sequence[int] = 1,
    set: Mapping[str, Any] | None = None,
    split: str | None = None,
    class_order: str | None = None,
    epochs: int | None = None,
    setting: str | None = None,
    tune: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    jobs: int | Literal["auto"] = 1,
    share: bool = True,
    out: str | Path = "results",
    data: str | Path | None = None,
    strict: bool = False,
) -> Runs:
    """Run strategies on scenarios, as `clbench run` does, and return the stored runs; finished ones are not repeated.

    `seeds` is a number of seeds (3: seeds 0, 1 and 2) or the seeds themselves. `set` gives hyper-parameters, by
    "strategy.name" or, with one strategy, by "name". The other arguments are the command's options.

    Raises UsageError, DataError, MachineError or PluginError before anything is trained, and RunsFailed at the end if
    some runs failed, or with `strict` AuditError if a strategy broke the rules; what has finished is stored in every
    case.
    """
    request = Request(
        strategies=[strategy] if isinstance(strategy, str) else list(strategy),
        scenarios=[scenario] if isinstance(scenario, str) else list(scenario),
        recipe=recipe,
        seeds=_seeds(seeds),
        values=dict(set or {}),
        split=split,
        class_order=class_order,
        epochs=epochs,
        setting=setting,
        tune=tune,
        device=device,
        threads=threads,
        jobs=jobs,
        share=share,
        results=Path(out),
        data=None if data is None else Path(data),
    )
    outcomes = run_request(request, Console(file=sys.stderr))
    runs = stored(outcomes)
    failed = [f"{outcome.run} {outcome.message}" for outcome in outcomes if outcome.failed]
    if failed:
        raise RunsFailed(f"{len(failed)} of {len(outcomes)} runs failed:\n" + "\n".join(failed), runs)
    if strict:
        require_clean(runs)
    return runs


def require_clean(runs: Iterable[StoredRun]) -> None:
    """Raise AuditError where the audit of a run found a violation."""
    found = {
        f"  {run.path}: {finding.name}: in experience {finding.experience} it {finding.what}"
        for run in runs
        for finding in run.result.audit.findings
        if finding.severity == "violation"
    }
    if found:
        raise AuditError("A strategy broke the rules; the runs are stored:\n" + "\n".join(sorted(found)))


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    try:
        if isinstance(seeds, bool):
            raise TypeError
        if hasattr(seeds, "__iter__"):
            return tuple(operator.index(seed) for seed in seeds)
        return seeds_from(str(operator.index(seeds)))
    except TypeError:
        raise UsageError(f"seeds={seeds!r}: a number of seeds, or the seeds as whole numbers") from None


def run_request(request: Request, console: Console) -> list[Outcome]:
    """Plan the grid and do it, with progress on `console`; return how each run ended, in the order planned."""
    if request.tune != "grid":
        return execute_planned(lambda notify: plan(request, notify), request, console)
    with Interruption() as interruption, Watcher(console) as watcher:

        def execute(planned: Sequence[Planned], asked: Request) -> list[Outcome]:
            watcher.expect(len(planned))
            return execute_all(planned, asked, interruption, watcher)

        return execute(plan_finals(request, plan_trials(request, watcher), execute, watcher), request)


def execute_planned(planner: Callable[[Listener], list[Planned]], request: Request, console: Console) -> list[Outcome]:
    """Do what `planner` plans on the machine and in the folders of `request`, with progress on `console`."""
    with Interruption() as interruption, Watcher(console) as watcher:
        planned = planner(watcher)
        watcher.expect(len(planned))
        return execute_all(planned, request, interruption, watcher)


def stored(outcomes: Iterable[Outcome]) -> Runs:
    """Return the published runs among the outcomes, read back from their files."""
    read = [stored_runs.read(outcome.path) for outcome in outcomes if not outcome.failed]
    return Runs(run for run in read if isinstance(run, StoredRun))


def report(
    *places: str | Path,
    out: str | Path | None = None,
    strategy: str | Sequence[str] = (),
    scenario: str | Sequence[str] = (),
    recipe: str | Sequence[str] = (),
) -> Path:
    """Write the report of the runs at or below `places` (default: results), as `clbench report` does; return its page.

    `strategy`, `scenario` and `recipe` choose among the runs, by name. Raises UsageError where there is nothing to
    report, and MachineError where `out` (default: reports/NAME) cannot be written or holds something else.
    """
    from clbench.reporting.publication import Selection, write_report

    wanted = ((names,) if isinstance(names, str) else tuple(names) for names in (strategy, scenario, recipe))
    return write_report(places or ("results",), None if out is None else Path(out), Selection(*wanted)).page


def load(*places: str | Path) -> pd.DataFrame:
    """Return the stored runs at or below `places` (default: results) as a tidy frame.

    A row per run, setting, `after` (the experience trained last) and `on` (the experience tested): run, scenario,
    split, trained, strategy, preset, config, recipe, seed, setting, after, on, correct, total, accuracy. Raises
    UsageError for a place that does not exist or a run that is not as it was published.
    """
    runs, unreadable = stored_runs.read_all(places or ("results",))
    if unreadable:
        faults = "\n".join(f"{fault.path}: {fault.problem}" for fault in unreadable)
        raise UsageError(f"{len(unreadable)} runs are not as they were published:\n{faults}", "See: clbench doctor")
    return stored_runs.frame(runs)
