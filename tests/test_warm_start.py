"""Commands that tests start behave as in an interpreter of their own: streams, folder, exit code, signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import warm_start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forked commands are for Linux alone"),
]

MODULE = """
import atexit, os, subprocess, sys, threading
print(os.getcwd(), os.environ.get("SAID"), sys.argv[1:], sys.stdin.read(), os.getppid(), "torch" in sys.modules)
print("to standard error", file=sys.stderr)
if "raise" in sys.argv:
    raise ValueError("out of order")
if "wait" in sys.argv:
    print("waiting", flush=True)
    threading.Event().wait(60)
if "start" in sys.argv:
    inner = subprocess.run([sys.executable, "-m", "clbenchlike"], input="", capture_output=True, text=True)
    print("inner", inner.stdout.splitlines()[0].split()[-2:], inner.returncode, os.getpid())
atexit.register(print, "registered")
threading.Thread(target=lambda: (threading.Event().wait(0.1), print("thread"))).start()
sys.exit(7)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module that a command of this name is."""
    (tmp_path / "clbenchlike.py").write_text(MODULE)
    return tmp_path


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "clbenchlike", *words]


def test_streams_folder_environment_arguments_and_exit_code_are_those_that_it_was_given(place: Path) -> None:
    environment = {**os.environ, "SAID": "yes"}
    done = subprocess.run(
        command("a", "b c"), cwd=place, env=environment, input="typed", capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split("\n") == [
        f"{place} yes ['a', 'b c'] typed {os.getpid()} True",
        "thread",
        "registered",
        "",
    ]
    assert (done.stderr, done.returncode) == ("to standard error\n", 7)


@pytest.mark.parametrize(("words", "forked"), [(["start", "--jobs"], True), (["start"], False)])
def test_what_it_starts_itself_is_forked_too_if_it_is_known_to_start_others(
    words: list[str], forked: bool, place: Path
) -> None:
    done = subprocess.run(command(*words), cwd=place, input="", capture_output=True, text=True, timeout=60)
    said = done.stdout.splitlines()[1].split()
    assert said == ["inner", f"['{said[-1]}',", f"'{forked}']", "7", said[-1]]


def test_an_exception_is_shown_and_ends_with_1(place: Path) -> None:
    done = subprocess.run(
        command("raise"), cwd=place, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and done.stderr.endswith("ValueError: out of order\n")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(place: Path, how: signal.Signals) -> None:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command("wait"), cwd=place, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout
        while process.stdout.readline() != "waiting\n":
            pass
        process.send_signal(how)
        assert process.wait(timeout=60) == -how


def test_modules_are_found_on_the_path_that_it_was_given(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = os.pathsep.join(filter(None, (str(place), os.environ.get("PYTHONPATH"))))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command(), cwd=elsewhere, env=environment, text=True, timeout=60, check=False, **pipes)  # type: ignore[call-overload]
    assert done.stdout.split("\n")[0] == f"{elsewhere} None []  {os.getpid()} True"


@pytest.mark.parametrize("variable", ["PYTHONPATH", "PYTHONHASHSEED"])
def test_one_for_which_the_interpreter_would_start_otherwise_starts_as_always(place: Path, variable: str) -> None:
    (place / "sitecustomize.py").touch()
    environment = {**os.environ, variable: str(place) if variable == "PYTHONPATH" else "1"}
    done = subprocess.run(
        command(), cwd=place, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split("\n")[0].endswith("False")


def test_other_commands_start_as_always() -> None:
    code = "import sys; print(sys.modules.get('torch'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "None\n"
    assert subprocess.Popen is warm_start.Popen
