"""The surroundings of `train` and `extend`: events, interruption and page, on which no number depends."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.base.events import ExperienceFinished, Listener, RunFinished
from clbench.extension.publishing import Page
from clbench.results.extension_result import Candidate
from clbench.system.signals import Interruption


@dataclass(frozen=True)
class Around:
    """Receiver of events, interruption by signals, and the function that builds the page."""

    notify: Listener
    interruption: Interruption
    page: Page


def finished(notify: Listener, candidate: Candidate, place: str) -> None:
    """Announce that a strategy has finished, with its accuracies."""
    name = candidate.strategy.name
    old, new = candidate.old_accuracy, candidate.new_accuracy
    notify(ExperienceFinished(name, 0, old, new, candidate.seconds))
    notify(RunFinished(name, place))
