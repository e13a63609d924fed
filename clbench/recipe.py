"""A recipe: a complete training protocol under a name, the same for every strategy that is compared."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from clbench.hyperparameters import config


@config
class Augmentation:
    """Random changes to each training image, drawn anew whenever it is seen."""

    crop: Annotated[int, Ge(0), Le(16)] = 0
    """Pixels of zero padding on every side, of which a window of the image's own size is cut; 0 is none."""

    flip: bool = False
    """Mirror left to right with probability 1/2."""

    brightness: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Multiply the pixels by a factor drawn from 1 - brightness to 1 + brightness; 0 is none."""

    @property
    def active(self) -> bool:
        """Whether an image differs from one time that it is seen to the next."""
        return bool(self.crop or self.flip or self.brightness)


@config
class Recipe:
    """What is trained, and how. Every experience gets the same `epochs` over its own training data."""

    model: Literal["mlp", "cnn", "resnet18", "resnet32"] = "mlp"
    """Network; see clbench/models.py."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    """See `optimizer_state` for what becomes of it between experiences."""

    optimizer_state: Literal["fresh", "carried"] = "fresh"
    """Whether each experience begins with a new optimizer, or goes on with the moments that the last one left."""

    lr: Annotated[float, Gt(0)] = 0.1
    """Learning rate at the start of each experience."""

    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Momentum of SGD; Adam keeps its usual 0.9 and 0.999."""

    weight_decay: Annotated[float, Ge(0)] = 0.0
    """λ of ½λ‖θ‖², added to the gradient of every parameter that trains."""

    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate over an experience: constant, or a half cosine down to 0, step by step."""

    batch_size: Annotated[int, Ge(1)] = 128
    """Samples a gradient step; the last batch of an epoch may be smaller."""

    epochs: Annotated[int, Ge(1)] = 1
    """Passes over an experience's training data."""

    iterations: Annotated[int, Ge(0)] = 0
    """Gradient steps per experience, whatever its size, in place of `epochs`; 0 leaves it at the epochs."""

    drop_last: bool = False
    """Leave out what of a pass over the data does not fill a batch."""

    augmentation: Augmentation = Augmentation()
    """Random changes to the training images."""

    padding: Annotated[int, Ge(0), Le(16)] = 0
    """Pixels of zeros that every image gets on each side, in training and in testing."""

    pixels: Literal["unit", "standardized"] = "standardized"
    """Pixels in 0..1, or those minus the training set's mean and divided by its standard deviation, per channel; with
    the padding, where there is any."""

    head: Literal["growing", "fixed"] = "growing"
    """Rows of the head that are drawn when their classes come, or all at the start. Classes that have not come yet are
    never predicted, and take part in a loss only where the strategy says so."""

    class_order: Literal["scenario", "natural", "seed"] = "scenario"
    """The order of classes that the protocol prescribes: 0, 1, 2, …, or drawn from the seed; else the scenario's."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the network's forward pass; losses are always computed in float32."""

    @property
    def length(self) -> str:
        """How long an experience trains, for people: `4 epochs` or `2000 steps`."""
        if self.iterations:
            return f"{self.iterations} steps"
        return f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"
