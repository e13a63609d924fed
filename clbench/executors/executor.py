"""The base class of executors: runs that are already published are skipped, and outcomes are returned in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from clbench.base.events import Listener, Note, RunSkipped
from clbench.results import stored_runs
from clbench.results.store import ResultsFolder
from clbench.runs.kept_networks import check_kept
from clbench.runs.outcome import Outcome
from clbench.runs.planned_runs import Planned
from clbench.runs.request import Request
from clbench.system.signals import Interruption


@dataclass(frozen=True)
class Command:
    """The command whose runs an executor executes."""

    request: Request
    interruption: Interruption
    """Its `check` raises Interrupted once the user has asked to stop."""

    notify: Listener
    """Where the events of all runs go, from one thread at a time."""

    options: str = ""
    """What follows the executor's name in `--on NAME:OPTIONS`."""


class Executor(ABC):
    """Executes planned runs, wherever that is; a context manager that lasts as long as the command.

    Where a run is executed changes neither its identity nor a byte of what is published, apart from
    environment.json and costs.json. An executor sends the events of its runs to `command.notify`, with one RunFinished
    or RunFailed at the end of each.
    """

    def __init__(self, command: Command) -> None:
        self.command = command

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what was started for the command; after an `error` also the runs that are under way."""
        self.close(stop=error is not None)

    @abstractmethod
    def close(self, stop: bool) -> None:
        """End what was started for the command; with `stop` also the runs that are under way."""

    @abstractmethod
    def do(self, planned: Sequence[Planned], results: ResultsFolder) -> list[Outcome]:
        """Execute runs that are not published yet, and publish them in `results`; return their outcomes in any order.

        A failed run does not keep the others from running. Raises errors that concern them all, and Interrupted.
        """

    def execute(self, planned: Sequence[Planned], folder: Path) -> list[Outcome]:
        """Execute every run not yet published in the results `folder`; return the outcomes in the order planned.

        Raises what `do` raises.
        """
        results = ResultsFolder(folder)
        for name in results.abandoned():
            self.command.notify(
                Note(f"{name} was under way in a process that ended without a word: it crashed or was killed")
            )
        outcomes = self._published(planned, results)
        if missing := [run for run in planned if run.name not in outcomes]:
            outcomes |= {outcome.run: outcome for outcome in self.do(missing, results)}
        results.discard_first_experiences()
        return [outcomes[run.name] for run in planned]

    def _published(self, planned: Sequence[Planned], results: ResultsFolder) -> dict[str, Outcome]:
        outcomes = {}
        unchanged = stored_runs.unchanged(results.path, [run.name for run in planned])
        for run in planned:
            if folder := results.settled(run.name, run.run_id, run.name in unchanged):
                check_kept(folder, run.name, run.keep)
                outcomes[run.name] = Outcome(run.name, "skipped", folder)
                self.command.notify(RunSkipped(run.name, str(folder)))
        return outcomes
