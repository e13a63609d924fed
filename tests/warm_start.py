"""Starts the commands of tests in processes that need not import torch, because they are forked from one that has.

Importing takes two of the three seconds of a short command, and the tests start hundreds. After `install`,
`subprocess.Popen` starts `python -m clbench …`, and the processes that clbench starts itself, in this way, in the tests
and in what they start. They are real processes: children of the one that starts them, with the pipes, folder and
environment that it gives them, and they end or are killed like any other. One that ends by itself ends as an
interpreter does, exit functions and all, but without taking apart what was imported, which takes longer than a short
command. Whatever else is started, and everything on other systems than Linux, starts and ends as always.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib.util
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clbench.system import own_process, own_python

IMPORTED = [
    "clbench.cli.program",
    "clbench.api.comparing",
    "clbench.executors.local",
    "clbench.executors.worker",
    "clbench.losses",
    "clbench.runs.chosen_network",
    "clbench.runs.context",
    "clbench.runs.run",
    "rich.progress",
]
"""What a run needs; the order is that of a command, which is known to be one before torch is imported."""

IMPORTED_IF_THERE = ["typer._adapters"]
"""What newer versions of a library need."""

READ_AT_START = ("PYTHON", "LD_", "LC_", "LANG", "OMP_", "MKL_", "MALLOC")
"""Variables that begin so are read when the interpreter or a library starts. A command with others starts as always."""

OTHER_AT_START = ("sitecustomize.py", "usercustomize.py", "clbench")
"""What a folder on PYTHONPATH may have that makes an interpreter start otherwise."""

STARTS_OTHERS = {"--jobs", "--track", "check"}
"""Commands with one of these words start processes of clbench themselves, which are forked as well."""

_PR_SET_CHILD_SUBREAPER = 36  # see prctl(2)

_Popen = subprocess.Popen
_adopting = threading.Lock()
_server: str | None = None
"""Where the process that forks listens."""


def install() -> None:
    """Have subprocess.Popen start commands of clbench so, on Linux; elsewhere as always."""
    if sys.platform.startswith("linux"):
        subprocess.Popen = Popen  # type: ignore[misc]


class Popen(_Popen):  # type: ignore[type-arg]
    """subprocess.Popen, but a command of clbench is forked from the process that has imported it."""

    def _execute_child(self, args: Any, *more: Any) -> None:
        _, preexec_fn, _, pass_fds, cwd, env, _, _, shell, *pipes = more
        stdin, _, _, stdout, _, stderr = pipes[:6]
        _, *user, start_new_session = pipes[6:12]
        plain = not (preexec_fn or pass_fds or shell) and user == [None, None, None, -1]
        environment = dict(os.environ if env is None else {os.fsdecode(k): os.fsdecode(v) for k, v in env.items()})
        where = Path(os.fsdecode(cwd or ".")).absolute()
        order, places = _module_in(args), _more_places(environment)
        if not (order and plain and _read(environment) == _START and places is not None and where.is_dir()):
            super()._execute_child(args, *more)  # type: ignore[misc]
            return
        order |= {"cwd": str(where), "environment": environment, "places": places, "session": start_new_session}
        streams = [own if pipe == -1 else pipe for own, pipe in zip((0, 1, 2), (stdin, stdout, stderr), strict=True)]
        with _adopting, socket.socket(socket.AF_UNIX) as server:
            address = _address()
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                server.connect(address)
                socket.send_fds(server, [b"."], streams)
                server.sendall(json.dumps(order).encode())
                server.shutdown(socket.SHUT_WR)
                self.pid = int(server.recv(32))
            finally:
                ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        self._child_created = True
        self._close_pipe_fds(*pipes[:6])  # type: ignore[attr-defined]


def _address() -> str:
    """Return where the process that forks listens. The first call starts it; it ends when this process does."""
    global _server
    if _server is None:
        _server = str(Path(tempfile.mkdtemp(prefix="clbench-tests-")) / "socket")
        alive, _never_written = os.pipe()  # closed at the other end when this process ends, in whichever way
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(_server)
            listening.listen(64)
            os.set_inheritable(listening.fileno(), True)
            os.set_inheritable(alive, True)
            command = [sys.executable, __file__, _server, str(listening.fileno()), str(alive)]
            os.posix_spawn(sys.executable, command, os.environ)  # no Popen, which must be waited for
        os.close(alive)
    return _server


def _module_in(args: Any) -> dict[str, Any] | None:
    """Return which module of clbench a command runs, and where that looks for modules; None if it runs none."""
    words = [] if isinstance(args, str | bytes | os.PathLike) else [os.fsdecode(word) for word in args]
    match words:
        case [sys.executable, "-m", module, *_]:
            path, command = None, words[2:]
        case [sys.executable, "-c", own_python.RUN_MODULE, path, module, *_]:
            command = words[4:]
        case _:
            return None
    return {"path": path, "command": command} if module.startswith("clbench") else None


def _read(environment: dict[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in environment.items() if name.startswith(READ_AT_START) and name != "PYTHONPATH"
    }


def _path(environment: Mapping[str, str]) -> list[str]:
    return [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]


_START, _PATH = _read(dict(os.environ)), _path(os.environ)


def _more_places(environment: dict[str, str]) -> list[str] | None:
    """Return what PYTHONPATH has before that of this process; None if an interpreter would start otherwise."""
    path = _path(environment)
    more = path[: len(path) - len(_PATH)]
    other = any((Path(place) / name).exists() for place in more for name in OTHER_AT_START)
    return None if other or [*more, *_PATH] != path else more


def _serve(listening: socket.socket, alive: int) -> dict[str, Any] | None:
    """Fork a process for each order. Returns the order in that process, None where there will be no more."""
    waiting = selectors.DefaultSelector()
    waiting.register(listening, selectors.EVENT_READ)
    waiting.register(alive, selectors.EVENT_READ)
    while True:
        if any(key.fileobj == alive for key, _ in waiting.select()):
            return None
        client, _ = listening.accept()
        with client:
            _, streams, _, _ = socket.recv_fds(client, 1, 3)
            order = json.load(client.makefile())
            reading, writing = os.pipe()
            if (between := os.fork()) == 0:
                parent = os.getpid()
                if pid := os.fork():
                    os.write(writing, str(pid).encode())
                    os._exit(0)  # whose child is now the client's, since that adopts orphans
                while os.getppid() == parent:
                    time.sleep(0.001)
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                waiting.close()
                listening.close()
                for number in (*streams, reading, writing, alive):
                    os.close(number)
                return order
            os.waitpid(between, 0)
            client.sendall(os.read(reading, 32))
            for number in (*streams, reading, writing):
                os.close(number)


def import_all() -> None:
    """Import what a run needs, as clbench's own program does."""
    own_process.claim()
    for name in [*IMPORTED, *filter(importlib.util.find_spec, IMPORTED_IF_THERE)]:
        importlib.import_module(name)
    gc.freeze()  # what is imported is garbage for no process that is forked


def main(address: str, listening: int, alive: int) -> None:
    """Import, then fork until the process that started this one ends."""
    import_all()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = _serve(socket.socket(fileno=listening), alive)
    if order is None:
        shutil.rmtree(Path(address).parent)
        return
    if STARTS_OTHERS & set(order["command"]):
        order = _with_own_server(order)
    become(order)


def _with_own_server(order: dict[str, Any]) -> dict[str, Any]:
    """Fork a process that forks for this one, which adopts only descendants. Returns what either has to become."""
    global _server
    _server = str(Path(tempfile.mkdtemp(prefix="clbench-tests-")) / "socket")
    alive, never_written = os.pipe()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(_server)
        listening.listen(64)
        if os.fork():
            os.close(alive)
            install()
            return order
        os.close(never_written)
        inner = _serve(listening, alive)
    if inner is None:
        shutil.rmtree(Path(_server).parent)
        os._exit(0)
    return inner


def become(order: dict[str, Any]) -> None:
    """Run the command of an order in this process, and end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if order["session"]:
        os.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    module, *arguments = order["command"]
    sys.argv[1:] = arguments
    sys.path[:] = json.loads(order["path"]) if order["path"] else [order["cwd"], *order["places"], *sys.path[1:]]
    sys.modules.pop(module, None)  # it is run as the main one, which is another
    end, code = os._exit, 0  # a command refuses it, later
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if not isinstance(ended.code, int):
            raise
        code = ended.code
    _finish()
    end(code)


def _finish() -> None:
    """Do what an interpreter does before it takes modules apart."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
