"""The end of a process, at once.

Before Python ends it looks for garbage among everything that torch and Avalanche have made, for more than a second
after the last line of output; the system takes the memory back in a moment.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable


def end_at_once_after(main: Callable[[], None]) -> None:
    """Call `main`; the process then ends as soon as threads and exit handlers have done their work.

    Its exit code is that of `main`: of its SystemExit, 1 after another exception, else 0.
    """
    code = 1

    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # there is none, it is full, or closed
                stream.flush()
        os._exit(code)

    atexit.register(end)  # handlers are called last to first, so this one comes after all others
    try:
        main()
        code = 0
    except SystemExit as exit_:
        # Python itself prints a code that is text.
        code = exit_.code & 0xFF if isinstance(exit_.code, int) else 0 if exit_.code is None else 1
        raise
