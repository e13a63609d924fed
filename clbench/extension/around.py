"""What `train` and `extend` work in, and nothing that their numbers depend on."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.base.events import ExperienceFinished, Listener, RunFinished
from clbench.extension.publishing import Page
from clbench.results.extension_result import Candidate
from clbench.system.signals import Interruption


@dataclass(frozen=True)
class Around:
    """Who is told, who may stop it, and what draws the page."""

    notify: Listener
    interruption: Interruption
    page: Page


def finished(notify: Listener, candidate: Candidate, place: str) -> None:
    """Say what a strategy has reached."""
    name = candidate.strategy.name
    old, new = candidate.old_accuracy, candidate.new_accuracy
    notify(ExperienceFinished(name, 0, old, new, candidate.seconds))
    notify(RunFinished(name, place))
