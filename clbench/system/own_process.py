"""Whether this process is a command of clbench's own, or somebody else's that uses clbench."""

from __future__ import annotations

import signal
import sys

_PR_SET_PDEATHSIG = 1  # see prctl(2)
_own = False


def claim() -> None:
    """Say that this process is a command's: nothing but clbench has imported or made anything in it."""
    global _own
    _own = True


def claimed() -> bool:
    """Return whether this process is a command's."""
    return _own


def end_with_parent() -> None:
    """Have the system kill this process when the thread that started it ends, as far as it can (Linux)."""
    if sys.platform == "linux":
        import ctypes  # takes a while, and only workers need it

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
