"""Whether this process is a command of clbench's own, or somebody else's that uses clbench."""

from __future__ import annotations

_own = False


def claim() -> None:
    """Say that this process is a command's: nothing but clbench has imported or made anything in it."""
    global _own
    _own = True


def claimed() -> bool:
    """Return whether this process is a command's."""
    return _own
