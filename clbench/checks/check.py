"""Performs one check of a contract and records its outcome."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from clbench.errors import ClbenchError, PluginError


class CheckFailed(Exception):
    """A check found a fault: what it is, and how to fix it."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(f"{found}\n{fix}")
        self.found, self.fix = found, fix


class Skipped(Exception):
    """A check does not apply; the message says why."""


@dataclass(frozen=True)
class Result:
    """The outcome of one check."""

    check: str
    status: Literal["passed", "failed", "skipped"]
    doc: str
    """What the check tests, in a sentence."""

    found: str = ""
    """What is wrong, or why the check was skipped."""

    fix: str = ""


def perform(check: Callable[[Any], None], bench: Any) -> Result:
    """Perform one check; what the plug-in raises becomes its result.

    The name of the check is set as `bench.check`; `bench.errors` records which check met an error first.
    """
    name, doc = check.__name__, inspect.getdoc(check) or ""
    bench.check = name
    try:
        check(bench)
    except PluginError as error:  # from loading the file, so that every check meets it
        first = bench.errors.setdefault(error.message, name)
        if first != name:
            return Result(name, "skipped", doc, f"see {first}")
        return Result(name, "failed", doc, error.message, error.hint or "")
    except Skipped as reason:
        return Result(name, "skipped", doc, str(reason))
    except CheckFailed as fault:
        return Result(name, "failed", doc, fault.found, fault.fix)
    except ClbenchError as error:
        return Result(name, "failed", doc, error.message, error.hint or "")
    return Result(name, "passed", doc)
