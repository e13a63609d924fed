"""Recognizes that memory is short, and words the message about it."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys

from clbench.system.own_python import code_command

REMEDY = "Free memory, raise the limit (ulimit -v), or execute fewer runs at once (--jobs)."
_AMPLE = 8 * 2**30
"""Limit of address space in bytes, above which torch is assumed to fit; it maps up to half of that."""

_TRIAL = "import torch, clbench.base.strategy, clbench.cli.run; torch.ones(1); bytearray(100 * 2**20)"
"""Loads what a command has loaded when it imports a strategy, and takes room to work in."""

# Messages of loaders and allocators, which have no specific error for it.
_SIGNS = ("failed to map segment", "cannot allocate memory", "can't allocate memory", "bad_alloc", "out of memory")
_OF_ANOTHER_KIND = "static tls block"


def is_short(error: BaseException | None) -> bool:
    """Return whether an error, or one that led to it, means that memory is short."""
    while error is not None:
        text = str(error).lower()
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        if any(sign in text for sign in _SIGNS) and _OF_ANOTHER_KIND not in text:
            return True
        error = error.__cause__ or error.__context__
    return False


def limit_in_words() -> str:
    """Return the limit of this process, as the end of a sentence; nothing if it has none."""
    limit = _limit()
    return "" if limit is None else f" (this process is limited to {limit / 1e9:.1f} GB by ulimit -v)"


def torch_fits() -> bool:
    """Return whether torch can be imported within this process's memory limit.

    Python cannot handle what happens otherwise: at best an import error in the middle of torch, at worst an abort.
    It is tried in another process, and only if there is a limit that may be too low.
    """
    limit = _limit()
    if "torch" in sys.modules or limit is None or limit >= _AMPLE:
        return True
    return subprocess.run(code_command(_TRIAL), capture_output=True, check=False).returncode == 0


def _limit() -> int | None:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit
