"""Recipes: complete, named training protocols, each the same for every strategy that is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

from clbench.base.config import OMIT_DEFAULT, described_config
from clbench.base.incremental_setting import Setting

Milestones = tuple[Annotated[float, Gt(0)], ...]


@described_config
class Augmentation:
    """Random changes to each training image, drawn anew whenever it is seen."""

    crop: Annotated[int, Ge(0), Le(16)] = 0
    """Pixels of zero padding on every side, before a window of the image's own size is cut out; 0 for none."""

    flip: bool = False
    """Mirror left to right with probability 1/2."""

    brightness: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Multiply the pixels by a factor drawn from 1 - brightness to 1 + brightness; 0 for none."""

    @property
    def active(self) -> bool:
        """Whether an image may differ each time it is seen."""
        return bool(self.crop or self.flip or self.brightness)


@described_config
class Overrides:
    """Values that differ in some experiences or for some strategy; None keeps the recipe's value."""

    epochs: Annotated[int, Ge(1)] | None = None
    """Passes over an experience's training data."""

    lr: Annotated[float, Gt(0)] | None = None
    """Learning rate at the start of an experience."""

    weight_decay: Annotated[float, Ge(0)] | None = None
    """λ of ½λ‖θ‖²."""

    milestones: Milestones | None = None
    """Epochs of an experience after which the rate is divided."""


@described_config
class Recipe:
    """Which network is trained, and how. Every experience gets the same `epochs` over its own training data, unless
    `first` or `of_strategy` says otherwise."""

    renamed: ClassVar[Mapping[str, str]] = {"model": "network", "pixels": "normalization"}

    network: str = "mlp"
    """The network, by name: a file of networks/, `timm:NAME` or `torchvision:NAME`. `--network` is another way to set
    it."""

    network_config: Annotated[Mapping[str, int | float | str | bool], OMIT_DEFAULT] = field(default_factory=dict)
    """The network's hyper-parameters that are not at their defaults, as `--set network.NAME=VALUE` sets them; also
    `size` and `train`."""

    initialization: Annotated[Literal["architecture", "torch", "xavier_uniform", "truncated_normal"], OMIT_DEFAULT] = (
        "architecture"
    )
    """How the trunk is initialized: as the architecture prescribes (residual networks as in He et al. 2015); its
    convolutions with torch's defaults; or its convolutions and linear layers with weights from U(-√(6/(m+n)),
    √(6/(m+n))) for m inputs and n outputs and biases of 0, or from N(0, 0.1²) cut off at ±0.2 and biases of 0.1."""

    optimizer: Literal["sgd", "adam", "adamw", "adagrad", "rmsprop"] = "sgd"
    """See `optimizer_state` for what happens to it between experiences."""

    optimizer_state: Literal["fresh", "carried"] = "fresh"
    """Whether each experience begins with a new optimizer, or with the moments that the last one left."""

    lr: Annotated[float, Gt(0)] = 0.1
    """Learning rate at the start of each experience."""

    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Momentum of sgd and rmsprop; adam and adamw keep torch's β of 0.9 and 0.999."""

    weight_decay: Annotated[float, Ge(0)] = 0.0
    """λ of ½λ‖θ‖², added to the gradient of every parameter that trains; decoupled from the gradient in adamw."""

    clip_norm: Annotated[Annotated[float, Gt(0)] | None, OMIT_DEFAULT] = None
    """Largest norm of the gradient over all parameters; a longer gradient is scaled down to it. None: no clipping."""

    schedule: Literal["constant", "cosine", "milestones", "plateau", "warm_restarts"] = "constant"
    """Learning rate over an experience: constant; a half cosine down to 0, step by step; divided at `milestones`;
    half cosines down to 0 that restart (Loshchilov & Hutter 2017, arXiv 1608.03983); or divided whenever the loss on
    the `validation` data has not fallen for `patience` epochs. Training then continues from the best weights so far,
    and the experience ends with them once the rate is below `lr_min`."""

    warmup_epochs: Annotated[float, Ge(0), OMIT_DEFAULT] = 0.0
    """Epochs at the start of each experience in which the rate rises linearly to `lr`. The schedule begins after them,
    but `milestones` count from the start of the experience."""

    restart_epochs: Annotated[float, Gt(0), OMIT_DEFAULT] = 10.0
    """Epochs of the first cosine of `warm_restarts`."""

    restart_factor: Annotated[int, Ge(1), OMIT_DEFAULT] = 1
    """Factor by which each further cosine of `warm_restarts` is longer than the one before."""

    milestones: Milestones = ()
    """Epochs of an experience after which the rate is divided."""

    divisor: Annotated[float, Gt(1)] = 10.0
    """What the rate is divided by at a milestone or a plateau."""

    patience: Annotated[int, Ge(1)] = 10
    """Epochs without progress that count as a plateau."""

    lr_min: Annotated[float, Gt(0)] = 1e-4
    """Rate below which a plateau ends the experience."""

    validation: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of each class's training data that is not trained on but held out for the schedule to follow."""

    batch_size: Annotated[int, Ge(1)] = 128
    """Samples per gradient step; the last batch of an epoch may be smaller."""

    epochs: Annotated[int, Ge(1)] = 1
    """Passes over an experience's training data."""

    iterations: Annotated[int, Ge(0)] = 0
    """Gradient steps per experience, whatever its size, instead of `epochs`; 0 to train for `epochs`."""

    steps_per_batch: Annotated[int, Ge(1), OMIT_DEFAULT] = 1
    """Consecutive gradient steps on each batch; an epoch has that many times the steps of a single pass."""

    drop_last: bool = False
    """Leave out the last samples of a pass over the data if they do not fill a batch."""

    augmentation: Augmentation = Augmentation()
    """Random changes to the training images."""

    batch_norm: Annotated[Literal["training", "given"], OMIT_DEFAULT] = "training"
    """Statistics that batch normalisation uses in training: the batch's, or the running ones that the network came
    with, which then do not change. A few images of one class have other statistics than everything that it has
    learned."""

    padding: Annotated[int, Ge(0), Le(16)] = 0
    """Pixels of zero padding on each side of every image, in training and in testing."""

    normalization: Literal["unit", "standardized"] = "standardized"
    """Pixels in 0..1, or those minus the training set's mean and divided by its standard deviation, per channel; these
    include the padding, if any."""

    head: Literal["growing", "fixed"] = "growing"
    """Whether the rows of the head are drawn when their classes come, or all at the start. Classes that have not come
    yet are never predicted, and take part in a loss only if the strategy includes them."""

    head_initialization: Annotated[Literal["torch", "lecun", "xavier_uniform", "truncated_normal"], OMIT_DEFAULT] = (
        "torch"
    )
    """How the head's rows are drawn, for f features: weights and biases from U(-1/√f, 1/√f); weights from
    U(-√(3/f), √(3/f)) and biases of 0; or as `initialization` of the same name, with as many outputs as there are new
    rows."""

    head_parameters: Annotated[Literal["shared", "per_experience"], OMIT_DEFAULT] = "shared"
    """For a fixed head in the task-incremental setting: whether all its rows are one parameter, or the rows of each
    experience are a separate one, as in a network with a head per task. Adam counts the steps of a parameter from its
    first gradient on. In the other settings it is always shared."""

    class_order: str = "scenario"
    """The order of classes that the protocol prescribes: `natural` (0, 1, 2, …), `seed` (drawn from the seed), or the
    class ids as a list; `scenario` for the scenario's own."""

    stream_options: Annotated[Mapping[str, int | float | str], OMIT_DEFAULT] = field(default_factory=dict)
    """Options of the scenario's stream that the protocol prescribes; `--set stream.NAME=VALUE` overrides them."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the network's forward pass; losses are always computed in float32."""

    first: Overrides = Overrides()
    """Values that differ in the first experience."""

    of_strategy: Mapping[str, Overrides] = field(default_factory=dict)
    """Values that differ for a strategy, by its name: published protocols often give each its own budget. In the first
    experience `first` takes precedence."""

    def for_strategy(self, name: str) -> Recipe:
        """Return the recipe as it applies to a strategy."""
        if not self.of_strategy:
            return self
        return replace(self, **_set(self.of_strategy.get(name, Overrides())), of_strategy={})

    def in_setting(self, setting: Setting) -> Recipe:
        """Return the recipe as it applies in a setting."""
        return self if setting == "task_incremental" else replace(self, head_parameters="shared")

    def at(self, experience: int) -> Recipe:
        """Return the recipe as it applies in an experience; 0 is the first."""
        return replace(self, **(_set(self.first) if experience == 0 else {}), first=Overrides())

    def shortened(self, epochs: int) -> Recipe:
        """Return the recipe with this many epochs everywhere, for every strategy; milestones move in proportion."""
        first = replace(self.first, **_shortened(self.first, self, epochs))
        others = {name: replace(own, **_shortened(own, self, epochs)) for name, own in self.of_strategy.items()}
        milestones = tuple(m * epochs / self.epochs for m in self.milestones)
        return replace(self, epochs=epochs, iterations=0, milestones=milestones, first=first, of_strategy=others)

    @property
    def length(self) -> str:
        """How long an experience trains, in words: `4 epochs`, `200, then 250 epochs` or `2000 steps`."""
        if self.iterations:
            return f"{self.iterations} steps"
        if self.first.epochs not in (None, self.epochs):
            return f"{self.first.epochs}, then {self.epochs} epochs"
        return f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"


def _set(overrides: Overrides) -> dict[str, Any]:
    return {name: value for name, value in vars(overrides).items() if value is not None}


def _shortened(overrides: Overrides, recipe: Recipe, epochs: int) -> dict[str, Any]:
    if overrides.milestones is None:
        return {"epochs": None}
    length = overrides.epochs or recipe.epochs
    return {"epochs": None, "milestones": tuple(m * epochs / length for m in overrides.milestones)}
