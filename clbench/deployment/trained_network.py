"""A trained network as one module, with the names of its classes and what turns an image into its input."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from clbench.deployment.preprocessing import Transform
from clbench.networks.trunk import Trunk
from clbench.results.network_record import NetworkRecord


class TrainedNetwork(nn.Module):
    """(n, channels, height, width) -> scores (n, classes). What it is made of is in `record`.

    x = torch.stack([network.transform(image) for image in images])
    name = network.classes[network(x).argmax(dim=1)[0]]
    """

    def __init__(self, trunk: nn.Module, classifier: nn.Module, record: NetworkRecord, head: str | None = None) -> None:
        """`head` is the name of the layer of the author's module in whose place the classifier stands, if any."""
        super().__init__()
        self.trunk, self.classifier = trunk, classifier
        self.record, self.head = record, head
        self.transform = Transform(record.input)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""
        return self.record.classes

    @property
    def none_below(self) -> float | None:
        """If the highest score is below it, the image shows none of the classes; None if that was not calibrated.

        It is a guess: 95 % of held-out images of the classes reach it, and many images of other classes do too.
        """
        return None if self.record.none_below is None else self.record.none_below.score

    @property
    def gives_logits(self) -> bool:
        """Whether the scores are logits, of which a softmax makes probabilities."""
        return self.record.classifier.name == "Linear"

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) -> (n, classes)."""
        scores: Tensor = self.classifier(self.trunk(x))
        return scores[:, : len(self.classes)]  # of a fixed head, those of the classes that have come

    @torch.no_grad()
    def probe(self) -> tuple[float, ...]:
        """Return the scores of an image of a fixed pattern, by which one sees if two networks are the same."""
        shape = self.record.input.image
        values = np.arange(shape.height * shape.width * shape.channels, dtype=np.int64)
        pattern = (values * 40_503 // 7 % 256).astype(np.uint8).reshape(shape.height, shape.width, shape.channels)
        scores = torch.nan_to_num(self(self.transform(pattern)[None]).float())[0]
        return tuple(scores.tolist())


def own_module(trunk: nn.Module) -> nn.Module:
    """Return the module of the network's author, out of what makes a trunk of it."""
    return trunk.module if isinstance(trunk, Trunk) else trunk
