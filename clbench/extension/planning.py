"""Looks up and checks everything that `clbench extend` needs, before any image is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from clbench.base.events import Listener, Note
from clbench.data.image_folders import ImageFolder, find_images, find_unlabelled, hold_out
from clbench.data.import_checks import few
from clbench.deployment.foreign_networks import Foreign, foreign_network
from clbench.deployment.loading import load_network
from clbench.deployment.strategy_states import StrategyState, missing_states, stored_states
from clbench.deployment.trained_network import TrainedNetwork
from clbench.errors import PluginError, UsageError
from clbench.extension.candidates import strategy_spec, trunk_sha256
from clbench.extension.checks import (
    check_held_out,
    check_names,
    check_values,
    say_what_is_skipped,
    say_which_are_classes,
)
from clbench.extension.given import rows_of
from clbench.extension.prospects import Prospect, Situation, check_options, prospect, uses_the_head
from clbench.extension.recipes import EXTENDING, EXTENDING_WHOLE, check_own_values, chosen_recipe
from clbench.extension.requests import ExtendRequest
from clbench.extension.wording import reasons_in_lines, some
from clbench.plugins.discovery import discover
from clbench.results.extension_result import LeftOut
from clbench.results.run_spec import RecipeSpec, Seeds, StrategySpec
from clbench.results.spec_building import Machine, Method
from clbench.runs.chosen_network import NetworkUse, asked
from clbench.runs.planned_runs import divided, machine_for, methods_of
from clbench.runs.selection import Chosen, choose_strategies
from clbench.system.files import found_at
from clbench.system.suggestions import did_you_mean
from clbench.system.tables import listed


@dataclass(frozen=True)
class Tried:
    """A requested strategy."""

    method: Method
    spec: StrategySpec
    state: StrategyState | None
    """The state that it kept about the old classes, with the network."""

    prospect: Prospect


@dataclass(frozen=True)
class Plan:
    """A checked plan of an extension, made before any image is read."""

    request: ExtendRequest
    parent: TrainedNetwork
    states: Mapping[str, StrategyState]
    new: ImageFolder
    """Images of the classes to learn, divided for training and testing."""

    old_test: ImageFolder | None
    old_images: ImageFolder | None
    unlabelled: tuple[Path, ...]
    recipe: RecipeSpec
    use: NetworkUse
    seeds: Seeds
    machine: Machine
    tried: Sequence[Tried]
    notes: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Old and new classes, in the order of the scores."""
        old = self.parent.classes
        return (*old, *(name for name in self.new.classes if name not in old))

    @property
    def left_out(self) -> list[LeftOut]:
        """The strategies that cannot extend the network, as far as is known without training."""
        return _left_out(self.tried)

    def state_of(self, method: Method) -> StrategyState | None:
        """Return the state that a strategy kept; None if the strategy's file or the trunk has changed since."""
        return _usable(self.states.get(method.plugin.name), method, self.parent)

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of old and of new classes."""
        return len(self.parent.classes), len(self.classes) - len(self.parent.classes)


def plan(request: ExtendRequest, defaults: Sequence[str], notify: Listener) -> Plan:
    """Look up and check everything that an extension needs.

    If no strategy is requested, it is the first of the `defaults` whose statistics are kept with the network, otherwise
    the last. Raises UsageError, DataError, PluginError and MachineError.
    """
    check_values(request, (request.images, request.old_test, request.old_images, request.unlabelled))
    values = divided(request.set)
    use, own = _network_values(request, values.network)
    asked_for = choose_strategies(request.strategy, notify) if request.strategy else None
    name, base = ("extend", EXTENDING) if use.train == "head" else ("extend-whole", EXTENDING_WHOLE)
    recipe = chosen_recipe(name, base, values.recipe, request.epochs, use.train, extends=True)
    parent, states, notes = _parent(request, own)
    machine = machine_for(request.device, request.threads_at(parent.record.input.image.height))
    for note in notes:
        notify(Note(note))
    methods = methods_of(asked_for or _default(defaults, states, parent, notify), values.strategies)
    new = _new_images(request, parent.classes, notify)
    if recipe.config.validation and all(len(own) < 2 for own in new.train):
        raise UsageError("recipe.validation holds out training images, but each class has only one")
    old_test = _old_folder(request.old_test, "--old-test", parent.classes, notify)
    old_images = _old_folder(request.old_images, "--old-images", parent.classes, notify)
    added = sum(name not in parent.classes for name in new.classes)
    sizes = (len(parent.classes), added)
    missing = tuple(name for name in parent.classes if old_images is not None and name not in old_images.classes)
    situation = Situation(parent, sizes, use.train, old_images is not None, request.also_old, missing)
    tried = [_tried(method, states, recipe, situation) for method in methods]
    selectors = [each.spec.selector for each in tried]
    if twice := next((each for each in selectors if selectors.count(each) > 1), None):  # a preset that is the default
        raise UsageError(f"strategy {twice} is named twice: {', '.join(request.strategy)}")
    prospects = {each.spec.selector: each.prospect for each in tried}
    if not any(each.refusal is None for each in prospects.values()):
        refuse_all(_left_out(tried))
    settings = [f"recipe.{name}" for name in values.recipe]
    if isinstance(use.train, int):
        settings.append("network.train")
    check_options(prospects, old_images is not None, request.epochs, settings)
    check_own_values(
        values.recipe, [each.spec.name for each in tried if each.prospect.refusal is None and each.prospect.takes_steps]
    )
    if old_images is not None:
        if missing:
            notify(Note(f"--old-images has no images of {few(missing)}, which are not replayed"))
        for text in _not_stored(tried, sum(map(len, old_images.train))):
            notify(Note(text))
    return Plan(
        request,
        parent,
        states,
        new,
        old_test,
        old_images,
        find_unlabelled(request.unlabelled) if request.unlabelled is not None else (),
        recipe,
        use,
        Seeds.of(request.seed),
        machine,
        tried,
        tuple(notes),
    )


def _default(
    names: Sequence[str], states: Mapping[str, StrategyState], parent: TrainedNetwork, notify: Listener
) -> list[Chosen]:
    for name in names[:-1]:
        chosen = choose_strategies((name,), notify)
        (method,) = methods_of(chosen, {})
        if _usable(states.get(name), method, parent) is not None:
            return chosen
    return choose_strategies(names[-1:], notify)


def _not_stored(tried: Sequence[Tried], old_images: int) -> Iterator[str]:
    """Yield notes on strategies whose memory is too small for all images of old classes."""
    for each in tried:
        field = each.method.strategy.memory_field
        room = each.spec.config.get(field, 0)
        if each.prospect.refusal is None and each.prospect.uses_old_images and 0 < room < old_images:
            option = f"--set {each.spec.name}.{field}={old_images}"
            yield f"{each.spec.selector} stores at most {room} of the {old_images} old images; {option} stores all"


def _left_out(tried: Sequence[Tried]) -> list[LeftOut]:
    return [
        LeftOut(strategy=each.spec.selector, reason=each.prospect.refusal)
        for each in tried
        if each.prospect.refusal is not None
    ]


def _tried(method: Method, states: Mapping[str, StrategyState], recipe: RecipeSpec, situation: Situation) -> Tried:
    state = _usable(states.get(method.plugin.name), method, situation.parent)
    spec = strategy_spec(method, recipe.base or recipe.name, state)
    return Tried(method, spec, state, prospect(method, spec, state, situation))


def _usable(state: StrategyState | None, method: Method, parent: TrainedNetwork) -> StrategyState | None:
    if state is None or state.sha256 != method.plugin.sha256:
        return None
    return state if state.trunk_sha256 == trunk_sha256(parent.trunk) else None


def refuse_all(left_out: Sequence[LeftOut]) -> NoReturn:
    """Raise UsageError: no strategy can extend the network."""
    reasons = "\n".join(f"  {line}" for line in reasons_in_lines(left_out))
    raise UsageError(f"no strategy can extend this network:\n{reasons}")


def _network_values(request: ExtendRequest, values: Mapping[str, Any]) -> tuple[NetworkUse, dict[str, Any]]:
    wanted = asked(values, None)
    if wanted.use.size is not None:
        raise UsageError("network.size has no effect here", "The size of a network from elsewhere: --size PIXELS")
    if wanted.values and request.source is not None:
        name = next(iter(wanted.values))
        raise UsageError(f"network.{name} has no effect here: the network in {request.source} is fixed")
    return wanted.use, dict(wanted.values)


def _parent(
    request: ExtendRequest, own: Mapping[str, Any]
) -> tuple[TrainedNetwork, Mapping[str, StrategyState], list[str]]:
    """Return the network, the states kept with it, and notes on what is missing or was assumed."""
    if request.source is not None:
        for name in ("weights", "classes", "head", "size", "mean", "std", "fit"):
            if getattr(request, name) is not None:
                raise UsageError(f"--{name} is for a network from elsewhere, and {request.source} already states it")
        network = load_network(request.source, request.network)
        if network.record.setting == "task_incremental" and len(network.record.experiences) > 1:
            raise UsageError(
                "the network was trained task-incrementally: the scores of its experiences cannot be compared, so no "
                "classes can be added"
            )
        folder = request.source if request.source.is_dir() else request.source.parent
        gone = missing_states(folder)
        notes = [f"the kept statistics for {listed(gone)} are missing in {folder}"] if gone else []
        return network, stored_states(folder), notes
    missing = [f"--{name}" for name in ("network", "weights", "classes") if getattr(request, name) is None]
    if missing:
        raise UsageError(
            "no network is given" if len(missing) == 3 else f"a network from elsewhere needs {listed(missing)}, too",
            "clbench extend FOLDER …, or for a network from elsewhere: --network FILE --weights FILE --classes FILE",
        )
    assert request.network is not None and request.weights is not None and request.classes is not None
    if str(request.weights) == "pretrained" and found_at(request.weights) is None:
        raise UsageError(
            "--weights pretrained has no classes that could be extended: give a file with your own weights",
            "To train a first network from pretrained weights: clbench train --network NAME --weights pretrained",
        )
    given = Foreign(
        request.network,
        request.weights,
        request.classes,
        request.head,
        request.size,
        request.mean,
        request.std,
        request.fit or "crop",
        own,
    )
    network, assumed = foreign_network(given)
    return network, {}, [f"assumed of the network: {', '.join(assumed)}"] if assumed else []


def _new_images(request: ExtendRequest, known: Sequence[str], notify: Listener) -> ImageFolder:
    """Return the folder of new classes, divided for training and testing. Raises UsageError for unsuitable classes."""
    folder = find_images(request.images)
    check_held_out(request, folder)
    say_what_is_skipped(folder, notify)
    say_which_are_classes(folder, notify)
    already = [name for name in folder.classes if name in known]
    if len(already) == len(folder.classes):
        raise UsageError(
            f"there is no new class in {request.images}: the network already knows {some(already)}",
            "Rename a folder if it is another class, or add one. Next to a new class, --also-old trains on known ones.",
        )
    if already and not request.also_old:
        raise UsageError(
            f"the network already knows {some(already)}",
            "Rename the folder if it is another class. To train on these images as the old class: --also-old",
        )
    check_names((name for name in folder.classes if name not in known), known)
    for name, train, test in zip(folder.classes, folder.train, folder.test, strict=True):
        if len(train) + len(test) < 2 or not train:
            raise UsageError(
                f"the class {name} has {len(train) + len(test)} image{'s' if len(test) + len(train) != 1 else ''}",
                "It needs at least one image to learn from and one to test on; a few dozen are better.",
            )
    if request.also_old and not already:
        raise UsageError(
            f"--also-old has no effect here: the network knows no class in {request.images}",
            f"It knows {some(known)}.",
        )
    return hold_out(folder, request.share_held_out, request.seed)


def _old_folder(path: Path | None, option: str, known: Sequence[str], notify: Listener) -> ImageFolder | None:
    if path is None:
        return None
    folder = find_images(path)
    say_what_is_skipped(folder, notify)
    if unknown := [name for name in folder.classes if name not in known]:
        raise UsageError(
            f"{option} has classes that the network does not know: {some(unknown)}{did_you_mean(unknown[0], known)}",
            f"It knows {some(known)}.",
        )
    return folder


def kept_by(what: Plan, name: str, notify: Listener) -> Method | str:
    """Return the strategy that can update its statistics kept with a network, or why they are dropped."""
    known = {plugin.name for plugin in discover("strategy")}
    try:
        (method,) = methods_of(choose_strategies((name,), notify), {}) if name in known else (None,)
    except (PluginError, UsageError) as error:  # nobody asked for it, so that it must not end the extension
        return error.message
    if method is not None and method.strategy.statistics is None:
        return "they describe weights that it trains itself"
    if method is None or what.state_of(method) is None:
        return "the strategy is not the one that made them"
    if rows_of(what.parent) is None and uses_the_head(method.strategy):
        return "it trains a head, but the network has none"
    return method
