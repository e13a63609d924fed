"""The `clbench` program: its streams, its messages when it fails or is stopped, and its exit codes."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import io
import os
import sys
from collections.abc import Sequence
from typing import IO, NoReturn

from clbench.cli.app import application
from clbench.cli.completion import as_bash_divides_words
from clbench.cli.options import terminal
from clbench.errors import ClbenchError, MachineError
from clbench.plugins.module_loading import memory_is_short
from clbench.system import gc_freeze, memory, own_process
from clbench.system.signals import Interrupted, Interruption, LastCall

RUNS_PLUGINS = ("run", "reproduce", "profile", "check", "export", "predict", "train", "extend")
"""The commands that run a plug-in's code, which may never return; the others need no watching process."""

RESUMES = ("run", "reproduce", "train", "extend", "unpack")
"""The commands that resume where they were stopped; the others start over."""


def program() -> None:
    """Run the command as the program of this process."""
    own_process.claim()
    own_process.refuse_exit()
    gc_freeze.collect_rarely()
    _open_streams()
    faulthandler.enable()  # a crash in native code says where it was
    if os.environ.get("_CLBENCH_COMPLETE") == "complete_bash":
        with as_bash_divides_words():
            main()
    with LastCall(_stopped(kept=True)) if _is_one_of(RUNS_PLUGINS) else contextlib.nullcontext():
        main()


def main() -> None:
    """Run the command; a failure ends with its exit code and a message instead of a traceback."""
    _open_streams()
    try:
        with Interruption() as interruption:
            try:
                application(_asked_for())()
            except Interrupted:
                interruption.end()  # a library may end slowly, and another signal would change the exit code
                raise
            except ClbenchError:
                interruption.check()  # a library may have turned it into an error of its own, as torch's exporters do
                raise
            except SystemExit:  # typer always ends this way
                with contextlib.suppress(OSError):
                    _write_out(sys.stderr)
                with contextlib.suppress(BrokenPipeError):
                    _write_out(sys.stdout)  # here, while a loss can still be reported
                raise
    except ClbenchError as error:
        _fail(error)
        sys.exit(error.exit_code)
    except Interrupted as interruption:
        _stop(interruption)
    except (MemoryError, ImportError) as error:
        if not memory.is_short(error):
            raise
        _memory_is_short()
    except OSError as error:
        if memory.is_short(error):
            _memory_is_short()
        _output_failed(error)
    except SystemExit as ended:
        # Click turns it into exit code 1, which here means that a run failed.
        if isinstance(ended.__context__, BrokenPipeError):
            _output_failed(ended.__context__)
        raise
    except RuntimeError as error:
        # Python before 3.12 hides what interrupts the creation of a class behind an error of its own.
        if not isinstance(error.__cause__, Interrupted):
            raise
        _stop(error.__cause__)


def _open_streams() -> None:
    """Replace standard streams that the caller has closed; print ? for characters that their encoding lacks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - open until the end
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _write_out(stream: IO[str]) -> None:
    """Flush what was printed. If that fails, discard the rest, or Python would try again at exit and complain."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise


def _output_failed(error: OSError) -> NoReturn:
    """End after standard output could not be written; raise any other error."""
    with contextlib.suppress(OSError):
        _write_out(sys.stdout)
    if isinstance(error, BrokenPipeError):
        sys.exit(0)  # the reader has closed the pipe
    if error.errno == errno.ENOENT and "temporary directory" in (error.strerror or ""):  # of Python's tempfile
        failure = MachineError(f"{error.strerror}", "Free disk space, or name another folder: TMPDIR=FOLDER")
    elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        failure = MachineError(f"cannot write {error.filename or 'the output'}: {error.strerror}")
    else:
        raise error
    _fail(failure)
    sys.exit(failure.exit_code)


def _memory_is_short() -> NoReturn:
    failure = memory_is_short("this command")
    _fail(failure)
    sys.exit(failure.exit_code)


def _stop(interruption: Interrupted) -> NoReturn:
    print(f"\n{_stopped(interruption.kept)}", file=sys.stderr)
    sys.exit(interruption.exit_code)


def _stopped(kept: bool) -> str:
    if not _is_one_of(RESUMES):
        return "Stopped."
    return f"Stopped. {'Finished work is kept; rerun the same command to resume.' if kept else 'Nothing is kept.'}"


def _asked_for() -> str:
    return "".join(sys.argv[1:2])


def _is_one_of(commands: Sequence[str]) -> bool:
    return _asked_for() in commands


def _fail(error: ClbenchError) -> None:
    from rich.text import Text

    from clbench.system.terminal import print_lines

    console = terminal(stderr=True)
    print_lines(console, Text.assemble(("Error: ", "bold red"), error.message))
    if error.hint:
        print_lines(console, Text(error.hint))
