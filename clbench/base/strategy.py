"""The contract of a strategy: a few hooks around the training of each experience.

The harness owns the loop. For experience i it calls, in this order,

    training_data     which data it trains on; after None no hook follows, after "read" only after_experience
    reinitialize      whether it starts from new weights, without a teacher
    teacher_output    with the network as experience i-1 left it and the new data (only if the strategy has this hook)
    (the head grows by one randomly initialised row for each new class)
    before_experience
    rate_factors      with trained_modules and weight_decay: what the optimizer trains, and how fast
    frozen            before every epoch
    loss              for every batch, followed by the backward pass
    before_step       followed by the optimizer step
    after_step
    validation_loss   after every epoch, with the schedule `plateau`
    after_experience

and then evaluates a copy of the network with `predict`, and saves the state. If a strategy has a `first_loss`,
`after_experience` is the only one of these hooks that is called in the first experience.

Class labels are positions in the class order: the classes of experience 0 come first, and column c of the logits
belongs to class c. With a growing head the logits have one column per class seen so far, so a plain cross-entropy
ranges over the classes seen so far.

A strategy sees the training data of the current experience and nothing else: no earlier or later data, no test data.
The only earlier data that it has are those that it stored in an ExemplarMemory (see base/exemplars.py), whose capacity
is its config's field `memory`. What it sets on `self` is kept from one experience to the next. It must be picklable,
since it is saved after each experience.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin

from clbench.base.batch import Batch, Classes
from clbench.base.config import NoConfig
from clbench.base.experience import Experience
from clbench.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clbench.base.incremental_setting import Setting
    from clbench.base.own_loop import Training
    from clbench.base.recipe import Recipe
    from clbench.networks.network import Network

RENAMED_HOOKS = {
    "record": "teacher_output",
    "plain_start": "first_loss",
    "starts_afresh": "reinitialize",
    "answers_live": "online_teacher",
    "plugins": "clbench.avalanche.plugin_strategy.AvalancheStrategy.plugin",
}
"""Hooks by their names before 0.2, with their new names; a strategy that still uses an old one is refused."""

BOUNDARY_HOOKS = (
    "training_data",
    "reinitialize",
    "teacher_output",
    "before_experience",
    "frozen",
    "after_experience",
    "trained_modules",
    "train",
)
"""Hooks that show a strategy where experiences begin. On streams that do not tell, strategies that define one are
refused, unless their `boundary_hooks` say that they can do without."""

ConfigT = TypeVar("ConfigT")
TrainingData = Literal["current", "seen", "with_memory", "with_repeated_memory", "memory", "read"]
"""The current experience's data; all data seen so far (references only); the current data together with the exemplars
in `self.exemplars`, each once or as often as a full memory fits into the data; these exemplars alone; or no training by
gradient steps, the data only being read in `after_experience`."""


class Strategy(Generic[ConfigT]):
    """A continual-learning method. A strategy file defines exactly one subclass; its name is the file's stem."""

    reference: ClassVar[Literal["lower", "upper"] | None] = None
    """Set by a strategy that bounds comparisons from below (nothing done against forgetting) or above (all data
    kept)."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Published variants by name: `loss` is the formula, `source` the publication or code, `set` the hyper-parameters
    that differ from the defaults, and `in_setting` those that also differ in a setting. The variant without `set` is
    the default."""

    in_recipe: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Hyper-parameters that have other defaults under the recipes of a name, unless the user or a preset sets them:
    `{"quick": {"projections": 2000}}`."""

    dialects_of: ClassVar[str | None] = None
    """Set, as a plain string, by a file that holds further presets of the strategy with this name."""

    stability: ClassVar[tuple[str, float] | None] = None
    """The hyper-parameter that trades plasticity for stability, and the value that `--tune` starts from: `chf` decays
    it until the new classes are learned well enough."""

    memory_field: ClassVar[str] = "memory"
    """The config field with the number of exemplars that may be stored, if there is one."""

    statistics: ClassVar[Literal["small", "large"] | None] = None
    """Set by a strategy that learns from statistics of features. They can be stored with a network, so that classes can
    be added to it without the data: `clbench train` stores small ones (megabytes), and large ones on request."""

    only_new_classes: ClassVar[bool] = False
    """Set by a strategy that does not learn more about a class that it knows: it ignores further images of it, or their
    labels."""

    package: ClassVar[str | None] = None
    """The package, with its version, whose training loop trains the strategy; None for the harness's own loop."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for old, new in RENAMED_HOOKS.items():
            if old in vars(cls):
                raise PluginError(f"{cls.__name__}.{old} is now called {new}", "Rename the method.")

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    @classmethod
    def check_protocol(cls, config: ConfigT, recipe: Recipe, setting: Setting) -> None:
        """Raise UsageError for a recipe or setting that the strategy cannot follow; called when a run is planned."""

    @classmethod
    def boundary_hooks(cls, config: ConfigT) -> tuple[str, ...]:
        """Return the hooks for which the strategy must be told where experiences begin and end.

        A strategy that needs one is refused on streams that do not tell it. By default a strategy needs those of
        `BOUNDARY_HOOKS` that it defines.
        """
        return tuple(name for name in BOUNDARY_HOOKS if getattr(cls, name) is not getattr(Strategy, name))

    @classmethod
    def needs_passes(cls, config: ConfigT) -> bool:
        """Return whether the strategy needs several passes over an experience's data: if so, it is refused on streams
        that show them once. By default it does if its config sets `warmup_epochs`."""
        return bool(getattr(config, "warmup_epochs", 0))

    def start(self, model: Network) -> None:
        """Called once, before any data is read, with the network at its initial weights, without a head.

        The first experience starts from weights that are set here. Raise UsageError for a config that does not fit this
        network.
        """

    @property
    def memory(self) -> int:
        """Number of exemplars that may be stored: the config's field `memory_field`, or 0."""
        return int(getattr(self.config, self.memory_field, 0))

    def first_loss(self) -> Classes | None:
        """Return the classes over which the softmax ranges if the first experience is trained by plain cross-entropy.

        The harness then trains it on its own data, and calls none of the strategy's hooks before `after_experience`.
        All strategies with the same `first_loss` share that training, under the same seed and recipe. None if the
        strategy's own hooks act from the first experience on.
        """
        return None

    def training_data(self, experience: Experience) -> TrainingData | None:
        """Return what the experience trains on; see `TrainingData`. None skips the experience and its evaluation.

        Called before the experience is trained, with its `experience.samples`.
        """
        return "current"

    def reinitialize(self, experience: Experience) -> bool:
        """Return whether training starts from new initial weights instead of those of the previous experience."""
        return False

    def weight_decay(self, experience: Experience) -> float:
        """Return λ of a term ½λ‖θ‖² over all trained parameters, in addition to the recipe's weight decay.

        The optimizer `adamw` shrinks the weights by it instead of adding its gradient.
        """
        return 0.0

    def teacher_output(self, model: Network, x: Tensor, experience: Experience) -> Tensor:
        """Return a value per sample, (n, …), from the network as the previous experience left it.

        `experience` is the one about to be trained; the network's head still has the old classes only. Called in
        evaluation mode, without gradients. If the recipe does not augment images, it is called once for all training
        data before training; otherwise with a frozen copy of the old network for every augmented batch. The result
        shows which of the two was done.
        """
        raise NotImplementedError

    def online_teacher(self) -> bool:
        """Return whether `teacher_output` must be called for every batch even if images are not augmented."""
        return False

    def before_experience(self, model: Network, experience: Experience) -> None:
        """Called before training, after the head has grown; `experience.samples` gives access to the training data."""

    def rate_factors(self, experience: Experience) -> Mapping[str, float]:
        """Return factors, above 0, by which the learning rates of parts of the network are multiplied.

        The parts are `trunk`, `head` and `modules`, the strategy's own `trained_modules`; a part that is not named has
        factor 1. The factors apply to the whole experience and to every rate of the recipe's schedule. To keep a part
        from changing at all, use `frozen`.
        """
        return {}

    def trained_modules(self) -> Sequence[nn.Module]:
        """Return the strategy's own modules that train with the network: prompts, adapters, projection heads.

        Called after `before_experience`, which may create or replace them. Keep them on `self`, so that they are saved
        with the run. They are moved to the run's device and are in training mode during training, in evaluation mode
        after it. Their parameters join the recipe's optimizer, weight decay and gradient clipping; `loss` must use
        them. An optimizer whose state is carried over (see `Recipe.optimizer_state`) identifies parameters by their
        order, so new ones must come last.
        """
        return ()

    def frozen(self, model: Network, experience: Experience, epoch: int) -> Sequence[nn.Module]:
        """Return the modules that are frozen in this epoch.

        Their parameters get no gradient and they stay in evaluation mode, so their buffers do not change either.
        `model.head.all_but(old_classes, seen_classes)` stands for the rows of old classes, also in a fixed head.
        Called at the start of every epoch; it may also be called for other epochs before training, so that it must not
        change the network.
        """
        return ()

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, a differentiable scalar.

        On a GPU it is captured in a CUDA graph if a trial shows that it depends on the batch alone; see
        training/cuda_graphs.py.
        """
        raise NotImplementedError(f"{type(self).__name__} has no hook `loss`")

    def validation_loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch of validation data, which the schedule `plateau` follows. By default `loss`.

        Called in evaluation mode, without gradients. No exemplars can be drawn: a strategy whose `loss` draws some
        must define this hook, too.
        """
        return self.loss(batch)

    def train(self, training: Training) -> None:
        """Train the current experience with the strategy's own loop, built from the harness's pieces: a Training.

        For methods that exist as another library's training loop; see clbench/avalanche/. Strategies without this hook
        are trained by the harness's loop, clbench/training/loop.py.
        """
        raise NotImplementedError

    def before_step(self, batch: Batch) -> None:
        """Called after the backward pass, before the weights are updated."""

    def after_step(self, batch: Batch) -> None:
        """Called after every update of the weights, with the gradients that it was made with still in place."""

    def after_experience(self, model: Network, experience: Experience) -> None:
        """Called after training, before evaluation; `experience.samples` gives access to the training data again."""

    def classifier(self, model: Network, experience: Experience) -> nn.Module:
        """Return the classifier of the trunk's features: (n, f) -> scores (n, outputs). By default the network's head.

        `experience` is the one that was trained last. A trained network is saved and exported with this classifier: a
        strategy that does not predict with the head returns one of clbench.networks.classifiers, if it can, and then
        needs no `predict` of its own.
        """
        return model.head

    def predict(self, model: Network, x: Tensor, experience: Experience) -> Tensor:
        """Return a score for every output, (n, outputs), for x (n, …); the highest admissible one is the prediction.

        `experience` is the one that was trained last. Called for evaluation, without gradients, with a copy of the
        network in evaluation mode. By default the `classifier`'s scores for the trunk's features. A sample's scores
        must not depend on the other samples of the batch. NaN for a class that may be predicted ends the run with an
        error.
        """
        import torch

        features, classifier = model.blocks(x), self.classifier(model, experience)
        in_float32 = classifier is not model.head  # near means cannot be told apart in bfloat16
        with torch.autocast(features.device.type, enabled=False) if in_float32 else contextlib.nullcontext():
            scores: Tensor = classifier(features.float() if in_float32 else features)
        return scores

    def predict_within(self, model: Network, x: Tensor, experience: Experience) -> Tensor:
        """Return the same while `experience` is still being trained, for evaluations within it. By default `predict`.

        A strategy that builds its classifier in `after_experience` has none for the new classes yet, and in the first
        experience none at all: it returns the head's scores, `model(x)`.
        """
        return self.predict(model, x, experience)


def has_teacher(strategy: Strategy[Any]) -> bool:
    """Return whether the strategy has the `teacher_output` hook."""
    return type(strategy).teacher_output is not Strategy.teacher_output


def trains_itself(strategy: Strategy[Any]) -> bool:
    """Return whether the strategy has the `train` hook."""
    return type(strategy).train is not Strategy.train


def config_class(strategy: type[Strategy[Any]]) -> type[Any]:
    """Return the class named in `Strategy[...]`, or NoConfig if the subclass names none."""
    for cls in strategy.__mro__:
        for base in getattr(cls, "__orig_bases__", ()):
            origin = get_origin(base)
            generic = isinstance(origin, type) and issubclass(origin, Strategy)
            if generic and isinstance(get_args(base)[0], type):
                found: type[Any] = get_args(base)[0]
                return found
    return NoConfig
