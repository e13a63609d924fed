"""Executes planned runs on this machine: in this process, or several at once in worker processes."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from clbench.base.events import Event, Listener, Note, RunFailed
from clbench.data.datasets import data_folder
from clbench.executors.executor import Command, Executor
from clbench.executors.run_queue import RunQueue
from clbench.executors.worker import Died, Worker
from clbench.results.store import ResultsFolder
from clbench.runs.outcome import Outcome
from clbench.runs.parallelism import advice, runs_at_once
from clbench.runs.planned_runs import Planned, most_needed
from clbench.system import gc_freeze
from clbench.system.signals import GRACE, Interrupted


class Local(Executor):
    """Executes runs on this machine. Its workers start when they are first needed and stay until the command ends."""

    def __init__(self, command: Command) -> None:
        super().__init__(command)
        self._pool: Pool | None = None

    def close(self, stop: bool) -> None:
        """End the workers: with `stop` at the next batch or after a while, otherwise when they have no more to do."""
        if self._pool:
            self._pool.close(stop)

    def do(self, planned: Sequence[Planned], results: ResultsFolder) -> list[Outcome]:
        """Execute runs that are not published yet; see Executor.do."""
        request, notify = self.command.request, self.command.notify
        threads, device = most_needed(planned)
        jobs = 1 if request.jobs is None else request.jobs
        if text := advice(jobs, len(planned), threads, device):
            notify(Note(text))
        at_once = runs_at_once(jobs, len(planned), threads, device)
        if at_once == 1 and self._pool is None:
            return self._in_this_process(planned, results)
        if self._pool is None:
            self._pool = Pool(data_folder(request.data), request.share, notify)
        return self._pool.execute(planned, results, at_once)

    def _in_this_process(self, planned: Sequence[Planned], results: ResultsFolder) -> list[Outcome]:
        from clbench.runs.context import RunContext
        from clbench.runs.run import execute  # imports torch
        from clbench.system.randomness import randomness_untouched

        gc_freeze.freeze_imports()
        command, request = self.command, self.command.request
        around = RunContext(results, data_folder(request.data), command.interruption, command.notify, request.share)
        outcomes: dict[str, Outcome | None] = {}
        for wait in (False, True):  # what another process is running comes last, when it may be finished
            for run in planned:
                if outcomes.get(run.name) is None:
                    own = replace(around, keep=run.keep, track=run.track)
                    with randomness_untouched():  # the caller's, in Python
                        outcomes[run.name] = execute(run.spec, run.plugin, own, wait, run.network)
        return [outcome for outcome in outcomes.values() if outcome]


class Pool:
    """Worker processes that share the runs of a grid, each of which executes one run after another."""

    def __init__(self, data: Path, share: bool, notify: Listener) -> None:
        self._data, self._share, self._listener = data, share, notify
        self._notifying = threading.Lock()
        # Workers end with the thread that starts them, so it has to last as long as they do.
        self._starter = ThreadPoolExecutor(1)
        self._idle: list[Worker] = []
        self._alive: set[Worker] = set()
        self._stopping = False
        self._threads: ThreadPoolExecutor | None = None

    def execute(self, planned: Sequence[Planned], results: ResultsFolder, at_once: int) -> list[Outcome]:
        """Execute all runs, `at_once` at a time, and return their outcomes in the order planned."""
        self._threads = ThreadPoolExecutor(at_once)
        outcomes: dict[str, Outcome | None] = {}
        for wait in (False, True):  # what another process is running comes last, when it may be finished
            missing = [run for run in planned if outcomes.get(run.name) is None]
            runs = RunQueue(missing)
            futures = [self._threads.submit(self._next, runs, results, wait) for _ in missing]
            for future in as_completed(futures):
                run, outcomes[run.name] = future.result()
        self._threads.shutdown()
        return [outcome for run in planned if (outcome := outcomes[run.name])]

    def close(self, stop: bool) -> None:
        """End the workers: with `stop` at the next batch or after a while, otherwise when they have no more to do."""
        self._stopping = stop
        self._starter.submit(lambda: None).result()  # no worker is being started any more
        if self._threads:
            self._threads.shutdown(wait=False, cancel_futures=True)
        try:
            for worker in list(self._alive):
                worker.end(stop)
            deadline = time.monotonic() + 0.75 * GRACE  # before anyone loses patience with this process itself
            for worker in list(self._alive):
                worker.ended(max(0.0, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, Interrupted) as error:  # in code that does not return; or a second Ctrl-C
            for worker in list(self._alive):
                worker.kill()
            for worker in list(self._alive):
                worker.ended()
            if isinstance(error, Interrupted):
                raise
        finally:
            self._starter.shutdown(wait=False)

    def _notify(self, event: Event) -> None:
        with self._notifying:
            self._listener(event)

    def _next(self, runs: RunQueue, results: ResultsFolder, wait: bool) -> tuple[Planned, Outcome | None]:
        run, began = runs.take(), time.perf_counter()
        outcome = self._one(run, results, wait)
        if outcome and outcome.status == "finished":
            runs.took(run, time.perf_counter() - began)
        return run, outcome

    def _start(self) -> Worker:
        if self._stopping:
            raise Died("the command before it had begun")
        worker = Worker(self._data, self._share, self._notify)
        self._alive.add(worker)
        return worker

    def _one(self, run: Planned, results: ResultsFolder, wait: bool) -> Outcome | None:
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = self._starter.submit(self._start).result()
        try:
            outcome = worker.execute(run, results.path, wait)
        except Died as death:
            self._alive.discard(worker)
            message = f"its worker process ended with {death}"
            if not self._stopping:
                self._notify(RunFailed(run.name, message, ""))
            return Outcome(run.name, "failed", results.path, message)
        except BaseException:
            self._idle.append(worker)
            raise
        self._idle.append(worker)
        return outcome
