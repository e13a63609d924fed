"""Process-wide settings that a plug-in must not change for later runs: checked after each experience and restored."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from clbench.errors import MachineError


class GlobalState:
    """The process's global settings at the time of creation."""

    def __init__(self) -> None:
        self._expected = _read()

    def restore(self) -> list[str]:
        """Restore what has changed and return its names."""
        now, expected = _read(), self._expected
        changed = [name for name in now if now[name] != expected[name]]
        _go_back(expected["working folder"], now["working folder"])
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, expected["handler of SIGINT"])
            signal.signal(signal.SIGTERM, expected["handler of SIGTERM"])
        if torch := sys.modules.get("torch"):
            torch.set_default_dtype(expected["default dtype"] or torch.float32)
            torch.set_grad_enabled(expected["gradient mode"])
            if expected["number of threads"]:
                torch.set_num_threads(expected["number of threads"])
        return changed


def _go_back(folder: str | None, now: str | None) -> None:
    """Change back to `folder`, or do nothing if there was none. Raises MachineError if it was removed."""
    if folder is None:
        return
    try:
        os.chdir(folder)
    except FileNotFoundError as error:
        if now is not None:  # a relative path would lead elsewhere; in a removed folder it leads nowhere
            raise MachineError(
                f"the working folder {folder} was removed", "Change to another one: cd FOLDER"
            ) from error


def _read() -> dict[str, Any]:
    state: dict[str, Any] = {
        "working folder": _working_folder(),
        "handler of SIGINT": signal.getsignal(signal.SIGINT),
        "handler of SIGTERM": signal.getsignal(signal.SIGTERM),
    }
    # torch is not imported here: until it is loaded, its settings are the defaults.
    torch = sys.modules.get("torch")
    return state | {
        "default dtype": torch.get_default_dtype() if torch else None,
        "gradient mode": torch.is_grad_enabled() if torch else True,
        "number of threads": torch.get_num_threads() if torch else None,
    }


def _working_folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 (the exact string must be restored)
    except FileNotFoundError:  # it was removed
        return None
