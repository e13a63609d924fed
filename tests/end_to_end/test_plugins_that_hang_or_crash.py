"""Strategies that never return, or end their process: the command ends, says so, and keeps what is finished."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clbench.diagnostics import doctor

pytestmark = [pytest.mark.waits, pytest.mark.timeout(180)]  # a process that hangs must not hold up all tests

STRATEGY = '''
"""Misbehaves in experience 1."""
import ctypes, os, threading, time
import clbench
from clbench import losses

class Misbehaving(clbench.Strategy):
    def loss(self, batch):
        if batch.experience.index == 1:
            print(f"process {{os.getpid()}} misbehaves", flush=True)
            {body}
        return losses.cross_entropy(batch.logits, batch.y)
'''
ENDS_WITHIN = 10
"""Seconds, as docs/command-line.md promises."""

HANGS = {
    "loop": "while True: pass",
    "loop that swallows everything": """
            while True:
                try:
                    while True: time.sleep(0.01)
                except BaseException:
                    pass""",
    "deadlock in native code": """
            lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
            lock(mutex) or lock(mutex)""",
    "thread that never ends, too": """
            threading.Thread(target=lambda: [time.sleep(1) for _ in iter(int, 1)]).start()
            while True: time.sleep(0.01)""",
}
"""Only the first keeps a core busy, so that the tests next to these are not slowed down."""


KILLED = "os.kill(os.getpid(), 9)"
KEEPS_THE_INTERPRETER = HANGS["deadlock in native code"].replace("CDLL", "PyDLL")
"""Does not release the interpreter's lock: no other thread runs, and no signal is handled."""


def command(folder: Path, data: Path, body: str, *more: str) -> list[str]:
    (folder / "misbehaving.py").write_text(STRATEGY.format(body=body))
    what = ["-s", str(folder / "misbehaving.py"), "-S", "splitdigits", "--epochs", "1", "--threads", "1"]
    where = ["--device", "cpu", "--out", str(folder / "results"), "--data", str(data)]
    return [sys.executable, "-m", "clbench", "run", *what, *where, *more]


STARTED: list[subprocess.Popen[Any]] = []
WORKERS: list[int] = []


@pytest.fixture(autouse=True)
def none_outlives_its_test() -> Iterator[None]:
    """A process that a failed test would leave running is killed."""
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        while WORKERS:
            with contextlib.suppress(ProcessLookupError):
                os.kill(WORKERS.pop(), signal.SIGKILL)
        process.communicate(timeout=60)


def start(folder: Path, data: Path, body: str, jobs: int = 1) -> tuple[subprocess.Popen[str], list[int]]:
    """Start as many runs; return the command when the strategy misbehaves in each, and the processes that do them."""
    process = subprocess.Popen(
        command(folder, data, body, "--jobs", str(jobs), "--seeds", str(jobs)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    misbehaving: list[int] = []
    assert process.stderr
    for line in process.stderr:
        found = [int(number) for number in re.findall(r"process (\d+) misbehaves", line)]  # two may share a line
        misbehaving += found
        WORKERS.extend(found)
        if len(misbehaving) == jobs:
            return process, misbehaving
    pytest.fail("the strategy never came to misbehave")


def alive(process: int) -> bool:
    """Whether a process exists that is not merely waiting for its parent to notice that it has ended."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "jobs"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_one_signal_ends_a_command_whose_strategy_never_returns(
    tmp_path: Path, data: Path, signum: int, jobs: int
) -> None:
    stopped = {}
    for number, (hang, body) in enumerate(HANGS.items()):  # while one of them ends, the next begins
        folder = tmp_path / str(number)
        folder.mkdir()
        process, workers = start(folder, data, body, jobs)
        time.sleep(0.5)  # into the loop
        process.send_signal(signum)
        stopped[hang] = folder, process, workers, time.monotonic() + ENDS_WITHIN
    for hang, (folder, process, workers, latest) in stopped.items():
        errors = process.communicate(timeout=max(latest - time.monotonic(), 0.1))[1]
        assert process.returncode == 128 + signum, hang
        assert errors.count("Finished work is kept; rerun the same command to resume.") == 1, hang
        assert not any(map(alive, workers)), hang
        assert list(folder.glob("results/.work/*/checkpoint")), hang


@pytest.mark.slow
def test_a_command_that_takes_its_time_to_end_says_once_that_it_stops(tmp_path: Path, data: Path) -> None:
    slow = "end, os._exit = os._exit, lambda code: time.sleep(3) or end(code)"
    process, _ = start(tmp_path, data, f"{slow}{HANGS['deadlock in native code']}")
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=ENDS_WITHIN)[1]
    assert errors.count("Finished work is kept; rerun the same command to resume.") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("jobs", "code"), [(1, -signal.SIGKILL), (2, 128 + signal.SIGINT)])
def test_one_signal_ends_a_command_whose_interpreter_is_kept_for_ever(
    tmp_path: Path, data: Path, jobs: int, code: int
) -> None:
    process, workers = start(tmp_path, data, KEEPS_THE_INTERPRETER, jobs)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=ENDS_WITHIN)[1]
    assert process.returncode == code
    assert errors.count("Finished work is kept; rerun the same command to resume.") == 1
    assert not any(map(alive, workers))


@pytest.mark.slow
@pytest.mark.parametrize("hang", ["loop that swallows everything", "deadlock in native code", "interpreter kept"])
def test_a_worker_whose_command_was_killed_ends_in_a_step_that_never_ends(
    tmp_path: Path, data: Path, hang: str
) -> None:
    body = HANGS.get(hang, KEEPS_THE_INTERPRETER)
    process, workers = start(tmp_path, data, body, jobs=2)
    assert process.pid not in workers
    process.kill()
    deadline = time.monotonic() + 10
    while any(map(alive, workers)):
        assert time.monotonic() < deadline, "a worker goes on without its parent"
        time.sleep(0.1)


def finish(folder: Path, data: Path, body: str, *more: str) -> subprocess.CompletedProcess[str]:
    return call(folder, *command(folder, data, body, *more))


def call(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)


@pytest.mark.slow
def test_the_next_command_says_which_run_was_under_way_in_a_process_that_ended_without_a_word(
    tmp_path: Path, data: Path
) -> None:
    assert finish(tmp_path, data, KILLED).returncode == -signal.SIGKILL
    sentence = r"splitdigits/misbehaving/\S+-seed0-\S+ was under way in a process that ended without a word"
    (found,) = [each for each in doctor._runs([tmp_path / "results"]) if re.search(sentence, each.what)]
    assert found.exit_code == 1
    assert re.search(sentence, finish(tmp_path, data, "pass").stderr)
    assert not re.search(sentence, finish(tmp_path, data, "pass").stderr)


@pytest.mark.slow
def test_a_crash_in_native_code_says_where_it_was_and_what_was_under_way(tmp_path: Path, data: Path) -> None:
    ended = finish(tmp_path, data, "ctypes.string_at(0)")
    assert ended.returncode == -signal.SIGSEGV and "misbehaving.py" in ended.stderr
    assert len(list(tmp_path.glob("results/.work/*.under-way"))) == 1


@pytest.mark.slow
def test_a_run_that_another_process_is_doing_is_not_said_to_have_ended(tmp_path: Path, data: Path) -> None:
    start(tmp_path, data, "while True: pass")
    from clbench.results.store import abandoned_runs

    assert list(abandoned_runs(tmp_path / "results")) == []
    assert len(list(tmp_path.glob("results/.work/*.under-way"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("raised", ["GeneratorExit()", "BaseException('base')", "SystemExit(3)", "os._exit(0)"])
def test_whatever_a_strategy_raises_fails_its_run_only(tmp_path: Path, data: Path, raised: str) -> None:
    done = finish(tmp_path, data, raised if raised == "os._exit(0)" else f"raise {raised}")
    assert done.returncode == 1
    assert "in experience 1, step" in done.stderr and "Traceback" not in done.stderr
    (trace,) = tmp_path.glob("results/.failed/*/*/*/traceback.txt")
    assert raised.partition("(")[0] in trace.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "option", "content"),
    [
        ("networks", "--network", "def ends(shape): os._exit(0)"),
        ("scenarios", "-S", "os._exit(0)\nimport clbench\nclass Ends(clbench.Scenario): dataset = 'digits'"),
        (
            "strategies",
            "-s",
            "import clbench\nclass Ends(clbench.Strategy):\n    def __init__(self, config): os._exit(0)\n"
            "    def loss(self, batch): return batch.cross_entropy()",
        ),
    ],
)
def test_a_plugin_cannot_end_the_command_without_a_word(
    tmp_path: Path, data: Path, folder: str, option: str, content: str
) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "ends.py").write_text(f'"""Ends the process."""\nimport os\n{content}\n')
    what = {"-s": "naive", "-S": "splitdigits"} | {option: "ends"}
    options = [each for pair in what.items() for each in pair]
    done = call(tmp_path, sys.executable, "-m", "clbench", "run", *options, "--epochs", "1", "--data", str(data))
    assert done.returncode in (1, 5)
    assert "os._exit(0)" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("body", ["raise MemoryError", "__import__('torch').empty(2**50)"])
def test_a_run_that_needs_more_memory_than_there_is_fails_and_says_so(tmp_path: Path, data: Path, body: str) -> None:
    done = finish(tmp_path, data, body)
    assert done.returncode == 1
    assert re.search("in experience 1, step [0-9]+: memory is short", done.stderr) and "Traceback" not in done.stderr


@pytest.mark.slow
def test_where_torch_does_not_fit_into_memory_the_command_says_so(tmp_path: Path, data: Path) -> None:
    limited = ["sh", "-c", 'ulimit -v 900000; exec "$@"', "sh"]
    done = call(tmp_path, *limited, *command(tmp_path, data, "pass"))
    assert done.returncode == 4
    assert "memory is short: not enough for torch" in done.stderr and "0.9 GB by ulimit -v" in done.stderr
    assert "Traceback" not in done.stderr and "fails to load" not in done.stderr


@pytest.mark.slow
def test_a_signal_while_a_checkpoint_is_written_keeps_that_boundary(tmp_path: Path, data: Path) -> None:
    pickled = "lambda self: (os.kill(os.getpid(), 2) or int, ())"
    body = f"self.state = type('State', (), {{'__reduce__': {pickled}}})()"
    stopped = finish(tmp_path, data, body)
    assert stopped.returncode == 130 and "Finished work is kept" in stopped.stderr
    assert list(tmp_path.glob("results/.work/*/predictions-1"))
    assert "resuming after experience 1" in finish(tmp_path, data, body).stderr


@pytest.mark.slow
def test_a_second_signal_while_the_stopped_command_is_ending_changes_nothing(tmp_path: Path, data: Path) -> None:
    ends_slowly = "import atexit; atexit.register(time.sleep, 2); os.kill(os.getpid(), 2)"
    process = subprocess.Popen(command(tmp_path, data, ends_slowly), stderr=subprocess.PIPE, text=True)
    STARTED.append(process)
    assert process.stderr
    for line in process.stderr:
        if "Stopped" in line:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130


@pytest.mark.slow
def test_whatever_the_umask_a_run_goes_on_from_its_checkpoint(tmp_path: Path, data: Path) -> None:
    process = subprocess.Popen(
        ["sh", "-c", 'umask 000; exec "$@"', "sh", *command(tmp_path, data, KILLED)], stderr=subprocess.PIPE
    )
    STARTED.append(process)
    assert process.wait(timeout=120) == -signal.SIGKILL
    assert (tmp_path / "results" / ".work").stat().st_mode & 0o777 == 0o700
    assert "resuming after experience 0" in finish(tmp_path, data, KILLED).stderr
