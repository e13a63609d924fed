"""Turns exceptions from a strategy's code into messages for the user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from clbench.errors import ClbenchError, MachineError, PluginError
from clbench.extension.brought_along import CannotExtend
from clbench.system import memory
from clbench.system.output import one_line
from clbench.system.signals import Interrupted


@contextlib.contextmanager
def explaining(strategy: str) -> Iterator[None]:
    """Turn what a strategy's code raises into a PluginError, so that other strategies can continue."""
    try:
        yield
    except (ClbenchError, CannotExtend, Interrupted, KeyboardInterrupt):
        raise
    except BaseException as error:  # also SystemExit: a strategy must not end the command
        if memory.is_short(error):
            raise MachineError(f"memory is short: not enough for {strategy}{memory.limit_in_words()}") from None
        raise PluginError(f"{strategy} failed: {type(error).__name__}: {one_line(str(error), 300)}") from error
