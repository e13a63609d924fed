"""The tasks on the machines of a Ray cluster: runs, the check of a machine, and the mailbox for what runs report."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from clbench.base.events import Event, Note, TrainingProgress
from clbench.errors import ClbenchError
from clbench.executors.node import Checkpoint, Done, Node, Terms, check_node, clear_node, differing_versions, name
from clbench.executors.parcel import Parcel
from clbench.results.run_spec import RunSpec, run_id

_PROGRESS_SECONDS = 2.0
"""Minimum time between two messages on the progress of a run: one process reads what a hundred machines send."""


@dataclass(frozen=True)
class Failure:
    """A ClbenchError that concerns more than one run."""

    kind: str
    """Name of its class."""

    message: str
    hint: str | None


class Mailbox:
    """Collects what runs send to the command: events, and checkpoints, the last of which serves a run's next start.

    An actor with one thread, so that the messages of a run stay in order.
    """

    def __init__(self) -> None:
        self._messages: list[tuple[str, Event | Checkpoint]] = []
        self._checkpoints: dict[str, dict[str, bytes]] = {}
        self._attempts: dict[str, str] = {}

    def begin(self, run: str, attempt: str, node: str) -> Checkpoint:
        """Return the last checkpoint of a run, which is started for the first time or again."""
        if run in self._attempts:
            self._messages.append((run, Note(f"its node was lost, it continues on {node}")))
        self._attempts[run] = attempt
        return self._checkpoints.get(run, {})

    def post(self, run: str, attempt: str, message: Event | Checkpoint) -> None:
        """Keep a message for the command, unless the run was started again: then the sender is considered dead."""
        if self._attempts.get(run) != attempt:
            return
        if isinstance(message, Mapping):
            self._checkpoints.setdefault(run, {}).update(message)
        self._messages.append((run, message))

    def take(self) -> list[tuple[str, Event | Checkpoint]]:
        """Return the messages that have arrived since the last call."""
        taken, self._messages = self._messages, []
        return taken

    def forget(self, run: str) -> None:
        """Forget a run that has ended."""
        self._checkpoints.pop(run, None)
        self._attempts.pop(run, None)


_here: dict[str, Node] = {}
"""This process's node for the command that it works for: torch is imported once for many runs."""


def do(terms: Terms, parcel: Parcel, sent: Mapping[str, Any], resume: Checkpoint, mailbox: Any) -> Done | Failure:
    """Execute a run on this machine; return its outcome, or a failure that concerns more than this run.

    `sent` has the files that it may need, by hash, in the cluster's memory; `resume` is the checkpoint that the command
    had when it began.
    """
    run, attempt = run_id(RunSpec.model_validate(parcel.spec)), uuid.uuid4().hex
    resume = {**resume, **ray.get(mailbox.begin.remote(run, attempt, name()))}
    last_post, last_progress = None, -_PROGRESS_SECONDS

    def post(message: Event | Checkpoint) -> None:
        nonlocal last_post, last_progress
        if isinstance(message, TrainingProgress):
            if time.monotonic() - last_progress < _PROGRESS_SECONDS:
                return
            last_progress = time.monotonic()
        last_post = mailbox.post.remote(run, attempt, message)

    try:
        if terms.command not in _here:
            while _here:
                _here.popitem()[1].close()
            _here[terms.command] = Node(terms)
        return _here[terms.command].do(parcel, lambda digest: ray.get(sent[digest]), resume, post, post)
    except ClbenchError as error:
        return Failure(type(error).__name__, error.message, error.hint)
    except OSError as error:
        message = f"{name()}: {error}. What was finished is intact."
        return Failure("MachineError", message, "Rerun the same command to resume.")
    finally:
        if last_post is not None:  # the messages of one sender are taken in order, so all have arrived then
            ray.get(last_post)


def checked(terms: Terms, datasets: Mapping[str, str]) -> Failure | str:
    """Return why this machine cannot execute the runs; or how it differs from the command's, if that is accepted."""
    try:
        check_node(terms, datasets)
    except ClbenchError as error:
        return Failure(type(error).__name__, error.message, error.hint)
    differing = differing_versions(terms)
    return differing and f"{name()}: {differing}"


def clear(command: str) -> None:
    """Remove what the command has left on this machine."""
    with contextlib.suppress(OSError):
        clear_node(command)
