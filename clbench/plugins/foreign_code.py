"""Guards calls of a plug-in's code outside a run: whatever it raises, even SystemExit, is an error of the plug-in."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from clbench.errors import ClbenchError, PluginError
from clbench.plugins.module_loading import memory_is_short
from clbench.system import memory
from clbench.system.signals import Interrupted


@contextlib.contextmanager
def calling(plugin: str, doing: str) -> Iterator[None]:
    """A context for calling a plug-in's code, which may neither end the command nor print among its results.

    Raises PluginError for whatever the code raises, `network mine cannot be built: ValueError: no`, and MachineError if
    memory is short.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (ClbenchError, Interrupted, KeyboardInterrupt):
        raise
    except BaseException as error:
        if memory.is_short(error):
            raise memory_is_short(plugin) from error
        raise PluginError(f"{plugin} {doing}: {type(error).__name__}: {error}") from error
