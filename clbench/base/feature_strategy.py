"""The contract of a strategy that classifies by statistics of the trunk's features, without training by gradients.

    class NearestClassMean(clbench.FeatureStrategy[Config]):
        def learn(self, features, labels, experience):
            ...  # update what is kept on self: sums, means, a Gram matrix
            return NearestMean(means)

The trunk is trained on the first experience with the recipe, by plain cross-entropy, and is frozen from then on. A
trunk that is frozen from the start, so that its features are the network's input, is not trained at all. After each
experience, including the first, the features of its training data are computed once, in evaluation mode and without
augmentation, and passed to `learn`. No sample is kept: what `learn` sets on `self` must not grow with the samples.

In the class-incremental setting each class comes in one experience only. In the task-incremental setting the same
scores are compared among the classes of a sample's own experience. In the domain-incremental setting the same labels
return in every experience: a strategy that cannot update the statistics of a class refuses it in `check_protocol`.
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
    """A classifier from statistics of features. Subclasses define `learn`, and usually `start`, calling this one."""

    statistics = "large"

    trains_trunk: bool = True
    """Whether the trunk has anything to train; set by `start`."""

    def start(self, model: Network) -> None:
        """Record whether the trunk has anything to train."""
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

        Used only to announce how long it will take, if that is long. 0, the default, if it takes no longer than
        computing the n x f features.
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
        """Return the head's scores, since the head is what is being trained then."""
        scores: Tensor = model(x)
        return scores
