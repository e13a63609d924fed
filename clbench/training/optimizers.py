"""A recipe's optimizer: a fused step over all parameters if torch has one, gradient clipping, and frozen rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import assert_never

from clbench.base.recipe import Recipe
from clbench.errors import PluginError
from clbench.networks.network import Network
from clbench.system import lazy_dynamo

lazy_dynamo.put_off()  # otherwise the first optimizer would load it


Group = dict[str, Any]
"""Parameters that an optimizer trains at the same rate: `params`, and `factor` if the rate is not the recipe's."""

PARTS = ("trunk", "head", "modules")


def parameter_groups(model: Network, modules: Sequence[nn.Module], factors: Mapping[str, float]) -> list[Group]:
    """Return the parameters that an experience trains, of the network and the strategy's `modules`, by rate factor.

    Without factors this is a single group. Raises PluginError for a part that does not exist, or a factor that is not
    above 0.
    """
    for part, factor in factors.items():
        if part not in PARTS:
            raise PluginError(f"rate_factors names '{part}', which is not one of {', '.join(PARTS)}")
        if not 0 < factor < math.inf:
            raise PluginError(f"the rate factor of the {part} must be above 0 (got {factor})", "Freeze it instead.")
    of_modules = [parameter for module in modules for parameter in module.parameters()]
    if all(factor == 1 for factor in factors.values()):
        return [{"params": [*model.parameters(), *of_modules]}]
    parameters = (list(model.blocks.parameters()), list(model.head.parameters()), of_modules)
    groups = [{"params": own, "factor": factors.get(part, 1.0)} for part, own in zip(PARTS, parameters, strict=True)]
    return [group for group in groups if group["params"]]


def build_optimizer(
    recipe: Recipe, groups: list[Group], decay: float, carried: dict[str, Any] | None
) -> torch.optim.Optimizer:
    """Return the optimizer of an experience, with weight decay `decay`; `carried` is the state of an earlier one.

    Only the state of each parameter is taken from it, not its rates and groups.
    """
    optimizer = _fresh(recipe, groups, decay)
    if carried is not None:
        fresh = optimizer.state_dict()
        optimizer.load_state_dict({**fresh, "state": {**fresh["state"], **carried["state"]}})
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the recipe's learning rate for the following steps."""
    for group in optimizer.param_groups:
        own = rate * group.get("factor", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def rate_of(optimizer: torch.optim.Optimizer) -> float:
    """Return the recipe's learning rate of the last step."""
    group = optimizer.param_groups[0]
    return float(group["lr"]) / float(group.get("factor", 1.0))


def rate_to_read(optimizer: torch.optim.Optimizer) -> Tensor | float:
    """Return the same on the device where it is, without waiting for a GPU."""
    group = optimizer.param_groups[0]
    rate, factor = group["lr"], float(group.get("factor", 1.0))
    return rate / factor if isinstance(rate, Tensor) else float(rate) / factor


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


def _partly_frozen(model: Network) -> Iterator[tuple[nn.Parameter, slice]]:
    """Yield each parameter of a fixed head that has frozen rows, with the rows that train."""
    trained = model.trained_rows
    if trained is None:
        return
    first = 0
    for layer in model.head.modules():
        if isinstance(layer, nn.Linear):
            rows = slice(max(trained.start - first, 0), max(trained.stop - first, 0))
            first += layer.out_features
            for parameter in layer.parameters():
                yield parameter, rows


def _moments(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> list[tuple[str, Tensor]]:
    """Return the optimizer's state that has a value for each entry of a parameter."""
    state = optimizer.state.get(parameter, {})
    return [(name, value) for name, value in state.items() if getattr(value, "shape", None) == parameter.shape]


def _restore(value: Tensor, before: Tensor, changed: slice) -> None:
    """Set all rows of `value` but those `changed` back to `before`."""
    before[changed] = value[changed]
    value.copy_(before)


def _fresh(recipe: Recipe, groups: list[Group], decay: float) -> torch.optim.Optimizer:
    device = groups[0]["params"][0].device
    on_gpu = device.type == "cuda"

    def rate(factor: float = 1.0) -> float | Tensor:
        # In the GPU's memory, so that a captured step reads its current value; see training/cuda_graphs.py.
        return torch.tensor(recipe.lr * factor, device=device) if on_gpu else recipe.lr * factor

    groups = [{**group, "lr": rate(group.get("factor", 1.0))} for group in groups]
    match recipe.optimizer:
        case "adam":
            return torch.optim.Adam(groups, weight_decay=decay, fused=True, capturable=on_gpu)
        case "adamw":
            return torch.optim.AdamW(groups, weight_decay=decay, fused=True, capturable=on_gpu)
        case "adagrad":  # torch fuses its step on CPUs only
            return torch.optim.Adagrad(groups, weight_decay=decay, fused=None if on_gpu else True)
        case "rmsprop":  # torch does not fuse its step
            momentum = recipe.momentum
            return torch.optim.RMSprop(groups, weight_decay=decay, momentum=momentum, capturable=on_gpu)
        case "sgd":
            sgd = torch.optim.SGD(groups, momentum=recipe.momentum, weight_decay=decay, fused=True)
            if recipe.momentum:
                # Torch's fused step needs the buffers of all parameters or of none, and parameters frozen for some
                # epochs would have none. Starting from 0 gives the same steps: μ·0 + g = g.
                for parameter in (each for group in groups for each in group["params"]):
                    sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            return sgd
        case unknown:
            assert_never(unknown)


def clip_gradients(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> None:
    """Scale the gradients down so that their norm over all parameters is at most the recipe's `clip_norm`."""
    if recipe.clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
