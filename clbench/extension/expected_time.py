"""Announces in advance how long several strategies will take together, if it is long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clbench.base.events import Listener, Note
from clbench.base.strategy import Strategy
from clbench.extension.learner import Task
from clbench.system.output import duration
from clbench.system.tables import listed
from clbench.training.closed_form_time import LONG, closed_form_time


def announce_closed_forms(strategies: Mapping[str, Strategy[Any]], task: Task, images: int, classes: int) -> None:
    """Announce how long strategies without gradient steps take on `images` of new `classes`.

    A single strategy announces this itself when it trains.
    """
    if len(strategies) < 2:
        return
    features, device = task.new_network().head.features, task.inputs.images["new"].device
    if time := closed_form_time(strategies.values(), [(images, classes)], features, device):
        task.notify(Note(f"{listed(list(strategies))}, without gradient steps: {time}"))


def announce_steps(strategies: int, seconds: float, notify: Listener) -> None:
    """Announce how long further strategies with gradient steps take, if each takes as long as the last one."""
    if strategies and strategies * seconds > LONG:
        which = "one further strategy" if strategies == 1 else f"{strategies} further strategies"
        notify(Note(f"{which} with gradient steps: about {duration(strategies * seconds)}"))
