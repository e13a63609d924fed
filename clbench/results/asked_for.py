"""Recovers the options of `clbench run` that request stored runs, by name, from the specs of these runs."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clbench.base.continual_tuning import ContinualTuning
from clbench.results.record_model import to_json
from clbench.results.run_spec import GridTuning, RunSpec, ScenarioSpec
from clbench.results.stored_run import StoredRun
from clbench.results.study_text import Asked
from clbench.streams.kinds import KINDS
from clbench.streams.splits import split_text
from clbench.streams.stream_kind import StreamKind

_OF_ALL = ("recipe.", "network.", "stream.")
"""Prefixes of values that are not a strategy's own."""


@dataclass(frozen=True)
class AskedFor:
    """What requests some runs, and no others."""

    sections: tuple[dict[str, Any], ...]
    """Options by name, each for a grid of runs: every strategy on every scenario with every seed."""

    lacking: tuple[str, ...]
    """What no option can express or what is not known, in sentences."""


def asked_for(runs: Iterable[StoredRun]) -> AskedFor:
    """Return what requests these runs, in as few sections as the order of the strategies allows."""
    lacking: dict[str, None] = {}
    seeds: dict[str, list[int]] = {}
    for run in runs:
        asked, missing = _of_run(run)
        lacking |= dict.fromkeys(missing)
        seeds.setdefault(json.dumps(asked), []).append(run.spec.seeds.run)
    alone = [_with_seeds(json.loads(text), own) for text, own in seeds.items()]
    return AskedFor(tuple(_over_scenarios(_over_strategies(alone))), tuple(lacking))


def _with_seeds(asked: Asked, seeds: Sequence[int]) -> dict[str, Any]:
    first = {name: asked[name] for name in ("strategy", "scenario")}
    return {**first, "seeds": sorted(set(seeds)), **asked}


def _of_run(run: StoredRun) -> tuple[dict[str, Any], list[str]]:
    """Return the options that request a run, except for its seed, and what they cannot express."""
    spec, lacking = run.spec, []
    recipe, _, epochs = (spec.recipe.base or spec.recipe.name).partition("-epochs")
    changes = dict(spec.recipe.changes)
    asked: dict[str, Any] = {"strategy": [spec.strategy.selector], "scenario": [spec.scenario.name], "recipe": recipe}
    asked |= {"epochs": int(epochs)} if epochs.isdecimal() else {}
    if stream := changes.pop("stream", None):
        asked["stream"] = stream
    if network := changes.pop("network", None):
        asked["network"] = network
    if weights := changes.pop("network.weights", None):
        asked["weights"] = weights
    if spec.network.weights == "file":
        asked["weights"] = f"./{weights}.safetensors"
        lacking.append(
            f"The initial weights {weights} of network {spec.network.name} came from a file whose path is not "
            f"known: replace {asked['weights']} with it."
        )
    asked |= of_scenario(spec.scenario)
    if spec.scenario.stream and spec.scenario.stream.name not in KINDS:
        lacking.append(f"{spec.scenario.name}: this clbench has no stream {json.dumps(spec.scenario.stream.name)}.")
    if spec.scenario.name == spec.scenario.dataset and re.search(r"-[0-9a-f]{8}$", spec.scenario.name):
        lacking.append(
            f"{spec.scenario.name} was made from a folder of images or a file whose path is not known: replace the "
            "name with it."
        )
    if spec.scenario.held_out:
        lacking.append(
            f"{spec.scenario.name}: runs that were evaluated on {spec.scenario.held_out:.0%} of the training data, as "
            "--tune grid makes them, cannot be requested."
        )
    values = {name if name.startswith(_OF_ALL) else f"recipe.{name}": each for name, each in changes.items()}
    own = _own_values(run)
    if isinstance(spec.tuning, ContinualTuning):
        asked["tune"] = "chf"
        weight = spec.tuning.weight
        if weight and spec.tuning.start == spec.strategy.config.get(weight):  # the search began where it was told to
            own[weight] = spec.tuning.start
    elif isinstance(spec.tuning, GridTuning):
        asked["tune"] = "grid"
        tried, missing = _tried(spec, spec.tuning)
        lacking += missing
        own = {name: each for name, each in tried.items() if not name.startswith(_OF_ALL)}
        streams = {name: each for name, each in values.items() if name.startswith("stream.")}  # which are not searched
        values = {name: each for name, each in tried.items() if name not in own} | streams
    lacking += [
        f"{spec.strategy.selector}.{name} = {json.dumps(value)} cannot be written in a study."
        for name, value in own.items()
        if not _can_be_said(value)
    ]
    own = {name: value for name, value in own.items() if _can_be_said(value)}
    set_ = {f"{spec.strategy.selector}.{name}": value for name, value in own.items()}
    set_ |= {name: "none" if value is None else value for name, value in values.items()}
    return {**asked, "device": spec.device, "threads": spec.threads, "set": set_}, lacking


def of_scenario(scenario: ScenarioSpec) -> dict[str, Any]:
    """Return the options that request the stream of a scenario."""
    order: Any = scenario.class_order_from
    if order == "list":
        order = list(scenario.class_order)
        names = scenario.class_names
        if names and all(name == name.strip() and name and "," not in name for name in names):
            order = [names[each] for each in order]
    asked = {"setting": scenario.setting.partition("_")[0]}
    kind = KINDS.get(scenario.stream.name, StreamKind) if scenario.stream else StreamKind
    if kind.takes_split:
        split = scenario.stream.split if scenario.stream else scenario.classes_per_experience
        asked["split"] = split_text(split)
    return {**asked, "class_order": order} if kind.takes_split or not scenario.domains else asked


def _own_values(run: StoredRun) -> dict[str, Any]:
    """Return the hyper-parameters that differ from those of the strategy's preset."""
    usual = run.facts.strategy.preset_values
    config: Mapping[str, Any] = to_json(run.spec.strategy.config)
    return {name: value for name, value in config.items() if name not in usual or usual[name] != value}


def _can_be_said(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(isinstance(each, str | int | float | bool) for each in values)


def _tried(spec: RunSpec, tuning: GridTuning) -> tuple[dict[str, Any], list[str]]:
    """Return the values that a grid search chose from, several as a list, and what is lacking."""
    candidates = [dict(each.values) for each in tuning.candidates]
    values = {name: list(dict.fromkeys(each[name] for each in candidates)) for name in candidates[0]}
    # They are tried as the digits of a counter run: the last of several lists changes first.
    lists = sorted(
        (name for name, tried in values.items() if len(tried) > 1),
        key=lambda name: -next(i for i, each in enumerate(candidates) if each[name] != candidates[0][name]),
    )
    fixed = {name: tried[0] for name, tried in values.items() if name not in lists}
    again = [
        {**fixed, **dict(zip(lists, each, strict=True))}
        for each in itertools.product(*(values[name] for name in lists))
    ]
    lacking = [] if again == candidates else [f"What the grid search of {spec.strategy.selector} tried is not a grid."]
    return {**fixed, **{name: values[name] for name in lists}}, lacking


# -- several runs in one section --------------------------------------------------------------------------------------


def _over_strategies(alone: Sequence[Asked]) -> list[dict[str, Any]]:
    """Merge sections that request different strategies in the same way."""
    sections: list[dict[str, Any]] = []
    for each in alone:
        for section in sections:
            if _can_join(each["strategy"][0], section["strategy"]) and _shared(section) == _shared(each):
                section["strategy"] = [*section["strategy"], *each["strategy"]]
                section["set"] = {**_own(section), **_own(each), **_of_all(each)}
                break
        else:
            sections.append(dict(each))
    return sections


def _can_join(selector: str, others: Sequence[str]) -> bool:
    """Return whether a strategy can join others: what is set for `lwf` would be set for `lwf:pycil` too."""
    name = selector.partition(":")[0]
    alone = {selector, name} if selector != name else {name, *(each for each in others if each.startswith(f"{name}:"))}
    return alone.isdisjoint(others)


def _shared(section: Asked) -> Any:
    """Return everything but the strategies and their own values."""
    return [{name: section[name] for name in section if name not in ("strategy", "set")}, [*_of_all(section).items()]]


def _of_all(section: Asked) -> dict[str, Any]:
    return {name: each for name, each in section["set"].items() if name.startswith(_OF_ALL)}


def _own(section: Asked) -> dict[str, Any]:
    return {name: each for name, each in section["set"].items() if name not in _of_all(section)}


def _over_scenarios(sections: Sequence[Asked]) -> list[dict[str, Any]]:
    """Merge sections that differ only in their scenarios."""
    together: dict[str, dict[str, Any]] = {}
    for section in sections:
        alike = json.dumps({**section, "scenario": None, "strategy": sorted(section["strategy"])}, sort_keys=True)
        if alike in together:
            together[alike]["scenario"] = [*together[alike]["scenario"], *section["scenario"]]
        else:
            together[alike] = dict(section)
    return list(together.values())
