"""Asks Slurm's controller for the states of this user's jobs.

The accounting database is not asked, since not every cluster has one.
"""

from __future__ import annotations

import os
import subprocess

_ANSWER_SECONDS = 30.0

ENDED = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT")
)
"""States that a job does not leave; see squeue(1)."""


def job_states() -> dict[str, str] | None:
    """Return the states of the jobs that the controller knows, by id; None if it does not answer.

    It forgets a job some minutes after its end.
    """
    ask = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i %T"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=_ANSWER_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    states = (line.split() for line in answer.stdout.splitlines())
    return {words[0]: words[1] for words in states if len(words) == 2}
