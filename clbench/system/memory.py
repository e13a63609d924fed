"""Memory that is short: what shows it, and what is said of it."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys

from clbench.system.own_python import code_command

REMEDY = "Free memory, raise the limit (ulimit -v), or do fewer runs at once (--jobs)."
_AMPLE = 8 * 2**30
"""A limit of address space in bytes, above which torch is taken to fit; it maps up to half of it."""

_TRIAL = "import torch, clbench.base.strategy, clbench.cli.run; torch.ones(1); bytearray(100 * 2**20)"
"""What a command has loaded when it imports a strategy, and room to work in."""

# What loaders and allocators say, which have no error of their own for it.
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
    """Return which limit this process has, for the end of a sentence; nothing if it has none."""
    limit = _limit()
    return "" if limit is None else f" (this process is limited to {limit / 1e9:.1f} GB by ulimit -v)"


def torch_fits() -> bool:
    """Return whether torch can be imported under the limit of this process's memory.

    Python cannot handle what happens otherwise: an import error in the middle of torch at best, at worst an abort.
    Tried in another process, and only if there is a limit that may be too low.
    """
    limit = _limit()
    if "torch" in sys.modules or limit is None or limit >= _AMPLE:
        return True
    return subprocess.run(code_command(_TRIAL), capture_output=True, check=False).returncode == 0


def _limit() -> int | None:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit
