"""How many runs at once, and how many threads each.

Threads are part of what a run is, since sums in another order round differently; how many runs go on at once is not.
"""

from __future__ import annotations

from typing import Literal

from clbench.errors import UsageError
from clbench.system.machine import available_cores

Jobs = int | Literal["auto"]
"""Runs at once; `auto` is a run on each core, with one thread each unless threads are asked for."""


def jobs_from(text: str) -> Jobs:
    """Return what `--jobs` asks for. Raises UsageError."""
    if text == "auto":
        return "auto"
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise UsageError(f"--jobs must be 'auto' or an integer from 1 to 10000 (got {text})")
    return int(text)


def threads_of_a_run(threads: int | None, jobs: Jobs) -> int:
    """Return how many threads each run gets; `threads` are those asked for. Raises UsageError."""
    if threads is None:
        return 1 if jobs == "auto" else available_cores()
    if not 1 <= threads <= 1024:
        raise UsageError(f"--threads must be an integer from 1 to 1024 (got {threads})")
    return threads


def runs_at_once(jobs: Jobs, runs: int, threads: int, device: str) -> int:
    """Return how many processes do so many runs. A GPU is not shared unless a number is asked for."""
    if jobs != "auto":
        return min(jobs, runs)
    return 1 if device == "cuda" else min(max(1, available_cores() // threads), runs)


def advice(jobs: Jobs, runs: int, threads: int, device: str) -> str | None:
    """Return what would be faster for a grid of so many runs, or None."""
    cores, at_once = available_cores(), runs_at_once(jobs, runs, threads, device)
    if device != "cpu" or runs == 1:
        return None
    if at_once * threads > cores:
        return (
            f"{at_once} runs at once with {threads} threads each on {cores} cores slow each other down; use --threads "
            f"{max(1, cores // at_once)} (threads are part of what identifies a run, so these will be new runs)"
        )
    if jobs == 1 and cores > 1:
        return (
            f"One run at a time; --jobs auto does {min(runs, cores)} at once with one thread each, which is faster"
            + ("" if threads == 1 else " (threads are part of what identifies a run, so these will be new runs)")
        )
    return None
