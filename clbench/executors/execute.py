"""Does the runs that are planned: in this process, or several at once in worker processes."""

from __future__ import annotations

from collections.abc import Sequence

from clbench.base.events import Listener, Note, RunSkipped
from clbench.data.datasets import data_folder
from clbench.executors.workers import Pool
from clbench.results.run_spec import run_id
from clbench.results.store import ResultsFolder
from clbench.runs.grid import Planned, Request
from clbench.runs.outcome import Outcome
from clbench.runs.parallelism import advice, runs_at_once
from clbench.system import gc_freeze
from clbench.system.signals import Interruption


def execute_all(
    planned: Sequence[Planned], request: Request, interruption: Interruption, notify: Listener
) -> list[Outcome]:
    """Do every run that is not published yet and return their outcomes in the order planned.

    A failed run does not keep the others from running. Raises what concerns them all, and Interrupted.
    """
    results = ResultsFolder(request.results)
    outcomes = _there_already(planned, results, notify)
    if missing := [run for run in planned if run.name not in outcomes]:
        done = _execute(missing, request, results, interruption, notify)
        outcomes |= {outcome.run: outcome for outcome in done}
    results.discard_first_experiences()
    return [outcomes[run.name] for run in planned]


def _there_already(planned: Sequence[Planned], results: ResultsFolder, notify: Listener) -> dict[str, Outcome]:
    """Return the outcomes of the runs that are published, without starting what does runs."""
    outcomes = {}
    for run in planned:
        if folder := results.settled(run.name, run_id(run.spec)):
            outcomes[run.name] = Outcome(run.name, "skipped", folder)
            notify(RunSkipped(run.name, str(folder)))
    return outcomes


def _execute(
    planned: Sequence[Planned], request: Request, results: ResultsFolder, interruption: Interruption, notify: Listener
) -> Sequence[Outcome]:
    folder = data_folder(request.data)
    threads, device = planned[0].spec.threads, planned[0].spec.device
    if text := advice(request.jobs, len(planned), threads, device):
        notify(Note(text))
    if (at_once := runs_at_once(request.jobs, len(planned), threads, device)) > 1:
        with Pool(at_once, results, folder, request.share, notify) as pool:
            return pool.execute(planned)
    from clbench.runs.run import execute  # torch and all that it brings
    from clbench.runs.surroundings import Surroundings

    gc_freeze.spare_imports()
    around = Surroundings(results, folder, interruption, notify, request.share)
    outcomes: dict[str, Outcome | None] = {}
    for wait in (False, True):  # what another process is doing comes last, when it may be finished
        for run in planned:
            if outcomes.get(run.name) is None:
                outcomes[run.name] = execute(run.spec, run.plugin, around, wait)
    return [outcome for outcome in outcomes.values() if outcome]
