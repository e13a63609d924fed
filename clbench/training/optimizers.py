"""A recipe's optimizer, with one fused step over all parameters if torch has it; clipped gradients and frozen rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from typing_extensions import assert_never

from clbench.base.recipe import Recipe
from clbench.networks.network import Network
from clbench.system import lazy_dynamo

lazy_dynamo.put_off()  # or the first optimizer would load it


def build_optimizer(
    recipe: Recipe, parameters: list[torch.nn.Parameter], decay: float, carried: dict[str, Any] | None
) -> torch.optim.Optimizer:
    """Return the optimizer of an experience, with weight decay `decay`; `carried` is the state of an earlier one."""
    optimizer = _fresh(recipe, parameters, decay)
    if carried is not None:
        optimizer.load_state_dict(carried)
        for group in optimizer.param_groups:
            group["weight_decay"] = decay
        set_rate(optimizer, recipe.lr)
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the following steps."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def rate_of(optimizer: torch.optim.Optimizer) -> float:
    """Return the learning rate of the last step."""
    return float(optimizer.param_groups[0]["lr"])


def take_step(optimizer: torch.optim.Optimizer, model: Network) -> None:
    """Update the weights. The frozen rows of a fixed head stay as they are, and so does the optimizer's state for them.

    They share a parameter with the rows that train, so weight decay and momentum would move them without any gradient.
    """
    before = [
        (
            parameter,
            rows,
            parameter.detach().clone(),
            {name: value.clone() for name, value in _moments(optimizer, parameter)},
        )
        for parameter, rows in _partly_frozen(model)
    ]
    optimizer.step()
    for parameter, rows, weight, moments in before:
        _restore(parameter.detach(), weight, rows)
        for name, value in _moments(optimizer, parameter):
            _restore(value, moments.get(name, torch.zeros_like(value)), rows)


def _partly_frozen(model: Network) -> Iterator[tuple[torch.nn.Parameter, slice]]:
    """Yield each parameter of a fixed head of which some rows are frozen, with the rows that train."""
    trained = model.trained_rows
    if trained is None:
        return
    first = 0
    for layer in model.head.modules():
        if isinstance(layer, torch.nn.Linear):
            rows = slice(max(trained.start - first, 0), max(trained.stop - first, 0))
            first += layer.out_features
            for parameter in layer.parameters():
                yield parameter, rows


def _moments(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> list[tuple[str, Tensor]]:
    """Return what the optimizer keeps for each entry of a parameter."""
    state = optimizer.state.get(parameter, {})
    return [(name, value) for name, value in state.items() if getattr(value, "shape", None) == parameter.shape]


def _restore(value: Tensor, before: Tensor, changed: slice) -> None:
    """Set all rows of `value` but those `changed` back to `before`."""
    before[changed] = value[changed]
    value.copy_(before)


def _fresh(recipe: Recipe, parameters: list[torch.nn.Parameter], decay: float) -> torch.optim.Optimizer:
    # In the GPU's memory, so that a captured step reads its current value; see training/cuda_graphs.py.
    on_gpu = parameters[0].device.type == "cuda"
    rate = torch.tensor(recipe.lr, device=parameters[0].device) if on_gpu else recipe.lr
    match recipe.optimizer:
        case "adam":
            return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True, capturable=on_gpu)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True, capturable=on_gpu)
        case "adagrad":  # whose step torch fuses on CPUs only
            return torch.optim.Adagrad(parameters, lr=rate, weight_decay=decay, fused=None if on_gpu else True)
        case "rmsprop":  # whose step torch does not fuse
            momentum = recipe.momentum
            return torch.optim.RMSprop(parameters, lr=rate, weight_decay=decay, momentum=momentum, capturable=on_gpu)
        case "sgd":
            sgd = torch.optim.SGD(parameters, lr=rate, momentum=recipe.momentum, weight_decay=decay, fused=True)
            if recipe.momentum:
                # Torch's fused step needs the buffers of all parameters or of none, and parameters frozen for some
                # epochs would have none. Starting from 0 gives the same steps: μ·0 + g = g.
                for parameter in parameters:
                    sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            return sgd
        case unknown:
            assert_never(unknown)


def clip_gradients(recipe: Recipe, parameters: Iterable[torch.nn.Parameter]) -> None:
    """Scale the gradients down so that their norm over all parameters is at most the recipe's `clip_norm`."""
    if recipe.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
