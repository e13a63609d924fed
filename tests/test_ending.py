"""A process ends as soon as its work is done, and nothing of it is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import atexit, gc, os, sys, threading, time
from clbench.ending import end_at_once_after

class Kept:
    def __del__(self):
        print("garbage was looked for")

kept = Kept()
kept.itself = kept

def main():
{body}

end_at_once_after(main)
"""


def ended(body: str, **options: object) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(body="\n".join(f"    {line}" for line in body.splitlines()))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload, no-any-return]


def test_output_that_was_not_yet_written_arrives_and_garbage_is_not_looked_for() -> None:
    done = ended("sys.stdout.write('all of it')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "all of it", "")


@pytest.mark.parametrize(("ending", "code"), [("None", 0), ("3", 3), ("-1", 255), ("'a message'", 1)])
def test_the_exit_code_is_that_of_the_program(ending: str, code: int) -> None:
    done = ended(f"sys.exit({ending})")
    assert done.returncode == code
    assert done.stderr.strip() == ("a message" if code == 1 else "")


def test_an_error_nobody_caught_has_its_traceback_and_code_1() -> None:
    done = ended("raise KeyError('lost')")
    assert done.returncode == 1
    assert "KeyError: 'lost'" in done.stderr


def test_threads_and_exit_handlers_do_their_work_first(tmp_path: Path) -> None:
    thread, handler = tmp_path / "thread", tmp_path / "handler"
    body = f"atexit.register(lambda: open({str(handler)!r}, 'w').close())\n"
    body += f"threading.Timer(0.3, lambda: open({str(thread)!r}, 'w').close()).start()"
    assert ended(body).returncode == 0
    assert thread.exists() and handler.exists()
