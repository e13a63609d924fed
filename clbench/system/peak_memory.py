"""The peak memory of this process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch


def reset_peak_memory() -> None:
    """Reset the peak if the system supports it (Linux); otherwise the peak is that of the process's lifetime."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> dict[str, int]:
    """Return the highest resident memory in bytes since the reset, and that of the GPU if there is one."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        peak = int(line.split()[1]) * 1024
    result = {"host_bytes": peak}
    if torch.cuda.is_available():
        result["cuda_bytes"] = torch.cuda.max_memory_allocated()
    return result
