"""Imported at its start by every Python process of the tests' Ray nodes, which have this folder on PYTHONPATH.

What they start as a worker process of clbench is a stand-in for one that forking.py forks, so that torch is imported
once for all of them.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

STAND_IN = [sys.executable, "-I", "-S", str(Path(__file__).with_name("stand_in.py")), os.environ["CLBENCH_TESTS_FORK"]]


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    """subprocess.Popen, but a worker process of clbench is a stand-in."""

    def __init__(self, args: Any, *more: Any, **named: Any) -> None:
        worker = isinstance(args, list) and "clbench.executors.worker" in args
        super().__init__([*STAND_IN, *args] if worker else args, *more, **named)


subprocess.Popen = Popen  # type: ignore[misc]
