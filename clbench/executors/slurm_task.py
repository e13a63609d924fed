"""The program of a Slurm job: it executes runs of a command, one after another, in the shared results folder."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import submitit
from submitit.helpers import DelayedSubmission

from clbench.base import events
from clbench.base.events import CheckpointSaved, Event, RunFailed, RunFinished, RunSkipped, TrainingProgress
from clbench.errors import ClbenchError
from clbench.executors.node import Terms, check_node
from clbench.executors.slurm_states import job_states
from clbench.executors.worker import Died, Worker, order_of, run_of
from clbench.runs.outcome import Outcome
from clbench.runs.planned_runs import Planned
from clbench.system.signals import GRACE

_PROGRESS_SECONDS = 2.0
"""Minimum time between two messages on the progress of a run."""

_WORKER_SECONDS = 2 * GRACE
"""How long a worker may take to stop, when told to, before it is killed."""


@dataclass
class SlurmTask:
    """Runs for one job. Its events and outcomes are appended to `log`, one JSON object per line."""

    terms: Terms
    orders: Sequence[Mapping[str, Any]]
    """The runs, as orders for a worker."""

    data: str
    log: str

    def __call__(self) -> None:
        """Execute the runs that are not published yet."""
        job = submitit.JobEnvironment()
        asked = _end_unless_running if job.cluster == "slurm" else _end
        signal.signal(signal.SIGTERM, lambda number, frame: asked(job.job_id))
        try:
            check_node(self.terms, {})
            self._do([run_of(order) for order in self.orders])
        except ClbenchError as error:
            self._tell({"error": type(error).__name__, "message": error.message, "hint": error.hint})

    def checkpoint(self) -> DelayedSubmission:
        """Return what to start again when the time limit is near, or the job is preempted: the same task.

        Published runs are then skipped, and the one under way resumes after its last experience.
        """
        return DelayedSubmission(self)

    def _do(self, runs: Sequence[Planned]) -> None:
        worker: Worker | None = None
        told = 0.0

        def notify(event: Event) -> None:
            nonlocal told
            if isinstance(event, RunFinished | RunFailed | RunSkipped | CheckpointSaved):
                return  # the command reports how the run ended
            if isinstance(event, TrainingProgress):
                if time.monotonic() - told < _PROGRESS_SECONDS:
                    return
                told = time.monotonic()
            self._tell(events.to_json(event))

        try:
            for run, order in zip(runs, self.orders, strict=True):
                if worker is None:
                    with signals_held({signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}):
                        worker = Worker(Path(self.data), self.terms.share, notify, self.terms.executor)
                try:
                    outcome = worker.execute(run, Path(order["results"]), wait=True)
                except Died as death:
                    worker = None
                    how = f"its worker process ended with {death}"
                    outcome = Outcome(run.name, "failed", Path(order["results"]), how)
                assert outcome is not None
                self._tell(
                    {"run": run.name, "status": outcome.status, "path": str(outcome.path), "why": outcome.message}
                )
        finally:
            if worker is not None:
                worker.end(stop=False)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.ended(_WORKER_SECONDS)

    def _tell(self, values: Mapping[str, Any]) -> None:
        with Path(self.log).open("a") as file:
            file.write(json.dumps(values) + "\n")


@contextlib.contextmanager
def signals_held(signals: Set[signal.Signals]) -> Iterator[None]:
    """In this context, a process that is started never gets these signals.

    Slurm signals to all processes of a job that it ends. The job's own process decides what happens then; a worker that
    ended before would look as if it had crashed.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_unless_running(job: str) -> None:
    """End this process without a result if its job is cancelled, or preempted and queued again.

    A job that is still running is at the beginning of the grace time before that, and uses it.
    """
    states = job_states()
    if states is not None and states.get(job) != "RUNNING":
        _end(job)


def _end(job: str) -> NoReturn:
    """End this process, which executes a job, without a result."""
    sys.exit(128 + signal.SIGTERM)


def task_of(runs: Sequence[Planned], results: Path, terms: Terms, data: Path, log: Path) -> SlurmTask:
    """Return the task that executes these runs in a job, with absolute paths."""
    orders = [order_of(run, results.absolute(), wait=True) for run in runs]
    return SlurmTask(terms, orders, str(data.absolute()), str(log.absolute()))
