"""Updates the statistics that other strategies keep with a network, so that they cover the new classes too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clbench.base.events import Listener, Note
from clbench.deployment.loading import load_network
from clbench.deployment.strategy_states import NotStorable, StrategyState, file_name, state_file, state_of
from clbench.errors import DataError, Divergence, PluginError, UndefinedScores, UsageError
from clbench.extension.brought_along import CannotExtend
from clbench.extension.candidates import Made, trunk_sha256
from clbench.extension.explaining import explaining
from clbench.extension.learner import Task, begin, learn
from clbench.extension.planning import Plan, kept_by
from clbench.results.spec_building import Method
from clbench.system.tables import listed
from clbench.training.closed_form_time import closed_form_time


def continued(
    what: Plan, task: Task, chosen: Made, made: Sequence[Made], images: int, notify: Listener
) -> dict[str, bytes]:
    """Return what the other strategies keep after `images` of new classes, as files, if the trunk is unchanged.

    Their statistics describe the features of that trunk. If it was trained they would be wrong, and are dropped.
    """
    kept = {name for name in what.states if not (chosen.folder / file_name(name)).is_file()}
    if not kept:
        return {}
    trunk = trunk_sha256(what.parent.trunk)
    if trunk_sha256(load_network(chosen.folder, what.request.network_file).trunk) != trunk:
        notify(Note(f"statistics for {', '.join(sorted(kept))} are dropped: the trunk has changed"))
        return {}
    done = {each.candidate.strategy.name: each.folder / file_name(each.candidate.strategy.name) for each in made}
    ready = {name for name in kept if name in done and done[name].is_file()}
    files = {file_name(name): done[name].read_bytes() for name in sorted(ready)}
    for name, method in _to_continue(what, task, sorted(kept - ready), images, notify).items():
        if state := _continued_state(what, task, name, method, trunk, notify):
            files[file_name(name)] = state_file(state)
    return files


def _to_continue(what: Plan, task: Task, names: Sequence[str], images: int, notify: Listener) -> dict[str, Method]:
    """Return the strategies whose statistics can be updated with the new classes, and announce how long that takes.

    For the others, report why their statistics are dropped.
    """
    found: dict[str, Method] = {}
    for name in names:
        method = kept_by(what, name, notify)
        if isinstance(method, str):
            notify(Note(f"statistics for {name} are dropped: {method}"))
        else:
            found[name] = method
    strategies = [method.instance(what.states[name].config) for name, method in found.items()]
    features, device = task.new_network().head.features, task.inputs.images["new"].device
    if time := closed_form_time(strategies, [(images, what.sizes[1])], features, device):
        notify(Note(f"adding the new classes to the statistics for {listed(list(found))}: {time}"))
    return found


def _continued_state(
    what: Plan, task: Task, name: str, method: Method, trunk: str, notify: Listener
) -> StrategyState | None:
    """Return what a strategy keeps after the new classes, from what it kept before; None if that fails."""
    state = what.state_of(method)
    assert state is not None
    silent = replace(task, notify=lambda event: None)  # it is not a separate run
    try:
        with explaining(name):
            trainer = begin(silent, method.strategy, state.config, name, state)
            learn(silent, trainer)
        return state_of(trainer.strategy, name, method.plugin.sha256, state.config, trunk)
    except (UsageError, DataError, PluginError, CannotExtend, NotStorable, Divergence, UndefinedScores) as error:
        notify(Note(f"statistics for {name} are dropped: {error}"))
        return None
