"""Several runs at once: worker processes, each of which imports torch once and serves one run after another.

A worker reads specs as JSON lines from its standard input and answers with events and outcomes as JSON lines. It gets
the plug-in's path and hash, never an object. Where a worker dies, its run has failed, and a new one takes its place.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from clbench import errors
from clbench.base import events
from clbench.base.events import Listener, RunFailed
from clbench.executors.queue import RunQueue
from clbench.plugins.discovery import Plugin
from clbench.results.record import to_json
from clbench.results.run_spec import RunSpec
from clbench.results.store import ResultsFolder
from clbench.runs.grid import Planned
from clbench.runs.outcome import Outcome
from clbench.system import gc_freeze
from clbench.system.signals import Interrupted, Interruption

if TYPE_CHECKING:
    from clbench.runs.surroundings import Surroundings


class _Worker:
    """One worker process and the conversation with it."""

    def __init__(self, results: ResultsFolder, data: Path, share: bool, notify: Listener) -> None:
        self.notify = notify
        # A session of its own: Ctrl-C in the terminal reaches the parent, which tells the workers.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "clbench.executors.workers", str(results.path), str(data), str(share)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def execute(self, run: Planned, wait: bool) -> dict[str, Any]:
        """Have the run done; return the answer: an outcome, an error, or how the worker ended."""
        order = {"spec": to_json(run.spec), "plugin": _as_json(run.plugin), "wait": wait}
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                answer: dict[str, Any] = json.loads(line)
                if "event" not in answer:
                    return answer
                self.notify(events.from_json(answer))
        except BrokenPipeError:
            pass
        return {"ended": self.ended()}

    def end(self, stop: bool) -> None:
        """Tell the process that there is nothing more to do, or that it shall `stop` at the next batch."""
        assert self.process.stdin
        if stop:
            self.process.terminate()  # unlike SIGINT it ends one that has not come to listen yet without a word
        self.process.stdin.close()

    def ended(self) -> int:
        """Wait until the process has ended; return its exit code."""
        assert self.process.stdout
        code = self.process.wait()
        self.process.stdout.close()
        return code


class Pool:
    """Workers that share the runs of a grid."""

    def __init__(self, size: int, results: ResultsFolder, data: Path, share: bool, notify: Listener) -> None:
        self.results, self.data, self.share, self._listener = results, data, share, notify
        self._notifying = threading.Lock()
        self._idle: list[_Worker] = []
        self._alive: set[_Worker] = set()
        self._stopping = False
        self._threads = ThreadPoolExecutor(size)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = error is not None
        self._threads.shutdown(wait=False, cancel_futures=True)
        try:
            for worker in list(self._alive):
                worker.end(stop=error is not None)
            for worker in list(self._alive):
                worker.ended()
        except Interrupted:  # a second Ctrl-C
            for worker in list(self._alive):
                worker.process.kill()
            raise

    def _notify(self, event: events.Event) -> None:
        with self._notifying:
            self._listener(event)

    def execute(self, planned: Sequence[Planned]) -> list[Outcome]:
        """Do all runs and return their outcomes in the order planned."""
        outcomes: dict[str, Outcome | None] = {}
        for wait in (False, True):  # what another process is doing comes last, when it may be finished
            missing = [run for run in planned if outcomes.get(run.name) is None]
            turns = RunQueue(missing)
            futures = [self._threads.submit(self._next, turns, wait) for _ in missing]
            for future in as_completed(futures):
                run, outcomes[run.name] = future.result()
        return [outcome for run in planned if (outcome := outcomes[run.name])]

    def _next(self, turns: RunQueue, wait: bool) -> tuple[Planned, Outcome | None]:
        run, began = turns.take(), time.perf_counter()
        outcome = self._one(run, wait)
        if outcome and outcome.status == "finished":
            turns.took(run, time.perf_counter() - began)
        return run, outcome

    def _one(self, run: Planned, wait: bool) -> Outcome | None:
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = self._start()
        answer = worker.execute(run, wait)
        if "ended" in answer:
            self._alive.discard(worker)
            message = f"its worker process ended with {_ending(answer['ended'])}"
            if not self._stopping:
                self._notify(RunFailed(run.name, message, ""))
            return Outcome(run.name, "failed", self.results.path, message)
        self._idle.append(worker)
        if "error" in answer:
            kind: type[errors.ClbenchError] = getattr(errors, answer["error"])
            raise kind(answer["message"], answer["hint"])
        outcome = answer["outcome"]
        return outcome and Outcome(**{**outcome, "path": Path(outcome["path"])})

    def _start(self) -> _Worker:
        worker = _Worker(self.results, self.data, self.share, self._notify)
        self._alive.add(worker)
        return worker


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _as_json(plugin: Plugin) -> dict[str, Any]:
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "path": str(plugin.path),
        "source": plugin.source,
        "sha256": plugin.sha256,
    }


def serve(results: Path, data: Path, share: bool) -> int:
    """The worker's side: do the runs that come in, until there are no more. Returns the exit code."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a plug-in or a library writes to standard output must not mix with the answers

    def answer(values: dict[str, Any]) -> None:
        try:
            answers.write(json.dumps(values) + "\n")
            answers.flush()
        except BrokenPipeError:  # the parent was killed; there is nobody to answer, and the run is soon told to stop
            os.dup2(os.open(os.devnull, os.O_WRONLY), answers.fileno())

    orders: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    try:
        with Interruption() as interruption:
            threading.Thread(target=_read_orders, args=(orders, interruption), daemon=True).start()
            from clbench.runs.surroundings import Surroundings

            gc_freeze.spare_imports()
            around = Surroundings(
                ResultsFolder(results), data, interruption, lambda event: answer(events.to_json(event)), share
            )
            while (line := orders.get()) is not None:
                answer(_answer(json.loads(line), around))
    except Interrupted as interrupted:
        return interrupted.exit_code
    return 0


def _answer(order: dict[str, Any], around: Surroundings) -> dict[str, Any]:
    from clbench.runs.run import execute

    plugin = Plugin(**{**order["plugin"], "path": Path(order["plugin"]["path"])})
    try:
        outcome = execute(RunSpec.model_validate(order["spec"]), plugin, around, order["wait"])
    except errors.ClbenchError as error:
        return {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    return {"outcome": outcome and {**dataclasses.asdict(outcome), "path": str(outcome.path)}}


def _read_orders(orders: queue.SimpleQueue[str | None], interruption: Interruption) -> None:
    for line in sys.stdin:
        orders.put(line)
    # The parent has gone, or has nothing more to do.
    orders.put(None)
    interruption.request(signal.SIGTERM)


if __name__ == "__main__":
    gc_freeze.this_process_is_ours()
    sys.exit(serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "True"))
