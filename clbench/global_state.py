"""What a plug-in may not change for the runs after it: noticed at every boundary, put back, and reported."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import torch


class GlobalState:
    """The process's global settings as they were when this was made."""

    def __init__(self) -> None:
        self._expected = self._read()

    def _read(self) -> dict[str, Any]:
        return {
            "number of threads": torch.get_num_threads(),
            "default dtype": torch.get_default_dtype(),
            "gradient mode": torch.is_grad_enabled(),
            "working folder": os.getcwd(),  # noqa: PTH109 (a folder that is gone raises here, and Path.cwd() hides it)
            "handler of SIGINT": signal.getsignal(signal.SIGINT),
            "handler of SIGTERM": signal.getsignal(signal.SIGTERM),
        }

    def restore(self) -> list[str]:
        """Put back what has changed and return its names."""
        now = self._read()
        changed = [name for name, value in self._expected.items() if now[name] != value]
        expected = self._expected
        torch.set_num_threads(expected["number of threads"])
        torch.set_default_dtype(expected["default dtype"])
        torch.set_grad_enabled(expected["gradient mode"])
        os.chdir(expected["working folder"])
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, expected["handler of SIGINT"])
            signal.signal(signal.SIGTERM, expected["handler of SIGTERM"])
        return changed
