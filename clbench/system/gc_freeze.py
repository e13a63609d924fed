"""What Python looks through when it searches for garbage, the last time just before it ends.

Torch makes several hundred thousand objects when it is imported, all of which stay. Looking through them again takes
up to a second, after the last line of output.
"""

from __future__ import annotations

import gc

from clbench.system import own_process


def spare_imports() -> None:
    """Leave what there is by now out of every search, if this process is a command's."""
    if own_process.claimed():
        gc.freeze()
