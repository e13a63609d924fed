"""A recipe's optimizer: one fused step over all parameters."""

from __future__ import annotations

from typing import Any

import torch

from clbench.recipe import Recipe


def build_optimizer(
    recipe: Recipe, parameters: list[torch.nn.Parameter], decay: float, carried: dict[str, Any] | None
) -> torch.optim.Optimizer:
    """Return the optimizer of an experience, with weight decay `decay`; `carried` is what an earlier one left."""
    optimizer = _fresh(recipe, parameters, decay)
    if carried is not None:
        optimizer.load_state_dict(carried)
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = recipe.lr, decay
    return optimizer


def _fresh(recipe: Recipe, parameters: list[torch.nn.Parameter], decay: float) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=recipe.lr, weight_decay=decay, fused=True)
    sgd = torch.optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=decay, fused=True)
    if recipe.momentum:
        # Torch's fused step wants the buffers of all parameters or of none, and what is frozen for some epochs
        # would have none. Starting from 0 gives the same steps: μ·0 + g is g.
        for parameter in parameters:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd
