"""How a run ended, and which runs of a command have no readable result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.system import memory

if TYPE_CHECKING:
    from clbench.results.stored_run import Unreadable


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run: str
    """Its folder in the results, even if it is not published."""

    status: str
    """`finished`, `skipped` (existed already), `failed` or `diverged`."""

    path: Path
    """Where its files are: in the results or, for a failed run, apart from them."""

    message: str = ""
    """Why it failed."""

    @property
    def failed(self) -> bool:
        """Whether the run has no result."""
        return self.status in ("failed", "diverged")


def describe_missing(outcomes: Sequence[Outcome], unreadable: Sequence[Unreadable]) -> str:
    """Return which runs of a command have no result that can be read, and why; empty if all have one."""
    said = []
    if failed := [f"  {outcome.run} {outcome.message}" for outcome in outcomes if outcome.failed]:
        others = "; the others are stored" if len(failed) < len(outcomes) else ""
        said += [f"{len(failed)} of {len(outcomes)} runs failed{others}:", *failed]
    if unreadable:
        several = len(unreadable) > 1
        said += [
            f"{len(unreadable)} of {len(outcomes)} runs {'are' if several else 'is'} stored but cannot be read:",
            *(f"  {run}" for run in unreadable),
            memory.REMEDY
            if any(run.too_large for run in unreadable)
            else f"Remove {'their folders' if several else 'its folder'}, then rerun the same command.",
        ]
    return "\n".join(said)
