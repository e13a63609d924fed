"""How a run ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run: str
    """Its folder in the results, also where it is not published."""

    status: str
    """`finished`, `skipped` (was there already), `failed` or `diverged`."""

    path: Path
    """Where its files are: in the results, or for a failed run apart from them."""

    message: str = ""
    """Why it failed."""

    @property
    def failed(self) -> bool:
        """Whether the run has no result."""
        return self.status in ("failed", "diverged")
