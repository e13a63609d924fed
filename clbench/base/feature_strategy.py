"""The contract of a strategy that classifies by statistics of the trunk's features instead of training by gradients.

    class NearestClassMean(clbench.FeatureStrategy[Config]):
        def learn(self, features, labels, experience):
            ...  # update what is kept on self: sums, means, a Gram matrix
            return NearestMean(means)

The trunk is trained on the first experience with the recipe, by plain cross-entropy, and is frozen from then on. A
trunk that is frozen from the start, so that its features are the network's input, is not trained at all. After each
experience, the first included, the features of its training data are computed once, in evaluation mode and without
augmentation, and given to `learn`. No sample is kept: what `learn` sets on `self` must not grow with the samples.

Class-incrementally each class comes in one experience only. Task-incrementally the same scores are compared among the
classes of a sample's own experience. Domain-incrementally the same labels come again in every experience: a strategy
whose statistics cannot be continued for a class refuses this setting in `check_protocol`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clbench.base.batch import Classes
from clbench.base.experience import Experience
from clbench.base.strategy import ConfigT, Strategy, TrainingData

if TYPE_CHECKING:
    from clbench.networks.network import Network

BATCH = 500
"""Images whose features are computed at once."""


class FeatureStrategy(Strategy[ConfigT]):
    """A classifier from statistics of features. A subclass has `learn`, and usually `start`, which calls this one."""

    statistics = "large"

    trains_trunk: bool = True
    """Whether the trunk has anything to train; known from `start` on."""

    def start(self, model: Network) -> None:
        """Take note of whether the trunk has anything to train."""
        self.trains_trunk = len(model.blocks) > 0

    def learn(self, features: Tensor, labels: Tensor, experience: Experience) -> nn.Module:
        """Update the statistics with an experience's training data, and return the classifier of all classes so far.

        `features` (n, f) of float32 and `labels` (n,) of int64, on the run's device, in the dataset's order. Called
        without gradients. The classifier maps features (n, f) to scores (n, classes seen); use one of
        clbench.networks.classifiers, so that it can be saved and exported with the network.
        """
        raise NotImplementedError

    def operations(self, images: int, classes: int, features: int) -> float:
        """Return about how many floating-point operations `learn` takes for `images` (n) of new `classes`.

        Only users are told of it: how long it will take, if that is long. 0, as here, if it takes no longer than to
        compute the n x f features.
        """
        return 0.0

    def first_loss(self) -> Classes | None:
        """Train the trunk by cross-entropy over the first classes, if it has anything to train."""
        return "seen" if self.trains_trunk else None

    def training_data(self, experience: Experience) -> TrainingData:
        """Read the data after the experience; no gradient steps."""
        return "read"

    def after_experience(self, model: Network, experience: Experience) -> None:
        """Compute the features and learn from them."""
        assert experience.samples is not None
        network = model.in_evaluation()
        with torch.no_grad():
            parts = [(network.blocks(x).float(), y) for x, y in experience.samples.batches(BATCH)]
            features, labels = (torch.cat(part) for part in zip(*parts, strict=True))
            self.learned = self.learn(features, labels, experience).eval()

    def classifier(self, model: Network, experience: Experience) -> nn.Module:
        """Return what `learn` returned last."""
        return self.learned

    def predict_within(self, model: Network, x: Tensor, experience: Experience) -> Tensor:
        """Score by the head, which is what trains then."""
        scores: Tensor = model(x)
        return scores
