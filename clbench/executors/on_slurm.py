"""Executes runs as an array job on a Slurm cluster, whose machines share the results folder and the data folder.

A job that comes near its time limit is queued again, and its run resumes after its last experience. Jobs outlive the
command: if it is given again, it finds those that are queued or running and waits for them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from clbench import errors
from clbench.base import events
from clbench.base.events import Note, RunFailed, RunFinished
from clbench.data.datasets import data_folder
from clbench.errors import MachineError, UsageError
from clbench.executors.executor import Command, Executor
from clbench.executors.node import Terms
from clbench.executors.slurm_states import ENDED, job_states
from clbench.executors.slurm_task import signals_held, task_of
from clbench.results import environment
from clbench.results.run_spec import run_id
from clbench.results.store import WORK, ResultsFolder
from clbench.runs.outcome import Outcome
from clbench.runs.parallelism import runs_at_once
from clbench.runs.planned_runs import Planned, most_needed
from clbench.system.files import replace_file
from clbench.system.own_python import code_command

FOLDER = "slurm"
"""In the work folder of the results: the orders and logs of jobs, one folder for each submission."""

RECORD = "jobs.json"
LARGEST_ARRAY = 1000
"""The most jobs of an array, which is Slurm's own default; if there are more runs, each job executes several."""

RESTARTS = 20
"""How often a job may reach its time limit and be queued again."""

MINUTES = 60
_IN_A_JOB = "import sys; del sys.argv[1:4]; from submitit.core.submission import submitit_main; submitit_main()"
"""submitit's program, without the `-u -m submitit.core._submit` that submitit appends to call it."""

_LOOK_SECONDS = 0.5
_STATE_SECONDS = 20.0
"""How often Slurm is asked for the states of all jobs; their logs are read more often."""


class SlurmExecutor(Executor):
    """Executes runs as an array job. Options: `time` in minutes, `mem` in GB, `cluster=local` to try it without Slurm,
    and others that sbatch accepts, such as `partition=gpu` or `account=mine`."""

    def __init__(self, command: Command) -> None:
        super().__init__(command)
        self._options = _options_in(command.options)
        self._cluster = self._options.pop("cluster", "slurm")
        if self._cluster not in ("slurm", "local"):
            raise UsageError(f"--on slurm:cluster={self._cluster}: it must be slurm or local")
        if self._cluster == "slurm" and shutil.which("sbatch") is None:
            raise MachineError(
                "there is no Slurm here: the command sbatch is missing",
                "Run the command on a login node of the cluster. To try it here: --on slurm:cluster=local",
            )
        self._jobs: list[_Job] = []

    def do(self, planned: Sequence[Planned], results: ResultsFolder) -> list[Outcome]:
        """Execute runs that are not published yet; see Executor.do."""
        wanted = {run.name: run for run in planned}
        self._jobs = list(_left_over(results, wanted))
        adopted = {name for job in self._jobs for name in job.runs}
        if adopted:
            runs = f"{len(adopted)} runs are" if len(adopted) > 1 else "1 run is"
            self.command.notify(Note(f"Slurm: {runs} queued or under way from an earlier command"))
        if missing := [run for run in planned if run.name not in adopted]:
            self._jobs += self._submit(missing, results)
        outcomes: dict[str, Outcome] = {}
        states: dict[str, str] | None = None
        asked = time.monotonic()
        while len(outcomes) < len(wanted):
            self.command.interruption.check()
            time.sleep(_LOOK_SECONDS)
            if self._cluster == "slurm" and time.monotonic() - asked > _STATE_SECONDS:
                states, asked = job_states(), time.monotonic()
            for job in self._jobs:
                ended = job.ended(states)  # before its log is read: then nothing more comes
                if ended and not wanted.keys() & set(job.runs) <= outcomes.keys():
                    _look_again({job.log.parent, *((results.path / run).parent for run in job.runs)})
                for outcome in self._told(job, wanted):
                    self._note(outcome, outcomes, results)
                for outcome in self._lost(job, outcomes, wanted, results) if ended else ():
                    self._note(outcome, outcomes, results)
        for folder in {job.log.parent for job in self._jobs if not _has_others(job.log.parent, wanted)}:
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another command's jobs
            (results.path / WORK / FOLDER).rmdir()
        self._jobs = []
        return list(outcomes.values())

    def close(self, stop: bool) -> None:
        """With `stop`, cancel the jobs; what they have finished is kept."""
        for job in self._jobs if stop else ():
            with contextlib.suppress(Exception):  # it may have ended
                job.cancel()

    def _submit(self, runs: Sequence[Planned], results: ResultsFolder) -> list[_Job]:
        request = self.command.request
        folder = results.path.absolute() / WORK / FOLDER / uuid.uuid4().hex[:8]
        folder.mkdir(parents=True, mode=0o700)
        data = data_folder(request.data)
        terms = Terms(folder.name, "slurm", environment.versions(), request.allow_mixed, request.share, str(data))
        count = min(len(runs), LARGEST_ARRAY)
        threads, device = most_needed(runs)
        if self._cluster == "local":
            count = runs_at_once(request.jobs or "auto", len(runs), threads, device)
        parts = [runs[number::count] for number in range(count)]
        logs = [folder / f"{number}.jsonl" for number in range(count)]
        tasks = [task_of(part, results.path, terms, data, log) for part, log in zip(parts, logs, strict=True)]
        try:
            executor = self._executor(folder, threads, device)
            # Ctrl-C reaches local jobs as it does the command, which cancels them.
            with signals_held({signal.SIGINT}), executor.batch():  # one array job
                jobs = [executor.submit(task) for task in tasks]
        except (submitit.core.utils.FailedJobError, FileNotFoundError) as error:
            shutil.rmtree(folder)
            raise MachineError(f"Slurm did not accept the job: {' '.join(str(error).split())}") from error
        names = [[run.name for run in part] for part in parts]
        own = list(zip(jobs, logs, names, strict=True))
        record = [{"job": job.job_id, "log": log.name, "runs": told} for job, log, told in own]
        if self._cluster == "slurm":
            replace_file(folder / RECORD, json.dumps(record).encode())
        first = jobs[0].job_id.partition("_")[0]
        many = f"{count} job{'s' if count > 1 else ''}"
        self.command.notify(Note(f"Slurm: {many} submitted" + (f", array {first}" if self._cluster == "slurm" else "")))
        return [_Job(*each) for each in own]

    def _executor(self, folder: Path, threads: int, device: str) -> submitit.AutoExecutor:
        program = {f"{self._cluster}_python": _program(), "slurm_max_num_timeout": RESTARTS}
        executor = submitit.AutoExecutor(folder / "submitit", cluster=self._cluster, **program)
        options = dict(self._options)
        parameters: dict[str, Any] = {"cpus_per_task": threads, "name": "clbench"}
        parameters["timeout_min"] = _number("time", options.pop("time", str(MINUTES)))
        if "mem" in options:
            parameters["mem_gb"] = _number("mem", options.pop("mem"))
        if device == "cuda":
            parameters["gpus_per_node"] = 1
        if self._cluster == "slurm":
            if isinstance(self.command.request.jobs, int):
                parameters["slurm_array_parallelism"] = self.command.request.jobs
            known = submitit.SlurmExecutor._valid_parameters()
            parameters |= {f"slurm_{key}": _typed(key, value) for key, value in options.items() if key in known}
            more = {key: True if value == "true" else value for key, value in options.items() if key not in known}
            parameters |= {"slurm_additional_parameters": more} if more else {}
        elif options:
            raise UsageError(f"--on slurm: cluster=local does not take {', '.join(options)}")
        executor.update_parameters(**parameters)
        return executor

    def _told(self, job: _Job, wanted: dict[str, Planned]) -> Iterator[Outcome]:
        """Pass on what a job has logged since the last call; yield how its runs ended."""
        for values in job.read():
            if "error" in values:
                raise getattr(errors, values["error"])(values["message"], values["hint"])
            if "event" in values:
                self.command.notify(events.from_json(values))
            elif values["run"] in wanted:
                yield Outcome(values["run"], values["status"], Path(values["path"]), values["why"])

    def _lost(
        self, job: _Job, known: dict[str, Outcome], wanted: dict[str, Planned], results: ResultsFolder
    ) -> Iterator[Outcome]:
        """Yield how the runs ended whose end is not in the log of a job that has ended."""
        for name in job.runs:
            if name in wanted and name not in known:
                if there := results.settled(name, run_id(wanted[name].spec)):
                    yield Outcome(name, "finished", there)
                else:
                    how = f"Slurm job {job.job.job_id} ended without a result ({job.state.lower()})"
                    yield Outcome(name, "failed", results.path, f"{how}: {job.last_words()}")

    def _note(self, outcome: Outcome, outcomes: dict[str, Outcome], results: ResultsFolder) -> None:
        if outcome.run in outcomes:
            return
        outcomes[outcome.run] = outcome
        if outcome.failed:
            path = "" if outcome.path.absolute() == results.path.absolute() else str(outcome.path)
            self.command.notify(RunFailed(outcome.run, outcome.message, path))
        else:
            self.command.notify(RunFinished(outcome.run, str(outcome.path)))


@dataclass
class _Job:
    """A job of the array, and its log."""

    job: Any
    log: Path
    runs: Sequence[str]
    read_so_far: int = 0
    state: str = "no longer known"

    def cancel(self) -> None:
        """Have the job end. Raises if it has ended."""
        if isinstance(self.job, submitit.SlurmJob):
            self.job.cancel()
        else:
            os.kill(int(self.job.job_id), signal.SIGTERM)  # submitit's SIGINT would be answered with a traceback

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield what the job has logged since the last call, line by line."""
        if not self.log.exists():
            return
        with self.log.open("rb") as file:
            file.seek(self.read_so_far)
            for line in file:
                if not line.endswith(b"\n"):  # it is still being written
                    break
                self.read_so_far += len(line)
                with contextlib.suppress(ValueError):  # cut off when the job was killed, and continued after it
                    yield json.loads(line)

    def ended(self, states: Mapping[str, str] | None) -> bool:
        """Return whether the job has ended, given the `states` of all jobs from Slurm; None if it did not answer."""
        if not isinstance(self.job, submitit.SlurmJob):
            self.state = self.job.state
            return bool(self.job.done())
        if states is not None:
            self.state = states.get(self.job.job_id, self.state)
        gone = states is not None and self.job.job_id not in states
        return gone or self.state in ENDED or self.job.paths.result_pickle.exists()

    def last_words(self) -> str:
        """Return the last line that the job wrote to its error stream."""
        with contextlib.suppress(OSError):
            lines = self.job.paths.stderr.read_text(errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        return "no output"


def _has_others(folder: Path, wanted: Collection[str]) -> bool:
    """Return whether jobs of a submission execute runs of another command, which may still be queued or under way."""
    with contextlib.suppress(FileNotFoundError):  # a local submission has no record, and no other command waits for it
        entries = json.loads((folder / RECORD).read_text())
        return not {run for entry in entries for run in entry["runs"]} <= set(wanted)
    return False


def _look_again(folders: Collection[Path]) -> None:
    """List folders, after which a network file system shows the files that other machines have just made in them."""
    for folder in folders:
        with contextlib.suppress(OSError):
            list(folder.iterdir())


def _left_over(results: ResultsFolder, wanted: dict[str, Planned]) -> Iterator[_Job]:
    """Yield the jobs of earlier commands that are queued or running and do runs that are wanted; forget the others."""
    records = sorted((results.path / WORK / FOLDER).glob(f"*/{RECORD}"))
    states = job_states() if records else {}
    if states is None:
        raise MachineError(
            "Slurm does not report which jobs remain from earlier commands", "Check what `squeue` prints."
        )
    alive = {job for job, state in states.items() if state not in ENDED}
    for record in records:
        entries = json.loads(record.read_text())
        for entry in entries:
            names = [name for name in entry["runs"] if name in wanted]
            if names and entry["job"] in alive and states[entry["job"]] != "COMPLETING":  # as a cancelled one is
                job: submitit.SlurmJob[None] = submitit.SlurmJob(record.parent / "submitit", entry["job"])
                yield _Job(job, record.parent / entry["log"], names)
        if alive.isdisjoint(entry["job"] for entry in entries):
            shutil.rmtree(record.parent, ignore_errors=True)


def _program() -> str:
    """Return the command that submitit starts as Python in a job."""
    python, *words = code_command(_IN_A_JOB)
    return shlex.join([python, "-u", *words])


def _options_in(text: str) -> dict[str, str]:
    options = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key or not value:
            raise UsageError(f"--on slurm: options have the form KEY=VALUE, as in slurm:time=120 (got {part})")
        if key in options:
            raise UsageError(f"--on slurm: {key} is given twice")
        options[key.replace("-", "_")] = value
    return options


def _typed(key: str, value: str) -> Any:
    """Return an option as submitit takes it: numbers, yes or no, and lists of lines of the job's script."""
    if key in ("setup", "teardown", "srun_args"):
        return [value]
    return int(value) if value.isdecimal() else {"true": True, "false": False}.get(value, value)


def _number(key: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise UsageError(f"--on slurm: {key} must be an integer above 0 (got {value})")
    return int(value)
