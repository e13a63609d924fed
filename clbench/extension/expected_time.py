"""How long several strategies take together, said before it has passed, if it is long."""

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
    """Say how long strategies without gradient steps take on `images` of new `classes`. Of one the training says it."""
    if len(strategies) < 2:
        return
    features, device = task.new_network().head.features, task.inputs.images["new"].device
    if time := closed_form_time(strategies.values(), [(images, classes)], features, device):
        task.notify(Note(f"{listed(list(strategies))}, without gradient steps: {time}"))


def announce_steps(strategies: int, seconds: float, notify: Listener) -> None:
    """Say how long further strategies of gradient steps take, if each takes as long as the last did."""
    if strategies and strategies * seconds > LONG:
        which = "one further strategy" if strategies == 1 else f"{strategies} further strategies"
        notify(Note(f"{which} of gradient steps: about {duration(strategies * seconds)}"))
