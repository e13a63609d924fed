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
    """Made afresh for each experience."""

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

    augmentation: Augmentation = Augmentation()
    """Random changes to the training images."""

    pixels: Literal["unit", "standardized"] = "standardized"
    """Pixels in 0..1, or those minus the training set's mean and divided by its standard deviation, per channel."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the network's forward pass; losses are always computed in float32."""
