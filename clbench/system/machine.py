"""The cores and memory that this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def available_cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Return how many bytes of memory this process may use: the machine's, or the limit of its control group."""
    limits = [path.read_text().strip() for path in _memory_limits() if path.exists()]
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(int(limit) for limit in limits if limit.isdigit())])


def _memory_limits() -> Iterator[Path]:
    """Yield the files with the memory limits of this process's control groups, of either version."""
    groups = Path("/proc/self/cgroup")
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, controllers, name = line.split(":", 2)
        if controllers == "memory":
            yield Path("/sys/fs/cgroup/memory", name.lstrip("/"), "memory.limit_in_bytes")
        elif not controllers:
            yield Path("/sys/fs/cgroup", name.lstrip("/"), "memory.max")
