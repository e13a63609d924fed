"""Checks planned runs before any is trained, from their strategies, networks and training labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.base.batch import Batch, Classes
from clbench.base.config import configure
from clbench.base.continual_tuning import ContinualTuning
from clbench.base.experience import Experience
from clbench.base.strategy import Strategy, config_class
from clbench.data.dataset_info import DatasetInfo
from clbench.data.datasets import class_counts
from clbench.errors import UsageError
from clbench.plugins.discovery import Plugin, discover
from clbench.results.run_spec import RunSpec, ScenarioSpec, StrategySpec, experience_classes
from clbench.streams.image_domains import Domains
from clbench.streams.kinds import KINDS, name_of, stream_kind
from clbench.streams.stream_kind import StreamKind
from clbench.system.global_state import GlobalState
from clbench.system.signals import Interrupted

if TYPE_CHECKING:
    from torch import Tensor

    from clbench.networks.network import Network


def check_protocol(spec: RunSpec, data: DatasetInfo, folder: Path) -> None:
    """Raise UsageError if the hyper-parameters, or the end of training, cannot be chosen in each experience, or if an
    experience has no test images."""
    recipe, tuning = spec.recipe.config.for_strategy(spec.strategy.name), spec.tuning
    made, counts = makes_domains(spec.scenario), class_counts(data, folder)
    _check_stream(spec, counts)
    if isinstance(tuning, ContinualTuning):
        _check_criterion(spec)
    elif recipe.validation and recipe.schedule != "plateau":
        raise UsageError(
            f"recipe.validation = {recipe.validation:g} only leaves out training data here: nothing reads what is held "
            "out but schedule plateau, or --tune chf",
            "Set recipe.validation=0, or recipe.schedule=plateau.",
        )
    share = recipe.validation or (tuning.validation if isinstance(tuning, ContinualTuning) else 0.0)
    if share or spec.scenario.held_out:
        _check_held_out(spec, counts * len(spec.scenario.domains or ()) if made else counts)
    if not spec.scenario.held_out and not made:
        _check_tested(spec, data, class_counts(data, folder, "test"))


def makes_domains(scenario: ScenarioSpec) -> bool:
    """Return whether domains are made from the dataset's images instead of being domains of the dataset."""
    return scenario.stream is not None and issubclass(KINDS[scenario.stream.name], Domains)


def _check_stream(spec: RunSpec, counts: Sequence[int]) -> None:
    """Raise UsageError for what the kind of stream does not allow; `counts` are the training images by class."""
    scenario = spec.scenario
    if scenario.stream is None:
        return
    kind = stream_kind(scenario.stream.name, scenario.stream.options)
    if not isinstance(kind, Domains):
        kind.check_images([counts[each] for each in scenario.class_order], scenario.stream.split)
    made = makes_domains(scenario)
    if isinstance(spec.tuning, ContinualTuning) and (made or 0 in scenario.classes_per_experience):
        raise UsageError(
            "--tune chf chooses by the classes that an experience brings, but on the stream "
            f"{scenario.stream.name} some experiences bring none, or none of their own",
            "Choose --tune grid.",
        )


def _check_criterion(spec: RunSpec) -> None:
    single = [index for index, size in enumerate(spec.scenario.classes_per_experience) if size == 1]
    if single:
        raise UsageError(
            "--tune chf chooses by the accuracy among an experience's own classes, which is always 100 % if there is "
            f"only one ({_experiences(single)})",
            "Choose a --split with at least two classes in each experience, or --tune grid.",
        )


def _check_held_out(spec: RunSpec, counts: Sequence[int]) -> None:
    none = [i for i, own in enumerate(experience_classes(spec)) if own and all(counts[label] < 2 for label in own)]
    if none:
        raise UsageError(
            f"{spec.scenario.name} has no image to hold out for validation in {_experiences(none)}: each class there "
            "has a single training image",
            "Merge these experiences with others (--split), or leave out what needs validation data: --tune, or a "
            "recipe with validation > 0.",
        )


def _check_tested(spec: RunSpec, data: DatasetInfo, counts: Sequence[int]) -> None:
    """Raise UsageError if no class of an experience has test images: it would have no accuracy. Single classes without
    test images are left out of the averages."""
    untested = [i for i, own in enumerate(experience_classes(spec)) if own and not any(counts[label] for label in own)]
    if untested:
        names = [data.classes[label] for i in untested for label in experience_classes(spec)[i]]
        raise UsageError(
            f"{spec.scenario.name}: no class of {_experiences(untested)} has test images "
            f"({', '.join(names[:5])}{', …' if len(names) > 5 else ''}), so what is learned there cannot be measured",
            "Give them test images, or merge these experiences with others (--split).",
        )


def check_strategy(
    spec: RunSpec,
    plugin: Plugin,
    cls: type[Strategy[Any]],
    shape: tuple[int, int, int],
    folder: Path,
    file: Path | None,
) -> None:
    """Raise UsageError if the strategy, in its configuration, does not accept the stream or the network of the run.

    `shape`, `folder` and `file` as in runs.initial_network.
    """
    _check_returning(spec, plugin, cls)
    if cls.start is Strategy.start:
        return
    state = GlobalState()
    from clbench.runs.initial_network import initial_network  # torch

    def refusal_of(fixed: bool | None) -> UsageError | None:
        return _refusal(spec, cls, initial_network(spec, shape, folder, file), fixed)

    try:
        if (refusal := refusal_of(None)) is not None:
            problem = f"{spec.strategy.selector} on {spec.scenario.name}, recipe {spec.recipe.name}: {refusal.message}"
            raise UsageError(problem, refusal.hint or _remedy(spec, refusal_of)) from None
    finally:
        state.restore()


def _refusal(spec: RunSpec, cls: type[Any], network: Network, fixed: bool | None) -> UsageError | None:
    """Return why the strategy refuses the network; `fixed` replaces the recipe's kind of head unless None."""
    if fixed is not None:
        network.head.fixed = fixed
    try:
        cls(configure(config_class(cls), spec.strategy.config, spec.strategy.name)).start(network)
    except UsageError as error:
        return error
    except (Interrupted, KeyboardInterrupt):
        raise
    except BaseException:  # a fault of its own, which its run reports with a traceback, and which concerns no other run
        return None
    return None


def _remedy(spec: RunSpec, refusal_of: Callable[[bool | None], UsageError | None]) -> str:
    other = "growing" if spec.recipe.config.head == "fixed" else "fixed"
    if refusal_of(other == "fixed") is None:
        return f"It accepts --set recipe.head={other}; for a recipe that has it, see clbench show {spec.scenario.name}"
    return ""


def _experiences(indices: Iterable[int]) -> str:
    given = [str(index) for index in indices]
    shown = ", ".join(given[:5]) + (", …" if len(given) > 5 else "")
    return f"experience{'s' if len(given) > 1 else ''} {shown}"


class _Answered(BaseException):
    """Raised within a loss to report which classes its cross-entropy ranges over."""

    def __init__(self, over: Classes) -> None:
        super().__init__(over)
        self.over = over


class _Question(Batch):
    """A batch without images that finds out which classes a loss's cross-entropy ranges over."""

    def cross_entropy(self, over: Classes = "seen") -> Tensor:
        """Raises _Answered."""
        raise _Answered(over)


def cross_entropy_over(
    what: StrategySpec, sizes: tuple[int, ...], cls: type[Strategy[Any]], index: int
) -> Classes | None:
    """Return which classes the strategy's first cross-entropy of an experience ranges over; None if that is not known.

    The strategy's loss is called, and ends where it calls `batch.cross_entropy`. If it needs something else before
    that, or computes a cross-entropy of its own, the run itself will notice a constant one.
    """
    nothing: Any = None
    experience = Experience(index, sizes)
    state = GlobalState()
    try:
        strategy = cls(configure(config_class(cls), what.config, what.name))
        strategy.loss(_Question(nothing, nothing, nothing, nothing, None, nothing, experience))
    except _Answered as answer:
        return answer.over
    except (Interrupted, KeyboardInterrupt):
        raise
    except BaseException:
        return None
    finally:
        state.restore()
    return None


def unlearnable_classes(spec: RunSpec, plugin: Plugin, cls: type[Strategy[Any]]) -> str | None:
    """Return a warning if the strategy's cross-entropy will be constant: a softmax over one class is always 1."""
    sizes = spec.scenario.classes_per_experience
    single = [index for index, size in enumerate(sizes) if size == 1 and index > 0]
    if not single or spec.scenario.setting != "class_incremental":
        return None
    if cross_entropy_over(spec.strategy, sizes, cls, single[0]) != "current":
        return None
    ways = over_all_classes(spec.strategy, plugin)
    return (
        f"{spec.strategy.selector}: {_experiences(single)} {'bring' if len(single) > 1 else 'brings'} one class, and "
        "its cross-entropy ranges over the new classes alone. Over one class it is always 0: it does not learn that "
        "class." + (f" To range over all classes seen: {', '.join(ways)}" if ways else "")
    )


def _check_returning(spec: RunSpec, plugin: Plugin, cls: type[Strategy[Any]]) -> None:
    """Raise UsageError if the cross-entropy ranges over new classes alone but samples of old ones return."""
    stream, sizes = spec.scenario.stream, spec.scenario.classes_per_experience
    kind = stream_kind(stream.name, stream.options) if stream else StreamKind()
    if kind.classes_return and cross_entropy_over(spec.strategy, sizes, cls, 1) == "current":
        ways = over_all_classes(spec.strategy, plugin)
        raise UsageError(
            f"{spec.strategy.selector}: its cross-entropy ranges over the new classes of an experience alone, but on "
            f"the stream {name_of(kind)} samples of old ones return",
            f"To range over all classes seen: {', '.join(ways)}" if ways else "",
        )


def over_all_classes(what: StrategySpec, plugin: Plugin) -> list[str]:
    """Return options that make a strategy's cross-entropy range over all classes seen, if there are any."""
    field = "cross_entropy_over"
    presets = {**plugin.all_presets, **_presets_of(plugin.name)}
    others = [name for name, preset in presets.items() if preset.get("set", {}).get(field) == "seen"]
    ways = [f"-s {what.name}:{name}" for name in others[:3]]
    return [f"--set {what.selector}.{field}=seen", *ways] if field in what.config else ways


def _presets_of(name: str) -> dict[str, dict[str, Any]]:
    """Return all presets of a strategy by its name, including those in other files."""
    return next((plugin.all_presets for plugin in discover("strategy") if plugin.name == name), {})
