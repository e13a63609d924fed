"""Defines TrainedNetwork: a trained network as one module, with its class names and the transform for images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from clbench.deployment.preprocessing import Transform
from clbench.networks.trunk import Trunk
from clbench.results.network_record import NetworkRecord


class TrainedNetwork(nn.Module):
    """A network that turns inputs (n, channels, height, width) into scores (n, classes); `record` describes it.

    x = torch.stack([network.transform(image) for image in images])
    name = network.classes[network(x).argmax(dim=1)[0]]
    """

    def __init__(self, trunk: nn.Module, classifier: nn.Module, record: NetworkRecord, head: str | None = None) -> None:
        """`head` is the name of the layer in the author's module that the classifier replaces, if any."""
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
        """The highest score below which an image is taken to show none of the classes; None if not calibrated.

        It is an estimate: 95 % of held-out images of the classes reach it, but so do many images of other classes.
        """
        return None if self.record.none_below is None else self.record.none_below.score

    @property
    def gives_logits(self) -> bool:
        """Whether the scores are logits, which a softmax turns into probabilities."""
        return self.record.classifier.name == "Linear"

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) -> (n, classes)."""
        scores: Tensor = self.classifier(self.trunk(x))
        return scores[:, : len(self.classes)]  # for a fixed head, those of the classes learned so far

    @torch.no_grad()
    def probe(self) -> tuple[float, ...]:
        """Return the scores of an image with a fixed pattern, which show whether two networks are the same."""
        shape = self.record.input.image
        values = np.arange(shape.height * shape.width * shape.channels, dtype=np.int64)
        pattern = (values * 40_503 // 7 % 256).astype(np.uint8).reshape(shape.height, shape.width, shape.channels)
        scores = torch.nan_to_num(self(self.transform(pattern)[None]).float())[0]
        return tuple(scores.tolist())


def own_module(trunk: nn.Module) -> nn.Module:
    """Return the module of the network's author, without the wrapper that makes it a trunk."""
    return trunk.module if isinstance(trunk, Trunk) else trunk
