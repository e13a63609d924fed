"""Plans the runs that a published protocol needs, as `clbench run` plans its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clbench.base.events import Listener
from clbench.errors import UsageError
from clbench.reproduction.targets import Target
from clbench.runs.planned_runs import Planned, plan
from clbench.runs.request import Request


def chosen(wanted: Sequence[Target], setting: str | None, method: str | None) -> list[Target]:
    """Return the targets of this setting (`class`, `task` or `domain`) and method. Raises UsageError for none."""
    found = [
        target
        for target in wanted
        if (setting is None or target.setting.startswith(setting)) and (method is None or target.method == method)
    ]
    if not found:
        known = sorted({f"{target.method} ({target.setting.partition('_')[0]})" for target in wanted})
        asked = " and ".join(f"{what} '{name}'" for what, name in (("setting", setting), ("method", method)) if name)
        raise UsageError(f"no published cell with {asked}", f"Known: {', '.join(known)}")
    return found


def plan_targets(wanted: Sequence[Target], request: Request, notify: Listener) -> list[Planned]:
    """Return the runs of all targets, each once, seed by seed; `request` gives seeds, machine and folders.

    Raises UsageError, PluginError, DataError or MachineError before anything is trained.
    """
    planned: dict[str, Planned] = {}
    for seed in request.seeds:
        for target in wanted:
            asked = replace(
                request,
                strategy=[target.strategy],
                scenario=[target.scenario],
                recipe=target.recipe,
                setting=target.setting,
                seeds=(seed,),
                set=target.values,
                tune=target.tune or None,
            )
            for run in plan(asked, notify):
                planned.setdefault(run.name, run)
    return list(planned.values())
