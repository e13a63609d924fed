"""Commands that run Python in another process, which imports from where this one does.

By default, Python puts the working folder first: a file there with the name of a module would replace that module in
the processes that a command starts, but not in the command itself.
"""

from __future__ import annotations

import json
import sys

_IMPORT_AS_HERE = (  # the working folder is left out before json is imported
    "import sys; sys.path[:] = filter(None, sys.path); import json; sys.path[:] = json.loads(sys.argv.pop(1)); "
)
RUN_MODULE = f"{_IMPORT_AS_HERE}import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"


def code_command(code: str) -> list[str]:
    """Return the command that runs some code."""
    return _command(_IMPORT_AS_HERE + code)


def module_command(module: str, *words: str) -> list[str]:
    """Return the command that runs a module as a program with these arguments, as `python -m` does."""
    return [*_command(RUN_MODULE), module, *words]


def _command(code: str) -> list[str]:
    return [sys.executable, "-c", code, json.dumps([entry for entry in sys.path if isinstance(entry, str)])]
