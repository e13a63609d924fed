"""Tracks whether this process runs a command of clbench, or is somebody else's and only uses clbench."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import NoReturn

_PR_SET_PDEATHSIG = 1  # see prctl(2)
_own = False


def claim() -> None:
    """Mark this process as a command's: only clbench has imported or made anything in it."""
    global _own
    _own = True


def claimed() -> bool:
    """Return whether this process is a command's."""
    return _own


def refuse_exit() -> None:
    """Make os._exit raise SystemExit in this thread, where a plug-in would otherwise end the command without a word.

    In other threads, and in processes that are forked from this one, it works as usual.
    """
    end, process, thread = os._exit, os.getpid(), threading.get_ident()

    def refuse(status: int) -> NoReturn:
        if (os.getpid(), threading.get_ident()) != (process, thread):
            end(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = refuse


def end_with_parent() -> None:
    """Have the system kill this process when the thread that started it ends, as far as it can (Linux)."""
    if sys.platform == "linux":
        import ctypes  # takes a while, and only workers need it

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
