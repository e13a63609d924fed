"""Every optimizer takes the step in its paper, and gradients are clipped by their norm over all parameters."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from clbench.base.recipe import Recipe
from clbench.training.optimizers import build_optimizer, clip_gradients

LR, DECAY = 0.1, 0.5
GRADIENTS = [2.0, -1.0, 0.5]


def trained(weight: float = 3.0, **recipe: Any) -> list[float]:
    """A weight after each step on the GRADIENTS."""
    parameter = torch.nn.Parameter(torch.tensor([weight]))
    optimizer = build_optimizer(Recipe(lr=LR, **recipe), [{"params": [parameter]}], DECAY, None)
    weights = []
    for gradient in GRADIENTS:
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
        weights.append(parameter.item())
    return weights


def test_sgd() -> None:
    weight, momentum, expected = 3.0, 0.0, []
    for gradient in GRADIENTS:
        momentum = 0.9 * momentum + gradient + DECAY * weight
        weight -= LR * momentum
        expected.append(weight)
    assert trained(optimizer="sgd", momentum=0.9) == pytest.approx(expected)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_and_adamw(decoupled: bool) -> None:
    weight, first, second, expected = 3.0, 0.0, 0.0, []
    for step, gradient in enumerate(GRADIENTS, 1):
        g = gradient if decoupled else gradient + DECAY * weight
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
        if decoupled:
            weight -= LR * DECAY * weight
        weight -= LR * (first / (1 - 0.9**step)) / (math.sqrt(second / (1 - 0.999**step)) + 1e-8)
        expected.append(weight)
    assert trained(optimizer="adamw" if decoupled else "adam") == pytest.approx(expected)


def test_adagrad() -> None:
    weight, squares, expected = 3.0, 0.0, []
    for gradient in GRADIENTS:
        g = gradient + DECAY * weight
        squares += g * g
        weight -= LR * g / (math.sqrt(squares) + 1e-10)
        expected.append(weight)
    assert trained(optimizer="adagrad") == pytest.approx(expected)


def test_rmsprop() -> None:
    weight, squares, momentum, expected = 3.0, 0.0, 0.0, []
    for gradient in GRADIENTS:
        g = gradient + DECAY * weight
        squares = 0.99 * squares + 0.01 * g * g
        momentum = 0.5 * momentum + g / (math.sqrt(squares) + 1e-8)
        weight -= LR * momentum
        expected.append(weight)
    assert trained(optimizer="rmsprop", momentum=0.5) == pytest.approx(expected)


@pytest.mark.parametrize(("norm", "expected"), [(1.0, [0.6, 0.8]), (10.0, [3.0, 4.0]), (None, [3.0, 4.0])])
def test_a_gradient_longer_than_the_norm_is_scaled_down_to_it(norm: float | None, expected: list[float]) -> None:
    """3 and 4 in two parameters have norm 5."""
    one, other = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    one.grad, other.grad = torch.tensor([3.0]), torch.tensor([4.0])
    clip_gradients(Recipe(clip_norm=norm), [one, other])
    assert [one.grad.item(), other.grad.item()] == pytest.approx(expected, rel=1e-5)
