"""A grid of runs: planned and checked whole before anything is computed, then done, one or several at once."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clbench.base.events import Listener, Note
from clbench.data.datasets import data_folder, describe, fetch
from clbench.errors import MachineError, UsageError
from clbench.plugins import discovery
from clbench.plugins.discovery import Kind, Plugin
from clbench.results import spec as specs
from clbench.results.run_spec import GridTuning, RunSpec, folder_name
from clbench.results.spec import Machine, Method
from clbench.runs.parallelism import Jobs, jobs_from, threads_of_a_run
from clbench.system.global_state import GlobalState
from clbench.system.seeds import LARGEST
from clbench.system.suggestions import did_you_mean

ALL = "all"

# As many digits as the largest seed has; Python refuses to convert thousands of them.
_NUMBER = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True)
class Request:
    """What the user asks for, as typed."""

    strategies: Sequence[str]
    """Names or paths, with a preset `lwf:pycil`; `all` stands for every strategy that can be found."""

    scenarios: Sequence[str]
    recipe: str | None = None
    seeds: Sequence[int] = (0,)
    values: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters, by `strategy.name`, or by `name` where only one strategy is asked for."""

    split: str | None = None
    class_order: str | None = None
    epochs: int | None = None
    setting: str | None = None
    tune: str | None = None
    """`chf` or `grid`: how hyper-parameters are chosen; None leaves them as they are."""

    held_out: float = 0.0
    """Share of the training data that takes the place of the test set, to judge candidates by."""

    tuning: GridTuning | None = None
    """What chose the hyper-parameters of these runs, for their specs."""

    device: str = "auto"
    threads: int | None = None
    jobs: Jobs = 1
    share: bool = True
    """Whether a first experience that several runs learn alike is trained once; no number depends on it."""

    results: Path = Path("results")
    data: Path | None = None


@dataclass(frozen=True)
class Planned:
    """One run of the grid."""

    spec: RunSpec
    plugin: Plugin

    @property
    def name(self) -> str:
        """Its folder in the results."""
        return folder_name(self.spec)


def seeds_from(text: str) -> tuple[int, ...]:
    """Return the seeds that `text` asks for: `5` the first five (0 to 4), `0,3` these, `7,` this one, or UsageError."""
    parts = [part.strip() for part in text.split(",")]
    if parts[-1] == "" and len(parts) > 1:
        parts.pop()
    elif len(parts) == 1:
        if not _NUMBER.fullmatch(parts[0]) or not 1 <= int(parts[0]) <= 10_000:
            raise UsageError(f"--seeds {text}: a number of seeds from 1 to 10000, or a list: 0,3 (one seed: 3,)")
        return tuple(range(int(parts[0])))
    if not all(_NUMBER.fullmatch(part) for part in parts):
        raise UsageError(f"--seeds {text}: seeds are whole numbers from 0 to {LARGEST}")
    return tuple(int(part) for part in parts)


def plan(request: Request, notify: Listener) -> list[Planned]:
    """Resolve and check every run of the grid. Brings in datasets that are missing; computes nothing.

    Raises UsageError, PluginError, DataError or MachineError before anything is trained.
    """
    if len(set(request.seeds)) != len(request.seeds) or not request.seeds:
        raise UsageError(f"seeds {', '.join(map(str, request.seeds))}: name at least one, and each once")
    jobs_from(str(request.jobs))
    if request.tune not in (None, "chf", "grid"):
        raise UsageError(f"--tune {request.tune}: chf or grid{did_you_mean(request.tune, ('chf', 'grid'))}")
    strategies = choose_strategies(request.strategies, notify)
    recipe_values, values = divided(request.values)
    if request.epochs is not None and "epochs" in recipe_values:
        raise UsageError("--epochs and --set recipe.epochs are both given", "Give one of them.")
    protocols = []
    for plugin in _select("scenario", request.scenarios):
        scenario = load_class(plugin)
        protocols.append(
            specs.protocol(
                plugin,
                scenario,
                request.recipe,
                request.epochs,
                request.split,
                request.class_order,
                request.setting,
                recipe_values,
            )
        )
    methods = _methods(strategies, values)
    machine = _machine(request)
    folder = data_folder(request.data)
    planned = []
    for protocol in protocols:
        dataset = protocol.scenario.dataset
        info = describe(dataset, folder) or fetch(dataset, folder, lambda text: notify(Note(text)))
        for seed in request.seeds:
            for method in methods:
                tuning = method.search() if request.tune == "chf" else request.tuning
                spec = specs.build(protocol, method, seed, info, machine, request.held_out, tuning)
                planned.append(Planned(spec, method.plugin))
    return planned


@dataclass(frozen=True)
class Chosen:
    """A strategy as the user named it."""

    plugin: Plugin
    preset: str | None = None

    @property
    def name(self) -> str:
        """`lwf`, or with a preset `lwf:pycil`."""
        return f"{self.plugin.name}:{self.preset}" if self.preset else self.plugin.name

    @property
    def typed(self) -> str:
        """What selects it again, wherever it comes from."""
        return f"{self.plugin.path}:{self.preset}" if self.preset else str(self.plugin.path)


def choose_strategies(wanted: Sequence[str], notify: Listener) -> list[Chosen]:
    """Return the strategies of these names, files and presets, or all. Raises UsageError and PluginError."""
    if list(wanted) == [ALL]:
        found = discovery.without_dialects(discovery.discover("strategy"))
        for plugin in found:
            if plugin.problem:
                notify(Note(f"strategy {plugin.name} ({plugin.path}) is broken and left out: {plugin.problem}"))
        return [Chosen(discovery.select("strategy", plugin.name)) for plugin in found if not plugin.problem]
    chosen = []
    for name in _distinct(wanted, "strategy"):
        file, colon, preset = name.rpartition(":")
        if not colon or "/" in preset or preset.endswith(".py"):
            file, preset = name, ""
        elif not preset:
            raise UsageError(f"strategy {name}: name the preset after the colon; see: clbench show {file}")
        chosen.append(Chosen(discovery.select("strategy", file, preset), preset or None))
    for one in chosen:
        if [other.name for other in chosen].count(one.name) > 1:
            raise UsageError(f"strategy {one.name} is named twice: {', '.join(wanted)}")
    return chosen


def _distinct(names: Sequence[str], kind: Kind) -> Sequence[str]:
    if not names or "" in names:
        raise UsageError(f"no {kind} is named", f"Known ones: clbench list {discovery.FOLDERS[kind]}")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{kind} {name} is named twice")
    return names


def _select(kind: Kind, names: Sequence[str]) -> list[Plugin]:
    chosen: dict[str, Plugin] = {}
    for name in _distinct(names, kind):
        plugin = discovery.select(kind, name)
        if plugin.name in chosen:
            raise UsageError(f"{kind} {plugin.name} is named twice: {', '.join(names)}")
        chosen[plugin.name] = plugin
    return list(chosen.values())


def load_class(plugin: Plugin) -> type[Any]:
    """Load a plug-in for planning: what it prints is no result, and what it changes is put back."""
    state = GlobalState()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return discovery.load(plugin)
    finally:
        state.restore()


def divided(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return which of the values are the recipe's, by path within it, and which are the strategies'."""
    of_recipe = {name.removeprefix("recipe."): value for name, value in values.items() if name.startswith("recipe.")}
    return of_recipe, {name: value for name, value in values.items() if not name.startswith("recipe.")}


def given_to(strategies: Sequence[Chosen], values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the hyper-parameters set for each strategy, by its name, or by name and preset for that one only."""
    given: dict[str, dict[str, Any]] = {chosen.name: {} for chosen in strategies}
    owners = {*given, *(chosen.plugin.name for chosen in strategies)}
    for key, value in values.items():
        owner, dot, name = key.rpartition(".")
        if not dot:
            if len(strategies) > 1:
                raise UsageError(f"--set {key}: say of which strategy, for example {strategies[0].name}.{key}={value}")
            owner = strategies[0].name
        if owner not in owners:
            known = ", ".join(sorted(owners))
            raise UsageError(
                f"--set {key}: strategy '{owner}' does not run here{did_you_mean(owner, owners)} ({known})"
            )
        for chosen in strategies:
            if owner in (chosen.name, chosen.plugin.name):
                if name in given[chosen.name]:
                    raise UsageError(f"--set {owner}.{name} is given twice")
                given[chosen.name][name] = value
    return given


def _methods(strategies: Sequence[Chosen], values: Mapping[str, Any]) -> list[Method]:
    given = given_to(strategies, values)
    for each in strategies:
        for name in given[each.name]:
            _refuse_a_dialects_field(each.plugin, name)
    return [specs.method(each.plugin, load_class(each.plugin), given[each.name], each.preset) for each in strategies]


def _refuse_a_dialects_field(plugin: Plugin, name: str) -> None:
    """Raise UsageError for a hyper-parameter that only the dialects of the strategy have."""
    for dialect in plugin.dialects:
        name = dialect.renamed.get(name, name)
        if name in {field.name for field in dialect.fields} - {field.name for field in plugin.fields}:
            presets = ", ".join(f"{plugin.name}:{preset}" for preset in dialect.presets)
            raise UsageError(
                f"{plugin.name} has no hyper-parameter '{name}' of its own; these presets have it: {presets}",
                f"Select one of them, or the file that they are in: -s {dialect.name}",
            )


def _machine(request: Request) -> Machine:
    threads = threads_of_a_run(request.threads, request.jobs)
    if request.device not in ("auto", "cpu", "cuda"):
        known = ("auto", "cpu", "cuda")
        raise UsageError(
            f"no device '{request.device}'{did_you_mean(request.device, known)} (known: {', '.join(known)})"
        )
    if request.device == "cpu":
        return Machine("cpu", threads)
    # Must be set before CUDA starts; without it cuBLAS may sum in another order each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    available = torch.cuda.is_available()
    if request.device == "cuda" and not available:
        raise MachineError("there is no CUDA device that torch can use", "Leave out --device, or say --device cpu.")
    return Machine("cuda" if available else "cpu", threads)
