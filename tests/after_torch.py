"""Programs that start where torch is imported and nothing else is, each in a process of its own.

Importing torch takes longer than such a program; their processes are forked from one that has.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FORK_FOR_EACH = """
import json, os, sys, traceback
import torch
for line in sys.stdin:
    program, said = json.loads(line)
    child = os.fork()
    if child == 0:
        for stream in (1, 2):
            os.dup2(os.open(said[stream - 1], os.O_WRONLY | os.O_CREAT), stream)
        code = 0
        try:
            exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class AfterTorch:
    """Runs programs, one at a time, and keeps what they say in a folder."""

    def __init__(self, place: Path) -> None:
        self._place, self._programs = place, 0
        command = [sys.executable, "-W", "ignore", "-c", FORK_FOR_EACH]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, program: str) -> str:
        """Run a program, which must not fail; return its standard output without the space around it."""
        assert self._process.stdin and self._process.stdout
        self._programs += 1
        out, err = (self._place / f"{stream}-{self._programs}" for stream in ("out", "err"))
        print(json.dumps([program, [str(out), str(err)]]), file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "0\n", err.read_text()
        return out.read_text().strip()

    def close(self) -> None:
        """End the process that forks."""
        self._process.communicate(timeout=60)
