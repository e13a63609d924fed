"""`--tune grid`: chooses hyper-parameters on validation streams before the runs that are reported.

Every candidate is run on streams with other class orders than those reported, trained on nine tenths of the training
data and judged by its final accuracy on the rest. The test set is not used. The trials are runs like others, stored
under `.tuning` in the results folder, so that finished ones are skipped and interrupted ones resumed.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clbench.base.config import plain, typed
from clbench.base.events import Listener, Note
from clbench.base.recipe_changes import by_path
from clbench.errors import ClbenchError, UsageError
from clbench.results import stored_runs
from clbench.results.run_spec import GridCandidate, GridTuning, RunSpec
from clbench.results.stored_run import StoredRun
from clbench.runs.planned_runs import Planned, divided, given_to, plan
from clbench.runs.preflight import makes_domains
from clbench.runs.request import Request
from clbench.runs.selection import Chosen, choose_strategies, load_class
from clbench.system.seeds import derive

FOLDER = ".tuning"
STREAMS = 2
"""Validation streams on which each candidate is judged."""

HELD_OUT = 0.1
"""Share of the training data that trials are judged on."""

LADDER = (1.0, 1 / 4, 1 / 16, 1 / 64)
"""Fractions of its declared first value that are tried for a stability weight if the user names no candidates."""


@dataclass(frozen=True)
class Tuning:
    """One strategy on one scenario: the candidates and their trials."""

    strategy: Chosen

    scenario: str
    candidates: tuple[dict[str, Any], ...]
    trials: tuple[tuple[Planned, ...], ...]
    """For each candidate a run per validation stream; none if there is nothing to choose."""


def plan_trials(request: Request, notify: Listener) -> list[Tuning]:
    """Return what must be tried before the runs of `request` can be planned. Raises what `plan` raises."""
    chosen = choose_strategies(request.strategy, notify)
    values = divided(request.set)
    given = given_to(chosen, values.strategies)
    protocol = {f"recipe.{path}": value for path, value in values.recipe.items()}
    protocol |= {f"network.{name}": value for name, value in values.network.items()}
    streams = _stream_options(request)
    tunings = []
    for scenario in request.scenario:
        for each in chosen:
            candidates = _candidates(each, given[each.name], protocol)
            asked = _asked(request, each, scenario)
            reported = [_order(run.spec) for run in plan(replace(asked, set=streams | candidates[0]), notify)]
            trials = [
                tuple(_on_validation_streams(replace(asked, set=streams | values), reported, notify))
                for values in candidates
            ]
            tunings.append(Tuning(each, scenario, tuple(candidates), tuple(trials if len(candidates) > 1 else ())))
    return tunings


def plan_finals(request: Request, tunings: Sequence[Tuning], notify: Listener) -> list[Planned]:
    """Return the runs of `request` with what the finished trials have chosen, seed by seed."""
    finals = [run for tuning in tunings for run in _finals(request, tuning, notify)]
    return sorted(finals, key=lambda run: request.seeds.index(run.spec.seeds.run))


def _candidates(chosen: Chosen, given: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the configurations to try: every combination of the values listed, otherwise of the stability weight.

    `given` are hyper-parameters of the strategy, `protocol` values of the recipe. Milestones are themselves a list and
    are not searched.
    """
    everything = {**given, **protocol}
    listed = {name: _text(value) for name, value in everything.items() if not name.endswith("milestones")}
    lists: dict[str, list[Any]] = {name: text.split(",") for name, text in listed.items() if "," in text}
    fixed = {name: value for name, value in everything.items() if name not in lists}
    stability = load_class(chosen.plugin).stability
    if not lists and stability and stability[0] not in fixed:
        lists = {stability[0]: [stability[1] * step for step in LADDER]}
    return [{**fixed, **dict(zip(lists, values, strict=True))} for values in itertools.product(*lists.values())]


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _asked(request: Request, chosen: Chosen, scenario: str) -> Request:
    return replace(request, strategy=[chosen.typed], scenario=[scenario], tune=None)


def _stream_options(request: Request) -> dict[str, Any]:
    """Return the stream options that the user set, which are never tuned: all candidates are judged on one kind."""
    return {name: value for name, value in request.set.items() if name.startswith("stream.")}


def _order(spec: RunSpec) -> tuple[int, ...]:
    """Return what distinguishes a stream from others of its kind: its class order, or the seed of its domains."""
    scenario = spec.scenario
    return (spec.seeds.class_order,) if makes_domains(scenario) else scenario.class_order


def _on_validation_streams(request: Request, reported: Sequence[Sequence[int]], notify: Listener) -> list[Planned]:
    found: list[Planned] = []
    for attempt in range(100):
        seed = derive(0, "validation stream", attempt)
        asked = replace(request, seeds=(seed,), class_order="seed", held_out=HELD_OUT, keep_networks=None, track=())
        planned = plan(asked, notify)
        taken = [*reported, *(_order(run.spec) for run in found)]
        found += [run for run in planned if _order(run.spec) not in taken]
        if len(found) == STREAMS:
            return found
    raise UsageError(
        f"--tune grid needs {STREAMS} class orders that are not reported, and there are too few",
        "Report fewer seeds, or a scenario with more classes.",
    )


def _finals(request: Request, tuning: Tuning, notify: Listener) -> list[Planned]:
    asked = _asked(request, tuning.strategy, tuning.scenario)
    if not tuning.trials:
        notify(
            Note(f"{tuning.strategy.name} has nothing to tune and runs as it is; list values with --set to try them")
        )
        return plan(replace(asked, set=_stream_options(request) | tuning.candidates[0]), notify)
    judged = [[_trial(run, request) for run in runs] for runs in tuning.trials]
    scores = [_score(runs) for runs in judged]
    if max(scores) < 0:
        raise ClbenchError(f"no candidate of {tuning.strategy.name} on {tuning.scenario} could be trained")
    chosen = tuning.candidates[scores.index(max(scores))]
    done = [run for runs in judged for run in runs if run is not None]
    record = GridTuning(
        trials=sum(map(len, tuning.trials)),
        streams=STREAMS,
        held_out=HELD_OUT,
        candidates=tuple(
            GridCandidate(
                values={name: typed(_configured(name, runs[0])) for name in values},
                validation_accuracy=score if score >= 0 else None,
            )
            for values, runs, score in zip(tuning.candidates, tuning.trials, scores, strict=True)
        ),
        samples_seen=sum(run.facts.totals.samples_seen for run in done),
        gradient_steps=sum(run.facts.totals.gradient_steps for run in done),
    )
    said = ", ".join(f"{name}={value}" for name, value in chosen.items())
    notify(Note(f"chosen for {tuning.strategy.name} on {tuning.scenario}: {said or 'its defaults'}"))
    return plan(replace(asked, set=_stream_options(request) | chosen, tuning=record), notify)


def _configured(name: str, run: Planned) -> Any:
    """Return the value that a run has for the setting `name`, however it was typed."""
    owner, _, field = name.partition(".")
    spec = run.spec
    if owner == "recipe":
        return by_path(plain(spec.recipe.config))[field]
    if owner != "network":
        return spec.strategy.config[name]
    from clbench.plugins.networks import network_source  # imports torch

    own = network_source(spec.network.name, file=run.network).config(spec.network.config)
    return own[field] if field in own else getattr(spec.network, field)


def _trial(run: Planned, request: Request) -> StoredRun | None:
    read = stored_runs.read(request.out / FOLDER / run.name)
    return read if isinstance(read, StoredRun) else None


def _score(runs: Sequence[StoredRun | None]) -> float:
    """Return the mean final accuracy on the validation streams; -1 if a trial failed."""
    done = [run for run in runs if run is not None]
    return statistics.fmean(run.metric("final_accuracy") for run in done) if len(done) == len(runs) else -1.0
