"""Executes runs on a Ray cluster, whose machines need not share files with this one.

Each run is a Ray task. Ray places it where its cores and GPUs are free, and starts it again elsewhere if its machine is
lost; see ray_tasks.py. Its events and checkpoints come back through a mailbox. The files of a finished run are the
task's result, and are published here, as a local run's would be.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from filelock import BaseFileLock, Timeout

from clbench import errors
from clbench.base.events import Note, RunFailed, RunFinished, RunSkipped
from clbench.data.datasets import data_folder
from clbench.errors import MachineError, UsageError
from clbench.executors import ray_tasks
from clbench.executors.executor import Command, Executor
from clbench.executors.node import Checkpoint, Done, Terms, checkpoint_in, intact, lay_checkpoint
from clbench.executors.parcel import files_of, packed, source_of
from clbench.executors.ray_cluster import (
    WithoutRays,
    join_or_start,
    machines,
    on_node,
    raise_file_limit,
    resources,
    working_nodes,
)
from clbench.executors.ray_tasks import Failure
from clbench.executors.run_queue import RunQueue
from clbench.results import environment, manifests
from clbench.results.run_spec import run_id
from clbench.results.store import ResultsFolder
from clbench.runs.kept_networks import check_kept
from clbench.runs.outcome import Outcome
from clbench.runs.planned_runs import Planned, most_needed

RETRIES = 20
"""How often a run whose machine was lost is started again. It resumes after its last experience each time."""

_ANSWER_SECONDS = 60.0
"""How long a machine may take to report whether it can execute the runs."""

MOST_UNDER_WAY = 4000
"""The most runs that are handed to the cluster at a time; each has two open files here."""

_POLL_SECONDS = 0.2


class RayExecutor(Executor):
    """Executes runs on the Ray cluster at the address after `ray:`, on one that is running, or on a new one here."""

    def __init__(self, command: Command) -> None:
        super().__init__(command)
        if command.request.gpus_per_run is not None and command.request.gpus_per_run <= 0:
            raise UsageError(f"--gpus-per-run must be above 0 (got {command.request.gpus_per_run:g})")
        request = command.request
        self._terms = Terms(
            command=uuid.uuid4().hex,
            executor="ray",
            versions=environment.versions(),
            allow_mixed=request.allow_mixed,
            share=request.share,
            data=None if request.data is None else str(request.data.absolute()),
        )
        self._connected = self._own_connection = self._started_here = False
        self._mailbox: Any = None
        self._sent: dict[str, Any] = {}
        """Files that are in the cluster's memory, by hash."""

        self._sources: dict[str, bytes] = {}
        """Files of the strategies whose runs have begun, by hash: they may be edited meanwhile."""

        self._flights: dict[Any, _Flight] = {}
        self._surveyed: set[str] = set()
        self._said: list[str] = []
        """Ray's messages about its machines."""

    def do(self, planned: Sequence[Planned], results: ResultsFolder) -> list[Outcome]:
        """Execute runs that are not published yet; see Executor.do."""
        # What a signal's handler raises in Ray's native code surfaces as a SystemError. So the first signal waits for
        # the next check; a second one comes through.
        try:
            own_output = contextlib.redirect_stdout(WithoutRays(sys.stdout, self._said))
            with own_output, self.command.interruption.deferred():
                self._connect()
                self._survey(planned)
                self._say_if_none_fits(planned)
                return self._do(planned, results)
        except SystemError:
            self.command.interruption.check()
            raise

    def _do(self, planned: Sequence[Planned], results: ResultsFolder) -> list[Outcome]:
        waiting, queue = len(planned), RunQueue(planned)
        elsewhere: list[Planned] = []
        outcomes: list[Outcome] = []
        while waiting or self._flights or elsewhere:
            self.command.interruption.check()
            while waiting and len(self._flights) < self._room(planned):
                run, waiting = queue.take(), waiting - 1
                self._begin(run, results, outcomes, elsewhere)
            if elsewhere and not waiting and not self._flights:  # another process is running the rest
                time.sleep(1)
                again, elsewhere = elsewhere, []
                for run in again:
                    self._begin(run, results, outcomes, elsewhere, told=True)
            if self._flights:
                ray.wait(list(self._flights), timeout=_POLL_SECONDS)
            self._hear(results)
            outcomes += self._landed(results, queue)
        return outcomes

    def close(self, stop: bool) -> None:
        """Cancel the runs that are under way, and leave the cluster; stop it if it was started here."""
        if not self._connected:
            return
        # Ray ends a process that is interrupted while it leaves the cluster, with an exit code of its own.
        with contextlib.redirect_stdout(WithoutRays(sys.stdout, self._said)), self.command.interruption.held():
            with contextlib.suppress(Exception):  # the cluster itself may be lost
                for task in list(self._flights):
                    ray.cancel(task, force=True)
                if not self._started_here:
                    cleared = [on_node(node, ray_tasks.clear).remote(self._terms.command) for node in working_nodes()]
                    ray.wait(cleared, num_returns=len(cleared), timeout=1.0 if stop else 5.0)
            for flight in self._flights.values():
                flight.release()
            self._flights.clear()
            if self._own_connection:
                ray.shutdown()
            if self._started_here:
                ray_tasks.clear(self._terms.command)

    # -- the cluster --------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if self._connected:
            return
        if not ray.is_initialized():
            self._started_here = join_or_start(self.command.options or os.environ.get("RAY_ADDRESS"))
            self._own_connection = True
        self._connected = True
        raise_file_limit(2 * MOST_UNDER_WAY)
        here = None if self.command.options.startswith("ray://") else ray.get_runtime_context().get_node_id()
        self._mailbox = on_node(here, ray_tasks.Mailbox).remote()
        nodes = working_nodes()
        cores = int(resources().get("CPU", 0))
        self.command.notify(
            Note(f"Ray: {len(nodes)} node{'s' if len(nodes) != 1 else ''}, {cores} core{'s' if cores != 1 else ''}")
        )

    def _survey(self, planned: Sequence[Planned]) -> None:
        """Ask every machine whether it can execute the runs. Raises check_node's error for the first that cannot."""
        datasets = {run.spec.scenario.dataset: run.spec.scenario.dataset_sha256 for run in planned}
        asked = {on_node(node, ray_tasks.checked).remote(self._terms, datasets): node for node in working_nodes()}
        answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_SECONDS)
        problems = []
        for answer in answered:
            with contextlib.suppress(ray.exceptions.RayError):  # the machine is lost
                said = ray.get(answer)
                if isinstance(said, Failure):
                    problems.append(said)
                elif said and asked[answer] not in self._surveyed:
                    self.command.notify(Note(f"{said}; accepted by --allow-mixed"))
                self._surveyed.add(asked[answer])
        if silent:
            self.command.notify(
                Note(f"{len(silent)} nodes of the cluster did not answer within {_ANSWER_SECONDS:.0f} s")
            )
        if problems:
            messages = dict.fromkeys(problem.message for problem in problems)
            raise getattr(errors, problems[0].kind)("\n".join(messages), problems[0].hint)

    def _say_if_none_fits(self, planned: Sequence[Planned]) -> None:
        """Report that runs wait if no machine of the cluster is large enough: one may still join."""
        threads, device = most_needed(planned)
        needs = {"CPU": float(threads), "GPU": self._gpus if device == "cuda" else 0.0}
        if any(all(have.get(kind, 0.0) >= amount for kind, amount in needs.items()) for have in machines()):
            return
        gpu = f" and {needs['GPU']:g} GPU" if needs["GPU"] else ""
        self.command.notify(
            Note(f"Ray: no node has {threads} core{'s' if threads > 1 else ''}{gpu}; the runs wait until one joins")
        )

    def _room(self, planned: Sequence[Planned]) -> int:
        """Return how many runs may be under way: some more than there is room for, so that no core waits for one."""
        jobs = self.command.request.jobs
        if isinstance(jobs, int):
            return jobs
        have, (threads, device) = resources(), most_needed(planned)
        room = have.get("CPU", 0) / threads
        if device == "cuda":
            room = min(room, have.get("GPU", 0) / self._gpus)
        return min(2 * int(room) + 2, MOST_UNDER_WAY)

    @property
    def _gpus(self) -> float:
        return self.command.request.gpus_per_run or 1.0

    # -- a run --------------------------------------------------------------------------------------------------------

    def _begin(
        self,
        run: Planned,
        results: ResultsFolder,
        outcomes: list[Outcome],
        elsewhere: list[Planned],
        told: bool = False,
    ) -> None:
        """Hand a run to the cluster, unless it has been published meanwhile or another process is running it."""
        if run.plugin.sha256 not in self._sources:
            self._sources[run.plugin.sha256] = source_of(run.plugin)
        identity = run_id(run.spec)
        lock = results.lock(identity)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not told:
                self.command.notify(Note(f"{run.name} is being done by another process, waiting for it"))
            elsewhere.append(run)
            return
        if there := results.published(run.name, lambda text: self.command.notify(Note(text))):
            check_kept(there, run.name, run.keep)
            results.discard_work(identity)
            lock.release()
            outcomes.append(Outcome(run.name, "skipped", there))
            self.command.notify(RunSkipped(run.name, str(there)))
            return
        flight = _Flight(run, lock)
        flight.marks.enter_context(results.under_way(run.name, identity))
        self._flights[self._task(run, checkpoint_in(results.work(identity)))] = flight

    def _task(self, run: Planned, resume: Checkpoint) -> Any:
        for digest, path in files_of(run, data_folder(self.command.request.data)).items():
            if digest not in self._sent:
                self._sent[digest] = ray.put(self._sources.get(digest) or path.read_bytes())
        task = ray.remote(ray_tasks.do).options(
            num_cpus=run.spec.threads,
            num_gpus=self._gpus if run.spec.device == "cuda" else 0,
            max_retries=RETRIES,
            name=run.name,
        )
        return task.remote(self._terms, packed(run), self._sent, resume, self._mailbox)

    def _hear(self, results: ResultsFolder) -> None:
        """Pass on what has arrived in the mailbox, and store the checkpoints."""
        flights = {run_id(flight.run.spec): flight for flight in self._flights.values()}
        try:
            messages = ray.get(self._mailbox.take.remote())
        except ray.exceptions.RayError as error:
            raise MachineError(
                f"the Ray cluster was lost: {type(error).__name__}. What was finished is intact.",
                "Rerun the same command to resume.",
            ) from error
        while self._said:
            self.command.notify(Note(f"Ray: {self._said.pop(0)}"))
        for run, message in messages:
            if run not in flights:
                continue
            if isinstance(message, Note):
                self.command.notify(Note(f"{flights[run].run.name}: {message.text}"))
            elif isinstance(message, Mapping):
                lay_checkpoint(results.work(run), message)
            else:
                self.command.notify(message)

    def _landed(self, results: ResultsFolder, queue: RunQueue) -> list[Outcome]:
        """Publish the runs that have ended; return their outcomes."""
        if not self._flights:
            return []
        ended, _ = ray.wait(list(self._flights), num_returns=len(self._flights), timeout=0)
        outcomes = []
        for task in ended:
            self._hear(results)  # what came before its end
            flight = self._flights[task]
            try:
                outcome = self._settled(flight.run, ray.get(task), results)
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError as error:
                reason = " ".join(str(error).split())
                outcome = Outcome(
                    flight.run.name,
                    "failed",
                    results.path,
                    f"the cluster gave up on it: {type(error).__name__}: {reason}",
                )
            finally:
                del self._flights[task]
                flight.release()
            if outcome.failed:
                path = "" if outcome.path == results.path else str(outcome.path)
                self.command.notify(RunFailed(outcome.run, outcome.message, path))
            else:
                queue.took(flight.run, time.perf_counter() - flight.began)
                self.command.notify(RunFinished(outcome.run, str(outcome.path)))
            self._mailbox.forget.remote(run_id(flight.run.spec))
            outcomes.append(outcome)
        return outcomes

    def _settled(self, run: Planned, done: Done | Failure, results: ResultsFolder) -> Outcome:
        if isinstance(done, Failure):
            raise getattr(errors, done.kind)(done.message, done.hint)
        identity = run_id(run.spec)
        if not done.files:
            return Outcome(run.name, done.status, results.path, done.message)
        if not intact(done.files):
            raise MachineError(f"{run.name}: its files did not arrive as they were sent", "Rerun the same command.")
        files = {file: content for file, content in done.files.items() if file != manifests.MANIFEST}
        try:
            if done.status != "finished":
                return Outcome(run.name, done.status, results.keep_failure(run.name, identity, files), done.message)
            results.keep_source(self._sources[run.plugin.sha256])
            return Outcome(run.name, "finished", results.publish(run.name, identity, files))
        except OSError as error:
            raise MachineError(
                f"{run.name}: {error.strerror or error}. What was finished is intact.",
                "Free disk space or fix the folder, then rerun the same command to resume.",
            ) from error


@dataclass
class _Flight:
    """A run that was handed to the cluster."""

    run: Planned
    lock: BaseFileLock
    marks: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    began: float = field(default_factory=time.perf_counter)

    def release(self) -> None:
        self.marks.close()
        self.lock.release()
