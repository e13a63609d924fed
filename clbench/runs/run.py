"""Executes one run in this process, from its spec to its outcome: skipped, finished, or failed and kept apart."""

from __future__ import annotations

import contextlib
import sys
import traceback
from pathlib import Path
from typing import Literal

from filelock import Timeout

from clbench.base.events import Note, RunFailed, RunFinished, RunSkipped
from clbench.errors import ClbenchError, Divergence, MachineError, PluginError
from clbench.plugins.discovery import Plugin
from clbench.results.record_model import as_json
from clbench.results.run_result import FailedRun
from clbench.results.run_spec import RunSpec, folder_name, run_id
from clbench.runs import event_file
from clbench.runs.context import RunContext
from clbench.runs.experiences import ExperienceByExperience, StrategyFailed
from clbench.runs.kept_networks import check_kept
from clbench.runs.outcome import Outcome
from clbench.system import memory
from clbench.system.global_state import GlobalState
from clbench.system.signals import Interrupted


def execute(
    spec: RunSpec, plugin: Plugin, around: RunContext, wait: bool = True, network: Path | None = None
) -> Outcome | None:
    """Execute a run unless it is published already, resuming from its checkpoint if it has one.

    `network` is the file that defines its network, if that is a user's own.

    If another process is executing the same run, wait for it; or, without `wait`, return None. A run that fails is kept
    apart and reported in the outcome. Raises DataError, MachineError and UsageError, which concern more than this run,
    and Interrupted.
    """
    name, lock = folder_name(spec), around.results.lock(run_id(spec))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            return None
        around.notify(Note(f"{name} is being done by another process, waiting for it"))
        lock.acquire()
    try:
        outcome = _execute(spec, plugin, around, network)
    finally:
        lock.release()
    around.notify(_event(outcome))
    return outcome


def _execute(spec: RunSpec, plugin: Plugin, around: RunContext, network: Path | None) -> Outcome:
    name, identity = folder_name(spec), run_id(spec)
    state = GlobalState()
    try:
        if there := around.results.published(name, lambda text: around.notify(Note(text))):
            check_kept(there, name, around.keep)
            around.results.discard_work(identity)
            return Outcome(name, "skipped", there)
        try:
            # Standard output belongs to the command; what a plug-in prints goes to the same place as progress.
            with around.results.under_way(name, identity), contextlib.redirect_stdout(sys.stderr):
                try:
                    path = ExperienceByExperience(spec, plugin, around, network).to_the_end()
                finally:
                    state.restore()  # before anything else is written, at a path that may be relative
                return Outcome(name, "finished", path)
        except StrategyFailed as failure:
            return _keep_failure(failure.cause, failure.where, spec, around)
        except PluginError as failure:
            return _keep_failure(failure, "outside training", spec, around)
        except (ClbenchError, OSError, Interrupted, KeyboardInterrupt):
            raise
        except BaseException as error:  # from the strategy's code, wherever it is called; also GeneratorExit
            return _keep_failure(error, "outside training", spec, around)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise MachineError(
            f"{name}: {error.strerror or error}{where}. What was finished is intact.",
            "Free disk space or fix the folder, then rerun the same command to resume.",
        ) from error
    finally:
        state.restore()


def _event(outcome: Outcome) -> RunSkipped | RunFailed | RunFinished:
    if outcome.status == "skipped":
        return RunSkipped(outcome.run, str(outcome.path))
    if outcome.status == "finished":
        return RunFinished(outcome.run, str(outcome.path))
    return RunFailed(outcome.run, outcome.message, str(outcome.path))


def _keep_failure(error: BaseException, where: str, spec: RunSpec, around: RunContext) -> Outcome:
    name, identity = folder_name(spec), run_id(spec)
    status: Literal["failed", "diverged"] = "diverged" if isinstance(error, Divergence) else "failed"
    if isinstance(error, SystemExit):
        call = error.code if str(error.code).startswith("os._exit") else f"exit({error.code!r})"
        message = f"{where}: the strategy would end the process by {call}"
    elif isinstance(error, Divergence):
        message = error.message
    elif memory.is_short(error):
        message = f"{where}: memory is short ({type(error).__name__}: {error}). {memory.REMEDY}"
    else:
        message = f"{where}: {error.message if isinstance(error, ClbenchError) else f'{type(error).__name__}: {error}'}"
    result = FailedRun(status=status, run_id=identity, error=message)
    trace = "".join(traceback.format_exception(error))
    files: dict[str, bytes | Path] = {
        "spec.json": as_json(spec),
        "result.json": as_json(result),
        "traceback.txt": trace.encode(),
    }
    if around.track == "kept":
        files |= event_file.with_end(around.results.work(identity), RunFailed(name, message, name))
    return Outcome(name, status, around.results.keep_failure(name, identity, files), message)
