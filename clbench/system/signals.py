"""Ctrl-C and SIGTERM: stop at the next batch and keep what is finished; a second signal stops at once.

Code that does not return, such as a plug-in's endless loop, never comes to a next batch. If one signal has
not stopped it after a while, this is therefore treated as a second signal, and in the end the process is ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

GRACE = 3.5
"""Seconds that a process has to stop by itself before it is made to."""

_TO_END = 1.75
"""Seconds that a process may take to end itself; in all it is ended within ten."""

_ELSEWHERE = 0.05
"""Seconds after which an interruption that was lost is raised again; a callback has returned by then."""

_SAID = b"\0"
"""What a process sends to the one that watches it when it has reported, or is about to report, that it stops."""


class Interrupted(BaseException):
    """The run was asked to stop. A BaseException, so that it is not handled as a failure of the run."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
        self.kept = True
        """Whether finished work was kept."""

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signum


class Interruption:
    """Catches both signals within its context, if entered in the main thread."""

    def __init__(self) -> None:
        self._requested: int | None = None
        self._deferred = False
        self._held = False
        self._previous: dict[int, Any] = {}
        self._report_unraisable = sys.unraisablehook

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
            self._report_unraisable, sys.unraisablehook = sys.unraisablehook, self._lost
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous:
            sys.unraisablehook = self._report_unraisable
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        again, self._requested = self._requested is not None, signum
        # The interrupted code may swallow the exception; the next `check` raises it again.
        if not self._held and (again or not self._deferred):
            raise Interrupted(signum)

    def _lost(self, unraisable: Any) -> None:
        """Handle an exception that nobody can catch, such as one in the callback of a weak reference.

        Python would report an interruption there and continue regardless, so it is raised again elsewhere.
        """
        if isinstance(unraisable.exc_value, Interrupted):
            again = threading.Timer(_ELSEWHERE, self._send, [unraisable.exc_value.signum])
            again.daemon = True
            again.start()
        else:
            self._report_unraisable(unraisable)

    def _send(self, signum: int) -> None:
        if self._previous:
            signal.pthread_kill(threading.main_thread().ident or 0, signum)  # which may be waiting in a system call

    def request(self, signum: int) -> None:
        """Act as if the signal had arrived, from any thread; it takes effect at the next `check`."""
        self._requested = signum

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A context in which the first signal takes effect only at the next `check`, at the latest at its end."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
            self.check()

    def end(self) -> None:
        """Let no signal take effect from now on, even after this context: the process is ending."""
        for number in self._previous:
            signal.signal(number, signal.SIG_IGN)
            self._previous[number] = signal.SIG_IGN

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A context in which no signals take effect, for what must not be left half done. Keep it short."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def check(self) -> None:
        """Raise Interrupted if a signal has arrived."""
        if self._requested is not None:
            raise Interrupted(self._requested)


@contextlib.contextmanager
def as_keyboard_interrupt() -> Iterator[None]:
    """A context in which Ctrl-C raises KeyboardInterrupt, as callers from Python expect. SIGTERM stays Interrupted."""
    try:
        yield
    except Interrupted as stopped:
        if stopped.signum == signal.SIGINT:
            raise KeyboardInterrupt from stopped
        raise


class LastCall:
    """Within its context, in the main thread, one signal ends this process, whatever it is doing.

    If the signal has not ended it after GRACE, it is sent again, which raises Interrupted at once. After the same
    time again, a thread ends the process, with the exit code that it should have had: the main thread may be in a call
    that does not return, and then handles no signal. No thread runs at all if that call keeps the interpreter to
    itself, as the sum of an endless iterator does. Therefore another process watches, and in the end kills this one.
    Enter it early: the other process begins as a copy of this one.
    """

    def __init__(self, last_words: str) -> None:
        """`last_words` are written to standard error if the process had to be ended."""
        self._last_words = f"\n{last_words}\n".encode()
        self._stopping = False

    def __enter__(self) -> LastCall:
        (told, tell), (orders, order), process = os.pipe(), os.pipe(), os.getpid()
        if os.fork() == 0:
            try:
                os.close(tell)  # so that `told` ends with the process
                _watch(process, told, order, self._last_words)
            finally:
                os._exit(0)
        os.close(told)
        os.close(order)
        self._tell = tell
        os.set_blocking(tell, False)  # as set_wakeup_fd demands
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # a signal to a child is not for us
        threading.Thread(target=self._obey, args=(orders,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Expect the process to stop by itself; it is still ended if it does not, as when a thread hangs."""
        self._stopping = True
        signal.set_wakeup_fd(-1)
        self._say()

    def _obey(self, orders: int) -> None:
        if again := os.read(orders, 1):
            if not self._stopping:
                os.kill(os.getpid(), again[0])
            if end := os.read(orders, 1):
                if not self._stopping:
                    self._say()
                    os.write(2, self._last_words)
                os._exit(128 + end[0])

    def _say(self) -> None:
        with contextlib.suppress(OSError):  # nobody is watching any more
            os.write(self._tell, _SAID)


def _watch(process: int, told: int, order: int, last_words: bytes) -> None:
    """In another process: wait for a signal to `process`, have it act after a while, and kill it if it does not."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C in a terminal comes here too
    for stream in (0, 1):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    while (byte := os.read(told, 1)) and byte[0] not in (signal.SIGINT, signal.SIGTERM):
        pass
    if not byte:
        return
    said = False
    for seconds, order_again in ((GRACE, True), (GRACE, True), (_TO_END, False)):
        heard = _heard(told, seconds)
        if heard is None:
            return
        said |= _SAID in heard
        if order_again:
            os.write(order, byte)
    if not said:
        os.write(2, last_words)
    os.kill(process, signal.SIGKILL)


def _heard(told: int, within: float) -> bytes | None:
    """Return what the process that writes to `told` sends `within` so many seconds; None if it ends."""
    heard = b""
    deadline = time.monotonic() + within
    while (left := deadline - time.monotonic()) > 0:
        if select.select([told], [], [], left)[0]:
            if not (more := os.read(told, 64)):
                return None
            heard += more
    return heard
