"""Plans all runs of a command together: the sections of a study, or the one of a command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

from clbench.base.events import Listener
from clbench.runs.grid_search import Tuning, plan_finals, plan_trials
from clbench.runs.kept_networks import Keep
from clbench.runs.planned_runs import Planned, plan
from clbench.runs.study import Section


class Planning:
    """What the sections ask for, resolved and checked.

    With `--tune grid` the runs of a section follow from trials, and are planned when these are done.
    """

    def __init__(self, sections: Sequence[Section], notify: Listener, bring: bool = True) -> None:
        """Check all sections; see `plan` for `bring` and for what is raised."""
        self._sections, self._notify = sections, notify
        self._planned: list[list[Planned] | list[Tuning]] = []
        for section in sections:
            with section.explaining():
                self._planned.append(
                    plan_trials(section.request, notify)
                    if section.request.tune == "grid"
                    else plan(section.request, notify, bring)
                )

    @property
    def trials(self) -> list[Planned]:
        """The trials that come first, each once."""
        tunings = (each for part in self._planned for each in part if isinstance(each, Tuning))
        return _distinct(run for tuning in tunings for runs in tuning.trials for run in runs)

    @cached_property
    def known(self) -> list[Planned]:
        """The runs that are known before any trial is done, each once."""
        found: list[Planned] = []
        for section, part in zip(self._sections, self._planned, strict=True):
            found += [each for each in part if isinstance(each, Planned)]
            if decided := [each for each in part if isinstance(each, Tuning) and not each.trials]:
                found += plan_finals(section.request, decided, self._notify)
        return _distinct(found)

    @property
    def following(self) -> int:
        """How many runs follow from trials."""
        return sum(
            len(section.request.seeds)
            for section, part in zip(self._sections, self._planned, strict=True)
            for each in part
            if isinstance(each, Tuning) and each.trials
        )

    def runs(self) -> list[Planned]:
        """Return all runs except the trials, which must be finished, each once."""
        found: list[Planned] = []
        for section, part in zip(self._sections, self._planned, strict=True):
            tunings = [each for each in part if isinstance(each, Tuning)]
            with section.explaining():
                found += plan_finals(section.request, tunings, self._notify) if tunings else []
            found += [each for each in part if isinstance(each, Planned)]
        return _distinct(found)


def _distinct(planned: Iterable[Planned]) -> list[Planned]:
    """Return each run once, keeping as many of its networks as any of the requests for it wants."""
    found: dict[str, Planned] = {}
    for run in planned:
        same = found.setdefault(run.name, run)
        most: Keep | None = "all" if "all" in (same.keep, run.keep) else same.keep or run.keep
        if most != same.keep:
            found[run.name] = replace(same, keep=most)
    return list(found.values())
