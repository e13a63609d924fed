"""Runs a process, if requested under a memory limit, and measures how long it takes and how much memory it uses.

Memory is read from /proc and limited by a control group; both exist only on Linux.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.02
CONTROL_GROUPS = Path("/sys/fs/cgroup")

# A shell puts itself into the group and becomes the command, so that nothing is allocated outside.
ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


@dataclass(frozen=True)
class Watched:
    """The time and memory that a process took."""

    seconds: float
    anonymous_bytes: int
    """Most memory of its own at once, which has no file behind it."""

    resident_bytes: int
    """Most memory at once in all, mapped files among it, whose pages the system may drop."""


class Unlimited(Exception):
    """The memory of a process cannot be limited here; the message says why."""


def watch(command: Sequence[str], limit: int | None = None) -> Watched:
    """Run a command to its end with at most `limit` bytes of memory, including the pages of files that it reads.

    Raises Unlimited, and RuntimeError if the command fails.
    """
    with tempfile.TemporaryFile() as errors, control_group(limit) as group:
        inside = command if group is None else ["sh", "-c", ENTER, str(group), *command]
        anonymous = resident = 0
        began = time.perf_counter()
        with subprocess.Popen(inside, stdout=subprocess.DEVNULL, stderr=errors) as process:
            while process.poll() is None:
                memory = memory_of(process.pid)
                anonymous = max(anonymous, memory.get("RssAnon", 0))
                resident = max(resident, memory.get("VmHWM", 0))
                time.sleep(SECONDS_BETWEEN_LOOKS)
        seconds = time.perf_counter() - began
        if process.returncode:
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip()[-2000:]
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {last}")
    return Watched(seconds, anonymous, resident)


def memory_of(process: int) -> dict[str, int]:
    """Return what the system reports on a process's memory, in bytes; nothing if the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    pairs = [line.split(":") for line in lines if line.endswith(" kB")]
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


@contextmanager
def control_group(limit: int | None) -> Iterator[Path | None]:
    """Provide, within the context, a control group with that much memory for a process to enter. Raises Unlimited."""
    if limit is None:
        yield None
        return
    try:
        parent, name = memory_controller()
        group = parent / f"clbench-{os.getpid()}"
        group.mkdir()
    except OSError as error:
        raise Unlimited(f"memory cannot be limited here: {error}") from error
    try:
        (group / name).write_text(str(limit))
        yield group
    finally:
        group.rmdir()


def memory_controller() -> tuple[Path, str]:
    """Return the control group below which memory can be limited, and the file that takes the limit.

    Raises OSError if there is none.
    """
    first = CONTROL_GROUPS / "memory"
    if (first / "memory.limit_in_bytes").exists():
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next((line.split(":")[2] for line in lines if line.split(":")[1] == "memory"), "/")
        nested = first / own.lstrip("/")
        return nested if nested.is_dir() else first, "memory.limit_in_bytes"
    if "memory" not in (CONTROL_GROUPS / "cgroup.subtree_control").read_text().split():
        raise OSError("the control groups of this machine do not govern memory")
    return CONTROL_GROUPS, "memory.max"
