"""The exceptions that clbench raises: what happened, how to fix it, and the exit code."""

from __future__ import annotations


class ClbenchError(Exception):
    """A failure that the user can understand and act on.

    `message` says what happened and what was kept; `hint`, if given, is the fix, often a command.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type[ClbenchError], tuple[str, str | None]]:
        return type(self), (self.message, self.hint)


class UsageError(ClbenchError):
    """A name, value or combination of options that clbench does not accept."""

    exit_code = 2


class DataError(ClbenchError):
    """A dataset that is missing, incomplete or not what it claims to be."""

    exit_code = 3


class MachineError(ClbenchError):
    """A problem with the machine: no such device, an unwritable folder, a full disk, a broken installation."""

    exit_code = 4


class PluginError(ClbenchError):
    """A strategy or scenario file that does not load or breaks the contract."""

    exit_code = 5


class AuditError(ClbenchError):
    """A strategy read or kept what it must not; the run is stored anyway, with the finding in its result."""

    exit_code = 6


class UndefinedScores(ClbenchError):
    """A strategy's `predict` returned NaN for a class that it may predict."""


class Divergence(ClbenchError):
    """The loss of a run became NaN or infinite."""
