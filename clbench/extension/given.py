"""Converts a given network into one that a strategy can train: its trunk, and its head's rows for the old classes."""

from __future__ import annotations

import copy
from typing import Literal

from torch import nn

from clbench.deployment.trained_network import TrainedNetwork
from clbench.errors import UsageError
from clbench.networks.classifiers import LinearScores, Mahalanobis, NearestMean
from clbench.networks.head import linear_layer
from clbench.networks.network import Network
from clbench.results.network_record import LineageStep, NetworkRecord


def rows_of(given: TrainedNetwork) -> nn.Linear | None:
    """Return the rows of the old classes as a linear layer; None if the network has another kind of classifier."""
    classifier, known = given.classifier, len(given.classes)
    if isinstance(classifier, nn.Linear):
        return linear_layer(classifier.weight[:known], classifier.bias[:known])
    if isinstance(classifier, LinearScores) and classifier.projection is None:
        bias = classifier.weight.new_zeros(known) if classifier.bias is None else classifier.bias
        return linear_layer(classifier.weight, bias)
    return None


def features_of(given: TrainedNetwork) -> int:
    """Return the number of the trunk's features."""
    classifier = given.classifier
    if isinstance(classifier, nn.Linear):
        return classifier.in_features
    if isinstance(classifier, LinearScores):
        return len(classifier.projection) if classifier.projection is not None else classifier.weight.shape[1]
    assert isinstance(classifier, (NearestMean, Mahalanobis))
    return classifier.means.shape[1]


def as_network(given: TrainedNetwork, train: int | Literal["all", "head"]) -> Network:
    """Return a copy of a given network to train: all of it, a number of its last blocks, or only the head.

    With only the head it has no blocks: its inputs are the trunk's features. Raises UsageError if the trunk has fewer
    blocks than are to be trained.
    """
    features = features_of(given)
    if train == "head":
        network = Network([], features)
    else:
        trunk = copy.deepcopy(given.trunk).cpu()
        network = Network(trunk, features)  # type: ignore[arg-type]
        if isinstance(train, int):
            held = len(network.blocks) - train
            if held < 0:
                name, blocks = given.record.network.name, len(network.blocks)
                raise UsageError(f"network.train = {train}: the trunk of {name} has {blocks} blocks")
            network.hold(network.blocks[:held])
    network.head.new, network.head.seen = rows_of(given), len(given.classes)
    return network


def lineage_of(record: NetworkRecord) -> tuple[LineageStep, ...]:
    """Return the steps that made a network; for a run's network, the run."""
    if record.origin is None:
        return record.lineage
    return (
        LineageStep(
            command="run",
            id=record.origin.run_id,
            classes=record.classes,
            images=None,
            strategy=record.origin.strategy,
            seed=record.origin.seed,
        ),
    )
