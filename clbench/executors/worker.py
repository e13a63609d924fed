"""A worker process, which imports torch once and executes one run after another: both ends of the communication.

A worker reads orders as JSON lines from its standard input and answers with events and outcomes as JSON lines. It gets
the plug-in's path and hash, never an object. If a worker dies, its run has failed, and a new one takes its place. A
worker whose parent has died ends too, whatever it is doing: finished work is on disk at all times.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench import errors
from clbench.base import events
from clbench.base.events import Listener
from clbench.plugins.discovery import Plugin
from clbench.results.record_model import to_json
from clbench.results.run_spec import RunSpec
from clbench.results.store import ResultsFolder
from clbench.runs.outcome import Outcome
from clbench.runs.planned_runs import Planned
from clbench.system import gc_freeze, own_process
from clbench.system.output import one_line
from clbench.system.own_python import module_command
from clbench.system.signals import GRACE, Interrupted, Interruption

if TYPE_CHECKING:
    from clbench.runs.context import RunContext


class Died(Exception):
    """The worker process ended in the middle of a run."""


class Worker:
    """One worker process, as seen by the process that started it; it ends with the thread that starts it."""

    def __init__(self, data: Path, share: bool, notify: Listener, executor: str = "local") -> None:
        self.notify = notify
        # A session of its own: Ctrl-C in the terminal reaches the parent, which tells the workers.
        self.process = subprocess.Popen(
            module_command("clbench.executors.worker", str(data), str(share), executor),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def execute(self, run: Planned, results: Path, wait: bool) -> Outcome | None:
        """Have the run executed; return what runs.run.execute returns, and raise what it raises, or Died."""
        answer = self._answer_to(order_of(run, results, wait))
        if "error" in answer:
            kind: type[errors.ClbenchError] = getattr(errors, answer["error"])
            raise kind(answer["message"], answer["hint"])
        outcome = answer["outcome"]
        return outcome and Outcome(**{**outcome, "path": Path(outcome["path"])})

    def _answer_to(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                if not line.endswith("\n"):  # it was killed in the middle
                    break
                try:
                    answer: dict[str, Any] = json.loads(line)
                except ValueError:
                    self.kill()
                    self.ended()
                    raise Died(f"an invalid answer: {one_line(line, 200)}") from None
                if "event" not in answer:
                    return answer
                self.notify(events.from_json(answer))
        except BrokenPipeError:
            pass
        code = self.ended()
        raise Died(f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}")

    def end(self, stop: bool) -> None:
        """Tell the process that there is nothing more to do, or that it should `stop` at the next batch."""
        assert self.process.stdin
        if stop:
            self.process.terminate()  # unlike SIGINT, it ends a process that does not handle signals yet silently
        self.process.stdin.close()

    def kill(self) -> None:
        """End the process and those that a plug-in may have started in it, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def ended(self, timeout: float | None = None) -> int:
        """Wait until the process has ended; return its exit code. Raises TimeoutExpired after `timeout` seconds."""
        assert self.process.stdout
        code = self.process.wait(timeout)
        self.process.stdout.close()
        return code


def order_of(run: Planned, results: Path, wait: bool) -> dict[str, Any]:
    """Return the order that makes a worker execute a run, as JSON; files are given by their paths."""
    plugin = {name: getattr(run.plugin, name) for name in ("kind", "name", "source", "sha256")}
    return {
        "spec": to_json(run.spec),
        "plugin": {**plugin, "path": str(run.plugin.path)},
        "network": run.network and str(run.network),
        "results": str(results),
        "wait": wait,
        "keep": run.keep,
        "track": run.track,
    }


def run_of(order: Mapping[str, Any]) -> Planned:
    """Return the run that an order describes."""
    plugin = Plugin(**{**order["plugin"], "path": Path(order["plugin"]["path"])})
    network = order["network"] and Path(order["network"])
    return Planned(RunSpec.model_validate(order["spec"]), plugin, network, order["keep"], order["track"])


def serve(data: Path, share: bool, executor: str) -> int:
    """The worker's end: execute the runs that are ordered until there are no more. Returns the exit code."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a plug-in or a library writes to standard output must not mix with the answers

    def answer(values: dict[str, Any]) -> None:
        try:
            answers.write(json.dumps(values) + "\n")
            answers.flush()
        except BrokenPipeError:  # the parent was killed; nobody reads the answer, and the run is soon told to stop
            os.dup2(os.open(os.devnull, os.O_WRONLY), answers.fileno())

    orders: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    try:
        with Interruption() as interruption:
            threading.Thread(target=_read_orders, args=(orders, interruption), daemon=True).start()
            from clbench.runs.context import RunContext
            from clbench.runs.run import execute  # imports torch

            gc_freeze.freeze_imports()

            def surroundings(results: Path) -> RunContext:
                return RunContext(
                    ResultsFolder(results),
                    data,
                    interruption,
                    lambda event: answer(events.to_json(event)),
                    share,
                    executor=executor,
                )

            while (line := orders.get()) is not None:
                answer(_carried_out(json.loads(line), execute, surroundings))
    except Interrupted as interrupted:
        return interrupted.exit_code
    return 0


def _carried_out(
    order: dict[str, Any],
    execute: Callable[[RunSpec, Plugin, RunContext, bool, Path | None], Outcome | None],
    surroundings: Callable[[Path], RunContext],
) -> dict[str, Any]:
    run = run_of(order)
    try:
        around = dataclasses.replace(surroundings(Path(order["results"])), keep=run.keep, track=run.track)
        outcome = execute(run.spec, run.plugin, around, order["wait"], run.network)
    except errors.ClbenchError as error:
        return {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    return {"outcome": outcome and {**dataclasses.asdict(outcome), "path": str(outcome.path)}}


def _read_orders(orders: queue.SimpleQueue[str | None], interruption: Interruption) -> None:
    for line in sys.stdin:
        orders.put(line)
    # The parent has ended, or has nothing more to do.
    orders.put(None)
    interruption.request(signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(128 + signal.SIGTERM)  # it never reached a next batch


if __name__ == "__main__":
    own_process.claim()
    own_process.refuse_exit()
    own_process.end_with_parent()
    gc_freeze.collect_rarely()
    faulthandler.enable()  # a crash in native code prints where it was
    sys.exit(serve(Path(sys.argv[1]), sys.argv[2] == "True", sys.argv[3]))
