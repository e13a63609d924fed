"""Plans a grid of runs: everything is resolved and checked before anything is computed."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clbench.base.events import Listener, Note, Track
from clbench.base.recipe import Recipe
from clbench.data.datasets import BUILTIN, data_folder, describe, expected, fetch
from clbench.errors import MachineError, UsageError
from clbench.plugins.discovery import Plugin, discover, without_dialects
from clbench.plugins.module_loading import require_room_for_torch
from clbench.results import protocol_building
from clbench.results import spec_building as specs
from clbench.results.run_spec import RunSpec, folder_name, run_id
from clbench.results.spec_building import Machine, Method, SpecBuilder
from clbench.results.store import check_results_folder
from clbench.runs.benchmark_scenario import with_dataset
from clbench.runs.kept_networks import Keep, kept, refuse_what_cannot_be_kept
from clbench.runs.option import options_of
from clbench.runs.own_images import are_images, scenario_of
from clbench.runs.parallelism import check_threads, jobs_from
from clbench.runs.preflight import check_protocol, check_strategy, unlearnable_classes
from clbench.runs.request import Request
from clbench.runs.scenario_images import with_images
from clbench.runs.selection import ALL, Chosen, choose_strategies, load_class, select_scenarios
from clbench.system import gc_freeze
from clbench.system.suggestions import did_you_mean
from clbench.trackers.registry import tracked

MANY_SEEDS = 100
"""A larger number of seeds gets a note, since it may be meant as one seed."""


@dataclass(frozen=True)
class Planned:
    """One run of the grid."""

    spec: RunSpec
    plugin: Plugin
    network: Path | None = None
    """The file of its network, if that is a user's own."""

    keep: Keep | None = None
    """Which of its networks are kept."""

    track: Track | None = None
    """Whether its losses and metrics are sent to listeners, and whether it keeps them."""

    @functools.cached_property
    def run_id(self) -> str:
        """Hash of its spec."""
        return run_id(self.spec)

    @functools.cached_property
    def name(self) -> str:
        """Its folder in the results."""
        return folder_name(self.spec, self.run_id)


def experiment_name(planned: Sequence[Planned]) -> str:
    """Return what the runs of a command have in common, as a name: `splitdigits-naive-lwf-3f2a91c0`.

    The same runs have the same name, and other runs another.
    """
    scenarios, strategies = (
        list(dict.fromkeys(run.name.split("/")[position] for run in planned)) for position in (0, 1)
    )
    digest = hashlib.sha256("\n".join(sorted(run.name for run in planned)).encode()).hexdigest()[:8]
    more = [f"{len(strategies) - 4}-more"] if len(strategies) > 4 else []
    return "-".join([*scenarios[:2], *strategies[:4], *more, digest])[-100:]


def most_needed(planned: Sequence[Planned]) -> tuple[int, str]:
    """Return the threads and the device of the runs that need most; the grids of a study may differ in both."""
    return max(run.spec.threads for run in planned), max(run.spec.device for run in planned)  # cuda is more than cpu


def plan(request: Request, notify: Listener, bring: bool = True) -> list[Planned]:
    """Resolve and check every run of the grid; compute nothing. Missing datasets are fetched or imported.

    Without `bring` they are not: the runs of a built-in dataset are planned nevertheless, with an empty
    `dataset_sha256`, and a note says what is missing; those of a benchmark that was never built are left out.

    Raises UsageError, PluginError, DataError or MachineError before anything is trained.
    """
    check_results_folder(request.out)
    if len(set(request.seeds)) != len(request.seeds):
        raise UsageError(f"--seeds needs at least one seed, and none twice (got {list(request.seeds)})")
    if request.jobs is not None:
        jobs_from(str(request.jobs))
    keep = kept(request.keep_networks)
    track = tracked(request.track)
    if request.tune not in (None, "chf", "grid"):
        raise UsageError(
            f"--tune must be 'chf' or 'grid' (got '{request.tune}'){did_you_mean(request.tune, ('chf', 'grid'))}"
        )
    if (count := len(request.seeds)) > MANY_SEEDS:
        notify(Note(f"{count} seeds; for the seed {count} alone: --seed {count}"))
    strategies = choose_strategies(request.strategy, notify)
    require_room_for_torch()
    from clbench.runs import chosen_network  # imports torch

    gc_freeze.freeze_imports()
    values = divided(request.set)
    wanted = chosen_network.asked(values.network, request.weights)
    _check_names(values.recipe, strategies)
    recipe_values = _with_network(values.recipe, request.network)
    for field in ("epochs", "iterations"):
        if request.epochs is not None and field in recipe_values:
            raise UsageError(f"--epochs and --set recipe.{field} are both given", "Give one of them.")
    folder = data_folder(request.data)
    protocols = []
    for plugin in _scenarios(request, folder, notify, bring):
        scenario = with_dataset(plugin, load_class(plugin), folder, lambda text: notify(Note(text)), bring)
        scenario = scenario and with_images(scenario, folder, notify, bring)
        if scenario is None:
            continue
        with _explaining_lists(request):
            protocols.append(
                protocol_building.protocol(
                    plugin,
                    scenario,
                    request.recipe,
                    request.epochs,
                    request.split,
                    request.class_order,
                    request.setting,
                    recipe_values,
                    lambda recipe: wanted.changes(_selector(request, recipe), recipe.network_config),
                    (request.stream, values.stream),
                )
            )
    with _explaining_lists(request):
        methods = methods_of(strategies, values.strategies)
    if keep:
        refuse_what_cannot_be_kept(methods)
    machine = machine_for(request.device, request.threads, here=request.on == "local")
    planned = []
    for protocol in protocols:
        dataset = protocol.scenario.dataset
        if bring or dataset not in BUILTIN:
            info = describe(dataset, folder) or fetch(dataset, folder, lambda text: notify(Note(text)))
        elif (there := describe(dataset, folder)) is not None:
            info = there
        else:
            info = expected(dataset)
            size = BUILTIN[dataset].download_megabytes
            notify(Note(f"{dataset} is not in {folder} yet; the run prepares or downloads it first ({size} MB)"))
        shape = chosen_network.padded(info.shape, protocol.recipe.padding)
        network, file = chosen_network.choose_network(
            _selector(request, protocol.recipe), wanted.under(protocol.recipe.network_config), shape, folder
        )
        if text := chosen_network.without_augmentation(protocol):
            notify(Note(text))
        builder = SpecBuilder(protocol, info, machine, request.held_out, network)
        tunings = [method.search() if request.tune == "chf" else request.tuning for method in methods]
        if list(request.strategy) == [ALL]:
            refused = _refused(builder, methods, tunings, request.seeds[0], shape, folder, file)
            if len(refused) == len(methods):
                raise next(iter(refused.values()))
            if refused:
                share = f"{len(refused)} of {len(methods)} strategies"
                names = ", ".join(refused)
                are = "is" if len(refused) == 1 else "are"
                notify(Note(f"{share} cannot be run here and {are} left out: {names} (-s NAME says why)"))
            of_method = [pair for pair in zip(methods, tunings, strict=True) if pair[0].plugin.name not in refused]
        else:
            of_method = list(zip(methods, tunings, strict=True))
        for seed in request.seeds:
            for method, tuning in of_method:
                spec = builder.build(method, seed, tuning)
                planned.append(Planned(spec, method.plugin, file, keep, track))
                if info.sha256:
                    check_protocol(spec, info, folder)
                if seed == request.seeds[0]:
                    check_strategy(spec, method.plugin, method.strategy, shape, folder, file)
                    if text := unlearnable_classes(spec, method.plugin, method.strategy):
                        notify(Note(text))
    return planned


def _refused(
    builder: SpecBuilder,
    methods: Sequence[Method],
    tunings: Sequence[Any],
    seed: int,
    shape: tuple[int, int, int],
    folder: Path,
    file: Path | None,
) -> dict[str, UsageError]:
    """Return why some strategies cannot be run under a protocol, by name."""
    refused = {}
    for method, tuning in zip(methods, tunings, strict=True):
        try:
            spec = builder.build(method, seed, tuning)
            check_strategy(spec, method.plugin, method.strategy, shape, folder, file)
        except UsageError as error:
            refused[method.plugin.name] = error
    return refused


def _scenarios(request: Request, folder: Path, notify: Listener, bring: bool) -> list[Plugin]:
    """Return the scenarios that are named, including those of folders of images."""
    selectors = [scenario_of(name, folder, notify, bring) if are_images(name) else name for name in request.scenario]
    found = [selector for selector in selectors if selector is not None]
    return select_scenarios(found) if found or not selectors else []


@contextlib.contextmanager
def _explaining_lists(request: Request) -> Iterator[None]:
    """Say what a list of values needs, if one is refused."""
    try:
        yield
    except UsageError as error:
        lists = [name for name, value in request.set.items() if "," in str(value) and not name.startswith("stream.")]
        if not error.hint and lists and request.tune != "grid":
            raise UsageError(error.message, "To choose the best of several values, add --tune grid.") from None
        raise


_OF_NO_STRATEGY = ("recipe", "network", "stream")
"""What `--set` gives values to besides strategies."""


@dataclass(frozen=True)
class Divided:
    """Values that the user set, by what they belong to."""

    recipe: dict[str, Any]
    """By path within the recipe."""

    network: dict[str, Any]
    stream: dict[str, Any]
    strategies: dict[str, Any]
    """By `strategy.name`, or by `name`."""


def divided(values: Mapping[str, Any]) -> Divided:
    """Divide the values that the user set."""

    def of(owner: str) -> dict[str, Any]:
        return {name.removeprefix(owner): value for name, value in values.items() if name.startswith(owner)}

    owners = tuple(f"{owner}." for owner in _OF_NO_STRATEGY)
    others = {name: value for name, value in values.items() if not name.startswith(owners)}
    return Divided(of("recipe."), of("network."), of("stream."), others)


def _with_network(recipe_values: Mapping[str, Any], network: str | None) -> dict[str, Any]:
    """Return the values of the recipe, with `--network` among them by the network's name."""
    from clbench.runs.chosen_network import network_name  # imports torch

    if network is None:
        return dict(recipe_values)
    if "network" in recipe_values:
        raise UsageError("--network and --set recipe.network are both given", "Give one of them.")
    return {**recipe_values, "network": network_name(network)}


def _check_names(recipe_values: Mapping[str, Any], chosen: Sequence[Chosen]) -> None:
    """Raise UsageError for `of_strategy.NAME.…` if there is no strategy of that name."""
    named = {path.split(".")[1]: path for path in recipe_values if path.startswith("of_strategy.")}
    if unknown := set(named) - {each.plugin.name for each in chosen}:
        known = [plugin.name for plugin in without_dialects(discover("strategy"))]
        for name in sorted(unknown - set(known)):
            raise UsageError(f"recipe.{named[name]}: there is no strategy '{name}'{did_you_mean(name, known)}")


def _selector(request: Request, recipe: Recipe) -> str:
    """Return what selects the network: `--network`, which may be a path, or the recipe's name."""
    return request.network or recipe.network


def given_to(strategies: Sequence[Chosen], values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the hyper-parameters set for each strategy, by its name, or by name and preset for that one only.

    `avalanche` stands for all of Avalanche's own strategies that run.
    """
    given: dict[str, dict[str, Any]] = {chosen.name: {} for chosen in strategies}
    owners = {owner for chosen in strategies for owner in chosen.owners}
    for key, value in values.items():
        owner, dot, name = key.rpartition(".")
        if not dot:
            is_a_hyper_parameter = any(key in {field.name for field in chosen.plugin.fields} for chosen in strategies)
            if key in Recipe.__dataclass_fields__ and not is_a_hyper_parameter:
                raise UsageError(f"--set {key}: it is a field of the recipe", f"--set recipe.{key}={value}")
            if key in options_of(Request) and not is_a_hyper_parameter:
                raise UsageError(f"--set {key}: '{key}' is an option by itself", f"--{key.replace('_', '-')} {value}")
            if len(strategies) > 1:
                raise UsageError(f"--set {key}: name the strategy, for example {strategies[0].name}.{key}={value}")
            owner = strategies[0].name
        if owner not in owners:
            known = ", ".join(sorted(owners))
            meant = did_you_mean(key.partition(".")[0], [*owners, *_OF_NO_STRATEGY])
            raise UsageError(f"--set {key}: strategy '{owner}' is not among those to run{meant} ({known})")
        for chosen in strategies:
            if owner in chosen.owners:
                if name in given[chosen.name]:
                    raise UsageError(f"--set {owner}.{name} is given twice")
                given[chosen.name][name] = value
    return given


def methods_of(strategies: Sequence[Chosen], values: Mapping[str, Any]) -> list[Method]:
    """Return strategies with the hyper-parameters that the user set, by `strategy.name`; see `given_to`."""
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
                f"Select one of them, or the file that defines them: -s {dialect.name}",
            )


def machine_for(device: str, threads: int, here: bool = True) -> Machine:
    """Return what to compute with: on this machine or, if not `here`, on others, which may have a GPU if it has none.

    Raises UsageError for a device or threads that no machine has, and MachineError for a device that this one lacks.
    """
    check_threads(threads)
    if device not in ("auto", "cpu", "cuda"):
        known = ("auto", "cpu", "cuda")
        if device.lower().partition(":")[0] in ("gpu", "nvidia", "cuda"):
            raise UsageError(f"there is no device '{device}'", "A GPU is --device cuda.")
        raise UsageError(f"--device must be one of {', '.join(known)} (got '{device}'){did_you_mean(device, known)}")
    if device == "cpu":
        return Machine("cpu", threads)
    # Must be set before CUDA starts; without it cuBLAS may sum in another order each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    available = torch.cuda.is_available() or (device == "cuda" and not here)
    if device == "cuda" and not available:
        raise MachineError("torch finds no CUDA device", "Leave out --device, or use --device cpu.")
    return Machine("cuda" if available else "cpu", threads)
