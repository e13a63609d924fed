"""Check at evaluation time that a prediction depends on its own sample alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from clbench.audit.audit import Audit
from clbench.evaluation.test_set import Score, TestSet
from clbench.networks.network import Network
from clbench.system.randomness import randomness_untouched

_COMPARED, _ADDED = 16, 48
"""Test samples whose scores are compared, and others added to their batch the second time."""

_TOLERANCE = 1e-3


@torch.no_grad()
def check_batch_independence(test_set: TestSet, model: Network, score: Score, seed: int, audit: Audit) -> None:
    """Score a few test samples with and without others in their batch, and report scores that differ.

    Also reports batch normalisation in training mode. Leaves the network and the random state unchanged.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(test_set.positions), generator=generator)[: _COMPARED + _ADDED]
    with randomness_untouched():
        network = copy.deepcopy(model).eval()
        with _batch_norm_in_training_mode(network) as found:
            alone = test_set.scores(network, rows[:_COMPARED], score)
            together = test_set.scores(network, rows, score)[:_COMPARED]
    if found:
        audit.add("violation", "training mode at test", "predicts with batch normalisation in training mode")
    # The scores of classes to come may be NaN; for others that is an error of its own, raised by TestSet.predict.
    if not torch.allclose(alone, together, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
        audit.add("violation", "batch mates", "predicts differently for a sample if its batch has other samples")


@contextmanager
def _batch_norm_in_training_mode(network: nn.Module) -> Iterator[list[bool]]:
    """Yield a list that gets an entry for every batch normalisation that runs in training mode."""
    found: list[bool] = []

    def check(module: nn.Module, inputs: object) -> None:
        if module.training:
            found.append(True)

    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    handles = [layer.register_forward_pre_hook(check) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
