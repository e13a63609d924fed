"""What an interruption does if it arrives at an awkward moment."""

import os
import signal
import sys
import time
import weakref
from collections.abc import Callable

import pytest

from clbench.system.signals import Interrupted, Interruption


class Thing:
    """Something that can be referred to weakly, and has a say when it goes."""

    def __init__(self, at_the_end: Callable[[], None] = lambda: None) -> None:
        self.at_the_end = at_the_end

    def __del__(self) -> None:
        self.at_the_end()


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass  # the handler runs between two of these


def in_the_callback_of_a_weak_reference() -> None:
    thing = Thing()
    reference = weakref.ref(thing, lambda _: interrupt())
    del thing
    assert reference() is None


def in_the_end_of_an_object() -> None:
    Thing(interrupt)


@pytest.mark.parametrize("moment", [in_the_callback_of_a_weak_reference, in_the_end_of_an_object])
def test_an_interruption_that_python_can_only_report_is_raised_again(
    moment: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    before, began = sys.unraisablehook, time.monotonic()
    with pytest.raises(Interrupted) as raised, Interruption():
        moment()
        for _ in range(1000):
            time.sleep(0.01)
    assert time.monotonic() - began < 5
    assert raised.value.exit_code == 143 and sys.unraisablehook is before
    assert capsys.readouterr().err == ""


def test_other_exceptions_that_nobody_can_catch_are_reported_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: reported.append(lost.exc_type))
    with Interruption():
        Thing(lambda: [][0])
    assert reported == [IndexError]
