"""The surroundings of a run, on which none of its numbers depend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clbench.base.events import Listener, Track
from clbench.results.store import ResultsFolder
from clbench.runs.kept_networks import Keep
from clbench.system.signals import Interruption


@dataclass(frozen=True)
class RunContext:
    """The folders, listeners and switches that a run works with; none of them changes its numbers."""

    results: ResultsFolder
    data: Path
    interruption: Interruption
    notify: Listener
    share: bool = True
    """Whether a first experience that several runs learn alike is trained only once; see runs/shared_start.py."""

    keep: Keep | None = None
    """Which of its networks a run keeps."""

    track: Track | None = None
    """Whether somebody follows a run's losses and metrics, and whether the run keeps them."""

    executor: str = "local"
    """What executes the run, for environment.json."""

    exact_phases: bool = False
    """Whether to wait for a GPU at every change of phase, and to capture no steps, so that its time is known; it slows
    the run down."""
