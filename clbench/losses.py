"""Losses and penalties that several strategies share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, y: Tensor, first: int = 0, *, reduction: Literal["mean", "none"] = "mean") -> Tensor:
    """-1/n Σ log softmax(logits[:, first:])[y - first]: cross-entropy over the columns from `first` on.

    `logits` (n, classes), `y` (n,) in first .. classes - 1. With `first` = 0 it ranges over every class seen so far,
    with `first` = `experience.old_classes` over the current experience's classes only. With `reduction` "none" the
    value of each sample, (n,), instead of their mean.
    """
    if first:
        logits, y = logits[:, first:], y - first
    return F.cross_entropy(logits, y, reduction=reduction)


def cross_entropy_within(
    logits: Tensor, y: Tensor, sizes: Sequence[int], *, reduction: Literal["mean", "none"] = "mean"
) -> Tensor:
    """The cross-entropy of each sample over the columns of its own experience only; `reduction` as above.

    `logits` (n, Σ sizes), `y` (n,); experience j has the `sizes[j]` columns after those of the experiences before it.
    """
    experience = _experiences(tuple(sizes), logits.device)
    elsewhere = experience[y][:, None] != experience[None, :]
    return F.cross_entropy(logits.masked_fill(elsewhere, _NEVER), y, reduction=reduction)


@lru_cache(maxsize=128)
def _experiences(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the experience of each column, (columns,). Cached, since copying it to a GPU would stall every step."""
    return torch.repeat_interleave(torch.tensor(sizes, device=device))


def binary_cross_entropy(logits: Tensor, y: Tensor, old: Tensor | None = None) -> Tensor:
    """-1/(n C) Σ_samples Σ_c t_c log σ(o_c) + (1 - t_c) log(1 - σ(o_c)), with a sigmoid per class.

    `logits` (n, C), `y` (n,). The targets t of the first columns are `old` (n, old classes), in 0..1, if it is given;
    those of the others are 1 for the sample's class and 0 otherwise. Source: Rebuffi et al. 2017 (arXiv 1611.07725),
    algorithm 3.
    """
    targets = F.one_hot(y, logits.shape[1]).to(logits.dtype)
    if old is not None:
        targets[:, : old.shape[1]] = old
    return F.binary_cross_entropy_with_logits(logits, targets)


# A logit with probability 0, but finite, so that its log-probability times a target of 0 is 0.
_NEVER = -1e30


def group_logits(logits: Tensor, sizes: Sequence[int]) -> Tensor:
    """(n, Σ sizes) -> (n, groups, widest): a row per group of neighbouring columns, padded with -1e30.

    A softmax over the last dimension is then a softmax within each group, in one operation for all groups.
    """
    if len(set(sizes)) == 1:
        return logits.view(len(logits), len(sizes), sizes[0])
    widest = max(sizes)
    padded = logits.new_full((len(logits), len(sizes) * widest), _NEVER)
    padded = padded.index_copy(1, _columns(tuple(sizes), logits.device), logits)
    return padded.view(len(logits), len(sizes), widest)


@lru_cache(maxsize=128)
def _columns(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the position of each column if every group is as wide as the widest, (Σ sizes,). Cached, as above."""
    widest = max(sizes)
    columns = [group * widest + column for group, size in enumerate(sizes) for column in range(size)]
    return torch.tensor(columns, device=device)


def soften(logits: Tensor, temperature: float, sizes: Sequence[int] | None = None) -> Tensor:
    """y' = y^(1/T) / Σ y^(1/T) with y = softmax(logits), which is softmax(logits / T).

    `logits` (n, classes). With `sizes` the softmax runs within each group of neighbouring columns and the result is
    (n, groups, widest), 0 in the padding; without, over all columns: (n, 1, classes).
    Source: Li & Hoiem 2016 (arXiv 1606.09282), equation 3.
    """
    return F.softmax(group_logits(logits, sizes or (logits.shape[1],)) / temperature, dim=-1)


def distillation(logits: Tensor, targets: Tensor, temperature: float, sizes: Sequence[int] | None = None) -> Tensor:
    """-1/n Σ_samples Σ_groups Σ_c y'_c log ŷ'_c: the modified cross-entropy of knowledge distillation.

    `logits` (n, classes) are the student's, with the softened softmax ŷ'; `targets` y' are what `soften` returns for
    the teacher, with the same `temperature` and `sizes`. There is no factor T². The gradient is zero if student and
    teacher agree. Source: Li & Hoiem 2016, equation 2, summed over the old tasks as in its section 3.
    """
    students = group_logits(logits, sizes or (logits.shape[1],)) / temperature
    return F.cross_entropy(students.flatten(0, 1), targets.flatten(0, 1), reduction="sum") / len(logits)


class _WeightedSquaredDistance(torch.autograd.Function):
    """Σ_k F_k (w_k - a_k)² over lists of tensors, in a few fused operations instead of several per tensor."""

    @staticmethod
    def forward(ctx: Any, importances: list[Tensor], anchors: list[Tensor], *weights: Tensor) -> Tensor:
        difference = torch._foreach_sub(list(weights), anchors)
        ctx.weighted = torch._foreach_mul(difference, importances)
        products = torch._foreach_mul(difference, ctx.weighted)
        return torch.stack([product.sum() for product in products]).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *torch._foreach_mul(ctx.weighted, 2 * gradient))


def weighted_squared_distance(
    weights: Mapping[str, Tensor], anchors: Sequence[Mapping[str, Tensor]], importances: Sequence[Mapping[str, Tensor]]
) -> Tensor:
    """Σ_i Σ_k F_ik (w_k - a_ik)² over the snapshots i, a scalar; differentiable in the weights.

    Tensors are matched by name. An anchor may have fewer rows than its weight: later rows are not anchored.
    """
    terms = []
    for anchor, importance in zip(anchors, importances, strict=True):
        anchored = [
            weights[name][: len(value)] if len(value) < len(weights[name]) else weights[name]
            for name, value in anchor.items()
        ]
        term: Tensor = _WeightedSquaredDistance.apply(list(importance.values()), list(anchor.values()), *anchored)
        terms.append(term)
    return torch.stack(terms).sum()


class _SquaredDistance(torch.autograd.Function):
    """Σ‖w - a‖² over a list of tensors, in a few fused operations instead of several per tensor."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> Tensor:
        difference = torch._foreach_sub(tensors[:count], tensors[count:])
        ctx.difference = difference
        norms = torch._foreach_norm(difference)
        return torch.stack(norms).square().sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *torch._foreach_mul(ctx.difference, 2 * gradient), *(None for _ in ctx.difference))


def squared_distance(parameters: Iterable[Tensor], anchors: Iterable[Tensor]) -> Tensor:
    """Σ ‖w - a‖² over all entries of all tensors, a scalar; differentiable in the parameters, not in the anchors."""
    weights = list(parameters)
    result: Tensor = _SquaredDistance.apply(len(weights), *weights, *anchors)
    return result
