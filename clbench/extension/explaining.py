"""Turns exceptions from the code of strategies and networks into messages for the user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from clbench.errors import ClbenchError, MachineError, PluginError
from clbench.extension.brought_along import CannotExtend
from clbench.system import memory
from clbench.system.output import one_line
from clbench.system.signals import Interrupted


@contextlib.contextmanager
def explaining(what: str) -> Iterator[None]:
    """Turn what the code of `what`, a strategy or a network, raises into a PluginError.

    Raises MachineError if memory is short.
    """
    try:
        yield
    except (ClbenchError, CannotExtend, Interrupted, KeyboardInterrupt):
        raise
    except BaseException as error:  # also SystemExit: such code must not end the command
        if memory.is_short(error):
            raise MachineError(f"memory is short: not enough for {what}{memory.limit_in_words()}") from None
        raise PluginError(f"{what} failed: {type(error).__name__}: {one_line(str(error), 300)}") from error
