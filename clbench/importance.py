"""Importance of each weight for what a network has learned: the diagonals that EWC, MAS and similar methods use.

They are sums over samples of squared or absolute per-sample gradients, with the network in evaluation mode unless
stated otherwise. If all its parameters are in linear layers that are each applied once to vectors, one backward pass
per batch is enough, since (g aᵀ)² = g² (a²)ᵀ; otherwise torch.func computes the per-sample gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from clbench.base.experience import Experience, Samples
from clbench.networks.network import Network

Labels = Literal["true", "true_weighted", "predicted", "sampled", "exact"]

_BATCH = 250
_PER_SAMPLE_BATCH = 32  # torch.func holds the gradients of this many samples at once


def fisher(
    model: Network,
    experience: Experience,
    labels: Labels = "predicted",
    batch_size: int = 1,
    samples: int | None = None,
    seed: int = 0,
    *,
    over: Literal["seen", "all"] = "seen",
    scale: Literal["sample", "batch"] = "sample",
    in_training: bool = False,
) -> dict[str, Tensor]:
    """Return the diagonal of the Fisher information, F = 1/n Σ_x (∂ log p(y|x) / ∂w)², by name as in `Network.weights`.

    y is the label (`true`, the "empirical Fisher"; `true_weighted`, weighted by its probability), the most probable
    class (`predicted`), one sampled from the network's output (`sampled`), or every class, weighted by its probability
    (`exact`). p ranges over the classes of the setting; class-incrementally over those `seen` so far or, with a fixed
    head, `all` of the stream. `samples` limits the number of samples. They, and the sampled labels, are drawn with
    `seed`; with a `batch_size` above 1 or `in_training`, the samples are the first in the order of `Samples.shuffled`.

    With a `batch_size` B above 1 the gradients of that many samples, in random order, are averaged before they are
    squared: with g_b of the n_b samples of batch b, F is Σ_b n_b² g_b² / n, which counts them per `sample`, or Σ_b g_b²
    divided by the number of batches, which counts them per `batch`.

    With `in_training` the images are augmented as in training, and batch normalisation uses the statistics of each
    batch (of each sample's pixels, for B = 1); its running statistics in `model` move accordingly.
    Source: Kirkpatrick et al. 2017 (arXiv 1612.00796); on its variants, van de Ven 2025 (arXiv 2502.11756).
    """
    by_batches = batch_size > 1 or (in_training and _has_batch_norm(model))
    mode = model.training
    network = model.train() if in_training and by_batches else model.in_evaluation()
    generator = torch.Generator().manual_seed(seed)
    columns = _columns(experience, over)
    total = _zeros(network)
    counted = 0
    size = batch_size if by_batches else _BATCH
    for x, y in _limited(_samples(experience), samples, size, generator, by_batches, in_training):
        if by_batches:
            _add_squared_means(total, network, x, y, columns, labels, generator, len(x) if scale == "sample" else 1)
        else:
            with torch.no_grad():
                log_p = F.log_softmax(network(x)[:, columns], dim=1)  # (n, classes)
            for target, weight in _targets(log_p, y - columns.start, labels, generator):
                _add_squares(total, network, x, columns, target, weight)
        counted += 1 if by_batches and scale == "batch" else len(x)
    model.train(mode)
    return {name: value / counted for name, value in model.join_rows(total).items()}


def sensitivity(
    model: Network, experience: Experience, batch_size: int = 1, *, over_outputs: Literal["sum", "mean"] = "sum"
) -> dict[str, Tensor]:
    """Return 1/n Σ_x |∂ ‖f(x)‖² / ∂w| with the setting's logits f, by name as in `Network.weights`.

    With a `batch_size` above 1 gradients are averaged over that many samples, in random order, before the absolute
    value is taken. ‖f(x)‖² is the sum of the squared logits, or their mean.
    Source: Aljundi et al. 2018 (arXiv 1711.09601), section 4.1.
    """
    model = model.in_evaluation()
    columns = _columns(experience)
    total = _zeros(model)
    counted, outputs = 0, columns.stop - columns.start
    data = _samples(experience)
    for x, _ in data.shuffled(batch_size) if batch_size > 1 else data.batches(_BATCH):
        if batch_size > 1:
            norms = model(x)[:, columns].square().sum(dim=1).mean()
            _add(total, tuple(len(x) * gradient.abs() for gradient in _gradients(norms, model)))
        else:
            _add_absolute(total, model, x, columns)
        counted += len(x)
    if over_outputs == "mean":
        counted *= outputs
    return {name: value / counted for name, value in model.join_rows(total).items()}


def accumulated(
    before: dict[str, Tensor], now: dict[str, Tensor], keep: float, share: float = 1.0
) -> dict[str, Tensor]:
    """Return `keep` · before + `share` · now; rows of the head that `before` does not have are those of `now`."""
    found = {}
    for name, value in now.items():
        found[name] = value.clone()
        if name in before:
            rows = len(before[name])
            found[name][:rows] = keep * before[name] + share * value[:rows]
    return found


def _samples(experience: Experience) -> Samples:
    if experience.samples is None:
        hooks = "`training_data`, `before_experience` and `after_experience`"
        raise ValueError(f"an experience's data can only be read in {hooks}")
    return experience.samples


def _columns(experience: Experience, over: Literal["seen", "all"] = "seen") -> slice:
    """Return the columns of the logits over which predictions for the experience's data range."""
    if over == "all" and experience.setting == "class_incremental":
        return slice(0, None)
    return slice(experience.old_classes if experience.setting == "task_incremental" else 0, experience.seen_classes)


def _has_batch_norm(model: Network) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def _zeros(model: Network) -> dict[str, Tensor]:
    return {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}


def _limited(
    data: Samples, samples: int | None, size: int, generator: torch.Generator, shuffled: bool, augmented: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    left = len(data) if samples is None else min(samples, len(data))
    if shuffled or augmented:
        batches = data.shuffled(size, augmented)
    else:
        batches = data.batches(size, None if left == len(data) else generator)
    for x, y in batches:
        if left <= 0:
            return
        yield x[:left], y[:left]
        left -= len(x)


def _targets(log_p: Tensor, y: Tensor, labels: Labels, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield labels (n,) and the weights (n,) of their squared gradients."""
    ones = torch.ones_like(log_p[:, 0])
    if labels == "true":
        yield y, ones
    elif labels == "true_weighted":
        yield y, log_p.gather(1, y[:, None]).squeeze(1).exp()
    elif labels == "predicted":
        yield log_p.argmax(dim=1), ones
    elif labels == "sampled":
        yield torch.multinomial(log_p.exp().cpu(), 1, generator=generator).squeeze(1).to(y.device), ones
    else:
        for c in range(log_p.shape[1]):
            yield torch.full_like(y, c), log_p[:, c].exp()


def _add(total: dict[str, Tensor], values: tuple[Tensor, ...]) -> None:
    for sum_so_far, value in zip(total.values(), values, strict=True):
        sum_so_far += value


def _add_squared_means(
    total: dict[str, Tensor],
    model: Network,
    x: Tensor,
    y: Tensor,
    columns: slice,
    labels: Labels,
    generator: torch.Generator,
    factor: int,
) -> None:
    """Add the square of `factor` times the batch's mean gradient, from a single forward pass."""
    logits = model(x)[:, columns]
    log_p = F.log_softmax(logits.detach(), dim=1)
    for target, weight in _targets(log_p, y - columns.start, labels, generator):
        loss = (F.cross_entropy(logits, target, reduction="none") * weight.sqrt()).mean()
        gradients = _gradients(loss, model, retain_graph=labels == "exact")
        _add(total, tuple(factor**2 * gradient.square() for gradient in gradients))


def _gradients(value: Tensor, model: Network, retain_graph: bool = False) -> tuple[Tensor, ...]:
    """Return the gradient w.r.t. each parameter; 0 for those that do not train, whose importance nobody needs."""
    weights = list(model.parameters())
    trained = [weight for weight in weights if weight.requires_grad]
    found = iter(torch.autograd.grad(value, trained, retain_graph=retain_graph, materialize_grads=True))
    return tuple(next(found) if weight.requires_grad else torch.zeros_like(weight) for weight in weights)


def _add_squares(
    total: dict[str, Tensor], model: Network, x: Tensor, columns: slice, y: Tensor, weight: Tensor
) -> None:
    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits[columns], target)

    parts = _linear_parts(model, lambda: F.cross_entropy(model(x)[:, columns], y, reduction="sum"))
    if parts is not None:
        _add_linear(total, model, [(layer, a.square(), g.square() * weight[:, None]) for layer, a, g in parts])
        return
    for xs, ys, ws in zip(*(part.split(_PER_SAMPLE_BATCH) for part in (x, y, weight)), strict=True):
        per_sample = _per_sample(model, loss, xs, ys)
        _add(total, tuple(torch.tensordot(ws, gradient.square(), dims=1) for gradient in per_sample))


def _add_absolute(total: dict[str, Tensor], model: Network, x: Tensor, columns: slice) -> None:
    def norm(logits: Tensor, _: Tensor) -> Tensor:
        return logits[columns].square().sum()

    parts = _linear_parts(model, lambda: model(x)[:, columns].square().sum())
    if parts is not None:
        _add_linear(total, model, [(layer, a.abs(), g.abs()) for layer, a, g in parts])
        return
    for xs in x.split(_PER_SAMPLE_BATCH):
        _add(total, tuple(gradient.abs().sum(dim=0) for gradient in _per_sample(model, norm, xs, xs)))


def _add_linear(total: dict[str, Tensor], model: Network, parts: list[tuple[nn.Linear, Tensor, Tensor]]) -> None:
    """Add Σ_n g_n a_nᵀ: of squares if a and g are squares, of absolute values if they are absolute values."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    for layer, a, g in parts:
        total[names[id(layer.weight)]] += g.T @ a
        if layer.bias is not None:
            total[names[id(layer.bias)]] += g.sum(dim=0)


def _linear_parts(model: Network, loss: Callable[[], Tensor]) -> list[tuple[nn.Linear, Tensor, Tensor]] | None:
    """Return each linear layer, its input a (n, in), and the gradient g (n, out) of the summed loss w.r.t. its output.

    None if other layers have parameters too, or one is not applied exactly once, to vectors.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if sum(len(list(layer.parameters())) for layer in layers) != len(list(model.parameters())):
        return None
    calls: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def keep(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        calls.append((layer, given[0].detach(), output))

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        value = loss()
    finally:
        for handle in handles:
            handle.remove()
    once = {layer for layer, _, _ in calls} == set(layers) and len(calls) == len(layers)
    if not once or any(a.dim() != 2 for _, a, _ in calls):
        return None
    reached = [output for _, _, output in calls if output.requires_grad]  # others are behind layers that do not train
    gradients = iter(torch.autograd.grad(value, reached))
    return [(layer, a, next(gradients) if out.requires_grad else torch.zeros_like(out)) for layer, a, out in calls]


def _per_sample(model: Network, value: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Return the gradient of `value(logits, y)` for each sample w.r.t. each parameter, (n, …) each."""
    parameters = {name: weight.detach() for name, weight in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def of_one(weights: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        return value(functional_call(model, (weights, buffers), (image[None],))[0], target)

    return tuple(vmap(grad(of_one), in_dims=(None, 0, 0))(parameters, x, y).values())
