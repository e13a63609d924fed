"""Ctrl-C and SIGTERM: stop at the next batch and keep what is finished; a second signal stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any


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
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        again, self._requested = self._requested is not None, signum
        # The interrupted code may swallow the exception; the next `check` raises it again.
        if again or not self._deferred:
            raise Interrupted(signum)

    def request(self, signum: int) -> None:
        """Act as if the signal had arrived, from any thread; it takes effect at the next `check`."""
        self._requested = signum

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within, the first signal takes effect only at the next `check`; otherwise at once."""
        self.check()
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
            self.check()

    def check(self) -> None:
        """Raise Interrupted if a signal has arrived."""
        if self._requested is not None:
            raise Interrupted(self._requested)
