"""The contract of a strategy: a few hooks around the training of each experience.

The harness owns the loop. For experience i it calls, in this order,

    teacher_output    the network as experience i-1 left it answers for the new data (only if a strategy has it)
    (the head grows by one row, initialised at random, for each new class)
    training_data     says what the experience trains on
    before_experience
    frozen            before every epoch
    loss              for every batch, followed by backward
    before_step       and then an optimizer step
    after_step
    after_experience

and then evaluates a copy of the network, by `predict`, and saves the state. If a strategy has a `first_loss`, only
`after_experience` is called of these in the first experience.

Class labels are positions in the class order: the classes of experience 0 come first, and column c of the logits
belongs to class c. The logits have one column per class seen so far, so that a plain cross-entropy ranges over the
classes seen so far.

A strategy sees the training data of the current experience and nothing else: no earlier or later data, no test data.
Of earlier data it has what it kept in an ExemplarMemory (see base/exemplars.py), as many as its config's field `memory`
says. What it sets on `self` is carried from experience to experience; it must be picklable, for it is saved at each
boundary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar, get_args, get_origin

from clbench.base.config import NoConfig
from clbench.errors import PluginError

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from clbench.base.settings import Setting
    from clbench.networks.network import Network

RENAMED_HOOKS = {
    "record": "teacher_output",
    "plain_start": "first_loss",
    "starts_afresh": "reinitialize",
    "answers_live": "online_teacher",
    "plugins": "clbench.avalanche.plugin_strategy.AvalancheStrategy.plugin",
}
"""Hooks by the names that they had before 0.2; a strategy that still uses one is refused."""

ConfigT = TypeVar("ConfigT")
Classes = Literal["seen", "current", "all"]
TrainingData = Literal["current", "seen", "with_memory", "memory", "read"]
"""An experience's own data; or (for references only) all data so far; or its own together with the exemplars in
`self.exemplars`; or those exemplars alone; or nothing by gradients: what there is to learn is read in
`after_experience`."""


@dataclass(frozen=True)
class Experience:
    """Where in the stream training stands."""

    index: int
    """0 for the first experience."""

    classes_per_experience: tuple[int, ...]
    """How many classes each experience of the stream brings."""

    setting: Setting = "class_incremental"
    """In which the network is trained; domain-incrementally all experiences share the outputs of the first."""

    samples: Samples | None = field(default=None, compare=False, repr=False)
    """In `training_data` and `after_experience` the experience's own training data; None elsewhere."""

    @property
    def old_classes(self) -> int:
        """Number of outputs in use before this experience: the logits' columns 0 .. old_classes - 1."""
        return sum(self.old_groups)

    @property
    def seen_classes(self) -> int:
        """Number of outputs in use up to and with this experience."""
        if self.setting == "domain_incremental":
            return self.classes_per_experience[0]
        return sum(self.classes_per_experience[: self.index + 1])

    @property
    def old_groups(self) -> tuple[int, ...]:
        """How many neighbouring outputs each earlier experience has; domain-incrementally they are one group."""
        if self.setting == "domain_incremental":
            return self.classes_per_experience[:1] if self.index else ()
        return self.classes_per_experience[: self.index]

    @property
    def is_last(self) -> bool:
        """Whether the stream ends with this experience."""
        return self.index == len(self.classes_per_experience) - 1


class Source(Protocol):
    """What gives a batch more images than it has."""

    def original(self, rows: Tensor) -> Tensor:
        """Return the images at these rows of the dataset, as they are stored."""

    def prepare(self, images: Tensor) -> Tensor:
        """Augment and scale stored images."""


class Samples(Protocol):
    """The training data of the current experience, as a strategy may read it once more when training has ended."""

    def __len__(self) -> int:
        """Number of samples."""

    def batches(self, size: int, generator: Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield x (size, channels, height, width), preprocessed and not augmented, and y (size,) of every sample.

        In an order drawn from `generator`, or in the order of the dataset. The last batch holds what is left over.
        """

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return images as they are stored, (m, height, width, channels) of uint8, and y, at these positions (m,)."""

    def scaled(self, images: Tensor) -> Tensor:
        """Scale stored images as the recipe does, without augmentation: (m, height, width, channels) of uint8 -> x."""


@dataclass(slots=True)
class Batch:
    """One training batch, as `Strategy.loss` sees it."""

    x: Tensor
    """Preprocessed and augmented images, (n, channels, height, width); the trunk's features where it is frozen."""

    y: Tensor
    """Class positions, (n,) of int64, in 0 .. seen_classes - 1."""

    index: Tensor
    """Row of each sample in the dataset's training arrays, (n,) of int64."""

    logits: Tensor
    """The network's output for `x`, (n, seen_classes) of float32; with a fixed head (n, all classes of the stream)."""

    teacher_outputs: Tensor | None
    """What `teacher_output` gave for these samples, (n, …); None in experience 0 and where there is no such hook."""

    model: Network
    """The network in training."""

    experience: Experience
    """The current experience."""

    source: Source | None = field(default=None, repr=False)
    """Where the batch's images are from."""

    @property
    def recorded(self) -> Tensor | None:
        """Raises PluginError: the name that `teacher_outputs` had before 0.2."""
        raise PluginError("batch.recorded is now called batch.teacher_outputs", "Rename it in the strategy's file.")

    def images(self, positions: Tensor) -> Tensor:
        """Return the images of the samples at these positions of the batch as they are stored, not augmented.

        (m,) -> (m, height, width, channels) of uint8.
        """
        assert self.source is not None
        return self.source.original(self.index[positions])

    def prepare(self, images: Tensor) -> Tensor:
        """Augment and scale stored images as the recipe does; they count as samples seen.

        (m, height, width, channels) of uint8 -> (m, channels, height, width) of float32.
        """
        assert self.source is not None
        return self.source.prepare(images)

    def cross_entropy(self, over: Classes = "seen") -> Tensor:
        """The classification loss of the setting: mean cross-entropy of `logits` with `y`.

        Class-incrementally the softmax ranges over all classes `seen` so far, over those of the `current` experience
        only, or over `all` of the stream where the head is fixed (see `Recipe.head`). Task-incrementally it ranges over
        those of each sample's own experience, domain-incrementally over the outputs that all experiences share,
        whatever `over` says.
        """
        from clbench import losses

        where = self.experience
        if where.setting == "class_incremental" and over == "all":
            return losses.cross_entropy(self.logits, self.y)
        seen, wide = self.logits, where.seen_classes
        if seen.shape[1] > wide:
            seen = seen[:, :wide]
        if where.setting == "task_incremental":
            return losses.cross_entropy_within(seen, self.y, where.classes_per_experience[: where.index + 1])
        first = where.old_classes if where.setting == "class_incremental" and over == "current" else 0
        return losses.cross_entropy(seen, self.y, first)


class Strategy(Generic[ConfigT]):
    """A way to learn new classes. A strategy file defines exactly one subclass; its name is the file's stem."""

    reference: ClassVar[Literal["lower", "upper"] | None] = None
    """Set by a strategy that bounds comparisons from below (nothing done) or above (all data kept): it is no remedy."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Published variants by name: `loss` the formula, `source`, `set` the hyper-parameters that differ from the
    defaults, and `in_setting` those that differ further in a setting. The one without `set` is the default."""

    stability: ClassVar[tuple[str, float] | None] = None
    """The hyper-parameter that trades what is new for what is old, a weight that is halved until enough of the new is
    learned, and where to begin; see `--tune`."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for old, new in RENAMED_HOOKS.items():
            if old in vars(cls):
                raise PluginError(f"{cls.__name__}.{old} is now called {new}", "Rename the method.")

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    def start(self, model: Network) -> None:
        """Called once, before any data is read. Raise UsageError for a config that this network cannot meet."""

    @property
    def memory(self) -> int:
        """How many exemplars may be kept: the config's field `memory`, or none."""
        return int(getattr(self.config, "memory", 0))

    def first_loss(self) -> Classes | None:
        """Over which classes the softmax ranges where the first experience is learned by plain cross-entropy.

        The harness then trains it, on its own data, and calls none of the strategy's hooks before `after_experience`.
        All strategies that start so, under the same seed and recipe, share that training. None where the strategy's
        own hooks act from the first experience on.
        """
        return None

    def training_data(self, experience: Experience) -> TrainingData | None:
        """What the experience trains on; see `TrainingData`. None skips the experience, which is then not evaluated.

        Called at its beginning, with its `experience.samples`.
        """
        return "current"

    def reinitialize(self, experience: Experience) -> bool:
        """Whether training begins from new initial weights rather than from what the last experience left."""
        return False

    def weight_decay(self, experience: Experience) -> float:
        """λ of a term ½λ‖θ‖² over all parameters that train; the optimizer adds its gradient to the recipe's own."""
        return 0.0

    def teacher_output(self, model: Network, x: Tensor, experience: Experience) -> Tensor:
        """Return a value per sample, (n, …), from the network as the last experience left it.

        `experience` is the one that is about to be trained; the network's head still has the old classes only.
        Called in evaluation mode without gradients. Where the recipe does not augment, it is called once for all
        training data before training; where it does, a frozen copy of the old network answers for every batch as it
        is augmented. Which of the two ran stands in the result.
        """
        raise NotImplementedError

    def online_teacher(self) -> bool:
        """Whether `teacher_output` must be asked for every batch even where images are not augmented."""
        return False

    def before_experience(self, model: Network, experience: Experience) -> None:
        """Called when the head has grown, before training."""

    def frozen(self, model: Network, experience: Experience, epoch: int) -> Sequence[nn.Module]:
        """Return the modules that do not train in this epoch.

        Their parameters have no gradient and they stay in evaluation mode, so that their buffers do not move either.
        """
        return ()

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch: a scalar that can be differentiated.

        On a GPU it is recorded and replayed where it is a function of the batch alone, which is tried; see
        training/cuda_graphs.py.
        """
        raise NotImplementedError

    def train(self, training: Any) -> None:
        """Train the current experience by a loop of the strategy's own, with the pieces of the harness's: a Training.

        For methods that exist as another library's training loop; see clbench/avalanche/. A strategy without this hook
        is trained by the harness's loop, clbench/training/loop.py.
        """
        raise NotImplementedError

    def before_step(self, batch: Batch) -> None:
        """Called when the gradients of the loss are there, before the weights are updated."""

    def after_step(self, batch: Batch) -> None:
        """Called after every update of the weights; their gradients of the loss are still there."""

    def after_experience(self, model: Network, experience: Experience) -> None:
        """Called when training has ended, before evaluation; `experience.samples` gives its training data once more."""

    def predict(self, model: Network, x: Tensor, experience: Experience) -> Tensor:
        """Return a score for every output, (n, outputs) of x (n, …); the highest is the answer, of those asked for.

        `experience` is the one that was trained last. Called for evaluation, without gradients, with a copy of the
        network in evaluation mode. A sample's scores may not depend on the samples beside it.
        """
        scores: Tensor = model(x)
        return scores


def has_teacher(strategy: Strategy[Any]) -> bool:
    """Return whether the strategy has the `teacher_output` hook."""
    return type(strategy).teacher_output is not Strategy.teacher_output


def trains_itself(strategy: Strategy[Any]) -> bool:
    """Return whether the strategy has the `train` hook."""
    return type(strategy).train is not Strategy.train


def config_class(strategy: type[Strategy[Any]]) -> type[Any]:
    """Return the class named in `Strategy[...]`, or NoConfig where the subclass names none."""
    for cls in strategy.__mro__:
        for base in getattr(cls, "__orig_bases__", ()):
            origin = get_origin(base)
            generic = isinstance(origin, type) and issubclass(origin, Strategy)
            if generic and isinstance(get_args(base)[0], type):
                found: type[Any] = get_args(base)[0]
                return found
    return NoConfig
