"""How many runs execute at once, and with how many threads each.

Threads are part of a run's identity, since sums in another order round differently; the number of runs at once is not.
"""

from __future__ import annotations

from typing import Literal

from clbench.errors import UsageError
from clbench.system.machine import available_cores

Jobs = int | Literal["auto"]
"""Runs at once; `auto` is as many as the cores have room for."""

DEFAULT_THREADS = 1
"""Threads per run. The number does not depend on the machine or on `--jobs`, so that one command is one run
everywhere. It is 1, since torch's threads wait for each other in a busy loop: on a machine that others use too, two of
them can be several times slower than one. Measured in docs/performance.md."""


def jobs_from(text: str) -> Jobs:
    """Return what `--jobs` asks for. Raises UsageError."""
    if text == "auto":
        return "auto"
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise UsageError(f"--jobs must be 'auto' or an integer from 1 to 10000 (got {text})")
    return int(text)


def check_threads(threads: int) -> None:
    """Raise UsageError for a number of threads that no run can have."""
    if not 1 <= threads <= 1024:
        raise UsageError(f"--threads must be an integer from 1 to 1024 (got {threads})")


def runs_at_once(jobs: Jobs, runs: int, threads: int, device: str) -> int:
    """Return how many processes execute so many runs: never more than the cores have room for.

    A GPU is not shared unless a number is asked for.
    """
    if device == "cuda":
        return 1 if jobs == "auto" else min(jobs, runs)
    room = max(1, available_cores() // threads)
    return min(room if jobs == "auto" else jobs, room, runs)


def advice(jobs: Jobs, runs: int, threads: int, device: str) -> str | None:
    """Return a note if a grid executes fewer runs at once than requested or could execute more; otherwise None."""
    cores, at_once = available_cores(), runs_at_once(jobs, runs, threads, device)
    if device != "cpu" or runs == 1:
        return None
    if jobs != "auto" and at_once < min(jobs, runs):
        each = "a thread" if threads == 1 else f"{threads} threads"
        return f"--jobs {jobs}: {at_once} at once, since there are {cores} cores and each run computes with {each}"
    if jobs == 1 and cores > threads:
        return f"One run at a time; --jobs auto runs {runs_at_once('auto', runs, threads, device)} at once"
    return None
