"""Small questions to a network at evaluation, whose answers tell what a strategy may not do."""

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

_ASKED, _BESIDE = 16, 48
_TOLERANCE = 1e-3


@torch.no_grad()
def probe(test_set: TestSet, model: Network, score: Score, seed: int, audit: Audit) -> None:
    """Ask for a few test images alone and among others, and find answers that depend on the others.

    Also finds batch normalisation in training mode. Leaves network and random state as they were.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(test_set.images.pixels), generator=generator)[: _ASKED + _BESIDE]
    with randomness_untouched():
        network = copy.deepcopy(model).eval()
        with _normalisation_in_training(network) as found:
            alone = test_set.scores(network, rows[:_ASKED], score)
            among = test_set.scores(network, rows, score)[:_ASKED]
    if found:
        audit.find("violation", "training mode at test", "evaluates with batch normalisation in training mode")
    if not torch.allclose(alone, among, rtol=_TOLERANCE, atol=_TOLERANCE):
        audit.find("violation", "batch mates", "answers differently for a test sample when others lie beside it")


@contextmanager
def _normalisation_in_training(network: nn.Module) -> Iterator[list[bool]]:
    found: list[bool] = []

    def look(module: nn.Module, inputs: object) -> None:
        if module.training:
            found.append(True)

    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    handles = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
