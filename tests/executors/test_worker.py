"""How the process that started a worker handles its answers."""

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from clbench.base.events import Event, Note
from clbench.executors import worker

KILLED = """
import os, signal
print('{"event": "Note", "text": "so far"}')
print('{"event": "Note", "te', end="", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def answered(code: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Event], str]:
    """What a worker that runs `code` has reported on an order, and how it died."""
    monkeypatch.setattr(worker, "module_command", lambda *_: [sys.executable, "-c", f"input()\n{code}"])
    monkeypatch.setattr(worker, "order_of", lambda *_: {})
    heard: list[Event] = []
    run: Any = None
    started = worker.Worker(Path("data"), True, heard.append)
    with pytest.raises(worker.Died) as death:
        started.execute(run, Path("results"), wait=True)
    started.end(stop=False)
    assert started.process.returncode is not None
    return heard, str(death.value)


def test_a_worker_that_is_killed_in_the_middle_of_a_line_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answered(KILLED, monkeypatch) == ([Note("so far")], "signal SIGKILL")


@pytest.mark.parametrize("said", ["b'Killed'", "bytes([255])"])
def test_a_worker_whose_answer_is_none_is_ended(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"import sys, time\nsys.stdout.buffer.write({said} + bytes([10])); sys.stdout.flush(); time.sleep(60)"
    began = time.monotonic()
    heard, death = answered(code, monkeypatch)
    assert heard == [] and death.startswith("an invalid answer: ")
    assert time.monotonic() - began < 30
