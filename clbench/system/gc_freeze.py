"""What Python looks through when it searches for garbage, the last time just before it ends.

Torch and Avalanche make more than half a million objects when they are imported, all of which stay. Looking through
them again takes more than a second, after the last line of output.
"""

from __future__ import annotations

import gc

_own_process = False


def this_process_is_ours() -> None:
    """Allow `spare_imports`: only a command knows that nothing but itself has made anything by then."""
    global _own_process
    _own_process = True


def spare_imports() -> None:
    """Leave what there is by now out of every search, if this process is a command's."""
    if _own_process:
        gc.freeze()
