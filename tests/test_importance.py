"""Fisher information and sensitivity: against closed forms on a linear model, and one sample at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_runs import Samples, SmallRun, builtin, colours, same, strategy_class
from torch import Tensor, nn

from clbench import importance, losses
from clbench.base.batch import Batch
from clbench.base.experience import Experience
from clbench.base.recipe import Augmentation, Recipe
from clbench.networks.network import Network

WHERE = Experience(0, (3, 2))


class Given:
    """Training data held in memory."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def batches(self, size: int, generator: torch.Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.arange(len(self)) if generator is None else torch.randperm(len(self), generator=generator)
        for rows in order.split(size):
            yield self.x[rows], self.y[rows]

    def shuffled(self, size: int, augmented: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """In the given order, so that a transcription can follow; augmented images are mirrored."""
        for x, y in self.batches(size):
            yield (x.flip(-1) if augmented else x), y


def of(given: Given, where: Experience) -> Experience:
    """The experience after its training has ended."""
    return replace(where, samples=given)


def linear_model(features: int = 4) -> Network:
    """softmax(W x + b) with three classes: only a head."""
    model = Network([nn.Flatten()], features)
    model.head.grow(3, seed=1)
    return model


def small_convolution() -> Network:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = Network([trunk], 3)
    model.head.grow(3, seed=1)
    return model.eval()


def data(shape: tuple[int, ...] = (4,), n: int = 37) -> Given:
    generator = torch.Generator().manual_seed(0)
    return Given(torch.randn(n, *shape, generator=generator), torch.randint(3, (n,), generator=generator))


def test_the_exact_fisher_of_a_softmax_regression_is_p_times_1_minus_p_times_x_squared() -> None:
    model, given = linear_model(), data()
    found = importance.fisher(model, of(given, WHERE), labels="exact")
    p = model(given.x).softmax(dim=1).detach()
    expected = torch.einsum("nc,nk->ck", p * (1 - p), given.x**2) / len(given)
    torch.testing.assert_close(found["head.weight"], expected)
    torch.testing.assert_close(found["head.bias"], (p * (1 - p)).mean(dim=0))


def test_the_empirical_fisher_of_a_softmax_regression_is_the_squared_residual_times_x_squared() -> None:
    model, given = linear_model(), data()
    found = importance.fisher(model, of(given, WHERE), labels="true")
    residual = F.one_hot(given.y, 3) - model(given.x).softmax(dim=1).detach()
    torch.testing.assert_close(found["head.weight"], torch.einsum("nc,nk->ck", residual**2, given.x**2) / len(given))


def test_the_predicted_fisher_takes_the_most_probable_class_for_the_label() -> None:
    model, given = linear_model(), data()
    found = importance.fisher(model, of(given, WHERE), labels="predicted")
    relabelled = Given(given.x, model(given.x).argmax(dim=1))
    expected = importance.fisher(model, of(relabelled, WHERE), labels="true")
    torch.testing.assert_close(found["head.weight"], expected["head.weight"])


def test_the_sampled_fisher_tends_to_the_exact_one() -> None:
    model, given = linear_model(), data(n=20)
    many = Given(given.x.repeat(400, 1), given.y.repeat(400))
    sampled = importance.fisher(model, of(many, WHERE), labels="sampled")
    exact = importance.fisher(model, of(given, WHERE), labels="exact")
    torch.testing.assert_close(sampled["head.weight"], exact["head.weight"], rtol=0.1, atol=0.005)


@pytest.mark.parametrize("labels", ["true", "exact"])
def test_a_convolutional_networks_fisher_is_the_sum_of_squares_of_one_sample_at_a_time(labels: str) -> None:
    model, given = small_convolution(), data((1, 6, 6))
    found = importance.fisher(model, of(given, WHERE), labels=labels)  # type: ignore[arg-type]
    expected = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for x, y in zip(given.x, given.y, strict=True):
        log_p = model(x[None]).log_softmax(dim=1)[0]
        for c in range(3):
            weight = float(c == y) if labels == "true" else log_p[c].exp().item()
            gradients = torch.autograd.grad(log_p[c], list(model.parameters()), retain_graph=True)
            for name, gradient in zip(expected, gradients, strict=True):
                expected[name] += weight * gradient**2 / len(given)
    for name, value in model.join_rows(expected).items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-7)


class Unusual(nn.Module):
    """Linear layers as they occur in networks: without a bias, applied twice, to tokens, and never."""

    def __init__(self) -> None:
        super().__init__()
        self.no_bias, self.twice = nn.Linear(4, 4, bias=False), nn.Linear(4, 4)
        self.tokens, self.never = nn.Linear(2, 2), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(torch.tanh(self.twice(self.no_bias(x))))
        return self.tokens(x.view(-1, 2, 2)).flatten(1)


def one_at_a_time(model: Network, given: Given, value: Callable[[Tensor, Tensor], Tensor], power: int) -> Any:
    """By name, the mean of |∂ value(logits, y) / ∂w|^power over the samples."""
    expected = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for x, y in zip(given.x, given.y, strict=True):
        model.zero_grad()
        value(model(x[None])[0], y).backward()
        for name, weight in model.named_parameters():
            expected[name] += (torch.zeros_like(weight) if weight.grad is None else weight.grad.abs() ** power) / len(
                given
            )
    return model.join_rows(expected)


@pytest.mark.parametrize("layer", ["no_bias", "twice", "tokens", "never"])
def test_linear_layers_of_all_kinds_have_the_importances_of_one_sample_at_a_time(layer: str) -> None:
    torch.manual_seed(0)
    whole = Unusual()
    trunk = {
        "no_bias": nn.Sequential(whole.no_bias, nn.ReLU()),
        "twice": nn.Sequential(whole.twice, nn.Tanh(), whole.twice),
        "tokens": nn.Sequential(nn.Unflatten(1, (2, 2)), whole.tokens, nn.Flatten()),
        "never": whole,
    }[layer]
    model, given = Network([trunk], 4), data()
    model.head.grow(3, seed=1)
    model.eval()
    fisher = importance.fisher(model, of(given, WHERE), labels="true")
    sensitivity = importance.sensitivity(model, of(given, WHERE))
    squares = one_at_a_time(model, given, F.cross_entropy, 2)
    sizes = one_at_a_time(model, given, lambda logits, y: logits.square().sum(), 1)
    for name, value in squares.items():
        torch.testing.assert_close(fisher[name], value, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(sensitivity[name], sizes[name], rtol=1e-4, atol=1e-6)


def test_batches_average_gradients_before_they_are_squared() -> None:
    model, given = linear_model(), data(n=8)
    found = importance.fisher(model, of(given, WHERE), labels="true", batch_size=4)
    expected = torch.zeros(3, 4)
    for rows in (slice(0, 4), slice(4, 8)):
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(given.x[rows]), given.y[rows]), [model.head.new.weight])  # type: ignore[union-attr]
        expected += 4 * 4 * gradient**2
    torch.testing.assert_close(found["head.weight"], expected / 8)


def test_a_limit_of_samples_reads_that_many_and_the_same_seed_reads_the_same() -> None:
    model, given = linear_model(), data()
    one, again, other = (
        importance.fisher(model, of(given, WHERE), "true", samples=10, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(one["head.weight"], again["head.weight"])
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_task_incrementally_the_answers_range_over_the_own_experience() -> None:
    model, given = linear_model(), data()
    given.y.fill_(2)
    where = Experience(1, (2, 1), "task_incremental")
    found = importance.fisher(model, of(given, where), labels="true")
    assert not found["head.weight"].any()  # with one class to choose from nothing can be learned


def test_the_sensitivity_of_a_linear_model_is_twice_the_mean_of_f_times_x() -> None:
    model, given = linear_model(), data()
    found = importance.sensitivity(model, of(given, WHERE))
    f = model(given.x).detach()
    torch.testing.assert_close(found["head.weight"], 2 * torch.einsum("nc,nk->nck", f, given.x).abs().mean(dim=0))


def test_the_sensitivity_of_the_mean_of_the_squared_logits_is_that_of_their_sum_divided_by_their_number() -> None:
    model, given = linear_model(), data()
    for size in (1, 5):
        found = importance.sensitivity(model, of(given, WHERE), size, over_outputs="mean")
        whole = importance.sensitivity(model, of(given, WHERE), size)
        torch.testing.assert_close(found["head.weight"], whole["head.weight"] / 3)


def test_a_convolutional_networks_sensitivity_is_the_sum_of_sizes_of_one_sample_at_a_time() -> None:
    model, given = small_convolution(), data((1, 6, 6))
    found = importance.sensitivity(model, of(given, WHERE))
    expected = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for x in given.x:
        gradients = torch.autograd.grad(model(x[None]).square().sum(), list(model.parameters()))
        for name, gradient in zip(expected, gradients, strict=True):
            expected[name] += gradient.abs() / len(given)
    for name, value in model.join_rows(expected).items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-7)


def test_what_is_accumulated_keeps_a_share_of_the_old_and_nothing_for_new_rows() -> None:
    before, now = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([10.0, 10.0, 10.0]), "v": torch.ones(1)}
    found = importance.accumulated(before, now, keep=0.5)
    assert found["w"].tolist() == [10.5, 11, 10] and found["v"].tolist() == [1]


def test_the_weighted_distance_and_its_gradient_are_those_worked_by_hand() -> None:
    w = torch.tensor([1.0, 2.0, 5.0], requires_grad=True)
    anchors, importances = [{"w": torch.tensor([0.0, 4.0])}], [{"w": torch.tensor([3.0, 0.5])}]
    distance = losses.weighted_squared_distance({"w": w}, anchors, importances)
    # 3·1² + 0.5·(-2)² = 5; gradient 2·3·1, 2·0.5·(-2), and nothing for the row that came later
    assert distance.item() == 5
    assert torch.autograd.grad(distance, w)[0].tolist() == [6, -2, 0]


# -- the strategies that use them -------------------------------------------------------------------------------------


def preset_of(name: str, preset: str) -> Any:
    return builtin(name, **strategy_class(name).presets[preset]["set"])


def penalty(strategy: object, model: Network, given: Given) -> float:
    where = Experience(1, (3, 2))
    batch = Batch(given.x, given.y, given.y, model(given.x), None, model, where)
    return (strategy.loss(batch) - batch.cross_entropy()).item()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("convention", "factor"), [("half_lambda", 0.5), ("lambda", 1.0)])
def test_ewc_holds_each_weight_by_its_fisher_information(convention: str, factor: float) -> None:
    model, given = linear_model(), data()
    ewc = builtin("ewc_dialects", strength=10, convention=convention)
    ewc.start(model)
    ewc.after_experience(model, of(given, WHERE))
    fisher = importance.fisher(model, of(given, WHERE))
    model.head.grow(2, seed=2)
    with torch.no_grad():
        model.head.old.weight += 0.1  # type: ignore[union-attr]
    expected = factor * 10 * 0.1**2 * float(fisher["head.weight"].sum())
    assert penalty(ewc, model, given) == pytest.approx(expected, rel=1e-3)


def test_online_ewc_keeps_one_term_and_separate_ewc_one_for_each_experience() -> None:
    for terms, expected in (("separate", 2), ("online", 1)):
        model, given = linear_model(), data()
        ewc = builtin("ewc_dialects", terms=terms)
        ewc.start(model)
        ewc.after_experience(model, of(given, Experience(0, (3, 2, 2))))
        model.head.grow(2, seed=2)
        ewc.after_experience(model, of(given, Experience(1, (3, 2, 2))))
        assert len(ewc.anchors) == len(ewc.importances) == expected


def convolution_with_batch_norm(outputs: int = 3) -> Network:
    """In float64, with running statistics other than the initial ones."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 3, 3, bias=False)  # a bias would have no effect
    trunk = nn.Sequential(convolution, nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = Network([trunk], 3)
    model.head.grow(outputs, seed=1)
    model = model.double()
    model(torch.randn(16, 1, 6, 6, dtype=torch.float64))
    return model


def doubles(n: int) -> Given:
    given = data((1, 6, 6), n)
    return Given(given.x.double(), given.y)


def transcribed_pycil(network: Network, given: Given) -> tuple[dict[str, Tensor], Network]:
    """getFisherDiagonal, G-U-N/PyCIL at 87cc411, models/ewc.py lines 204 to 225, and the network that it leaves."""
    network = copy.deepcopy(network)
    fisher = {n: torch.zeros_like(p) for n, p in network.named_parameters()}
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    batches = list(given.shuffled(128, augmented=True))
    for inputs, targets in batches:
        loss = F.cross_entropy(network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        for n, p in network.named_parameters():
            assert p.grad is not None
            fisher[n] += p.grad.pow(2).clone()
    for n, p in fisher.items():
        fisher[n] = torch.min(p / len(batches), torch.tensor(0.0001, dtype=p.dtype))
    return network.join_rows(fisher), network


def transcribed_mammoth(network: Network, given: Given) -> tuple[dict[str, Tensor], Network]:
    """end_task, aimagelab/mammoth at e75a491, models/ewc_on.py lines 44 to 61, and the network that it leaves."""
    network = copy.deepcopy(network)
    fish = {n: torch.zeros_like(p) for n, p in network.named_parameters()}
    network.train()
    for x, y in given.shuffled(1, augmented=True):
        network.zero_grad()
        loss = -F.nll_loss(F.log_softmax(network(x), dim=1), y, reduction="none")
        exp_cond_prob = torch.mean(torch.exp(loss.detach().clone()))
        torch.mean(loss).backward()
        for n, p in network.named_parameters():
            assert p.grad is not None
            fish[n] += exp_cond_prob * p.grad**2
    return network.join_rows({n: value / len(given) for n, value in fish.items()}), network


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=0)


def test_ewc_as_in_pycil_has_the_fisher_information_and_leaves_the_network_of_its_code() -> None:
    model, given = convolution_with_batch_norm(), doubles(300)  # the last batch is smaller
    given.y.clamp_(max=1)
    expected, left = transcribed_pycil(model, given)
    clipped = torch.cat([value.flatten() for value in expected.values()]) == 0.0001
    assert clipped.any() and not clipped.all()
    ewc = preset_of("ewc_dialects", "pycil")
    ewc.start(model)
    ewc.after_experience(model, of(given, Experience(0, (3, 2))))
    equal(ewc.importances[0], expected)
    equal(dict(model.state_dict()), dict(left.state_dict()))


def test_ewc_as_in_pycil_averages_the_fisher_information_over_the_classes() -> None:
    model, given = convolution_with_batch_norm(), doubles(256)
    ewc = preset_of("ewc_dialects", "pycil")
    ewc.start(model)
    first, _ = transcribed_pycil(model, given)
    ewc.after_experience(model, of(given, Experience(0, (3, 2, 2))))
    model.head.grow(2, seed=2)
    model.double()
    second, _ = transcribed_pycil(model, given)
    ewc.after_experience(model, of(given, Experience(1, (3, 2, 2))))
    alpha = 3 / 5  # known classes / total classes
    for name, value in first.items():
        second[name][: len(value)] = alpha * value + (1 - alpha) * second[name][: len(value)]
    equal(ewc.importances[0], second)


@pytest.mark.parametrize("preset", ["pycil", "mammoth"])
def test_running_statistics_follow_the_fisher_information_also_in_the_last_experience(preset: str) -> None:
    model, given = convolution_with_batch_norm(), doubles(16)
    model.head.fixed = True
    transcribed = {"pycil": transcribed_pycil, "mammoth": transcribed_mammoth}[preset]
    _, left = transcribed(model, given)
    ewc = preset_of("ewc_dialects", preset)
    ewc.start(model)
    ewc.after_experience(model, of(given, Experience(0, (3,))))
    equal(dict(model.state_dict()), dict(left.state_dict()))


def test_in_evaluation_mode_the_fisher_information_leaves_running_statistics_alone() -> None:
    model, given = convolution_with_batch_norm(), doubles(16)
    before = copy.deepcopy(model.state_dict())
    for batch_size in (1, 4):
        importance.fisher(model, of(given, WHERE), batch_size=batch_size)
    equal(dict(model.state_dict()), dict(before))


def test_averaged_fisher_information_weighs_domains_equally_which_bring_no_new_class() -> None:
    model = linear_model()
    ewc = builtin("ewc_dialects", terms="averaged")
    ewc.start(model)
    each = []
    for index in range(3):
        experience = of(data(n=30 + 10 * index), Experience(index, (3, 3, 3, 3), "domain_incremental"))
        each.append(ewc.fisher(model, experience))
        ewc.after_experience(model, experience)
    for name, found in ewc.importances[0].items():
        torch.testing.assert_close(found, sum(one[name] for one in each) / 3)


def test_ewc_as_in_pycil_classifies_among_the_current_classes() -> None:
    model, given = linear_model(), data()
    ewc = preset_of("ewc_dialects", "pycil")
    ewc.start(model)
    ewc.after_experience(model, of(given, Experience(0, (3, 2, 2))))
    model.head.grow(2, seed=2)
    y = 3 + given.y % 2
    batch = Batch(given.x, y, y, model(given.x), None, model, Experience(1, (3, 2, 2)))
    torch.testing.assert_close(ewc.loss(batch), F.cross_entropy(batch.logits[:, 3:], y - 3))  # nothing has moved yet


def test_ewc_as_in_mammoth_has_the_fisher_information_over_all_classes_and_leaves_the_network_of_its_code() -> None:
    model, given = convolution_with_batch_norm(outputs=5), doubles(32)
    model.head.fixed = True  # five outputs, of which three are seen
    expected, left = transcribed_mammoth(model, given)
    ewc = preset_of("ewc_dialects", "mammoth")
    ewc.start(model)
    ewc.after_experience(model, of(given, WHERE))
    equal(ewc.importances[0], expected)
    equal(dict(model.state_dict()), dict(left.state_dict()))
    assert expected["head.weight"][3:].any()


def test_ewc_as_in_mammoth_weighs_each_samples_square_by_the_probability_of_its_label() -> None:
    model, given = linear_model(), data()
    model.head.fixed = True
    ewc = preset_of("ewc_dialects", "mammoth")
    ewc.start(model)
    ewc.after_experience(model, of(given, WHERE))
    x = given.x.flip(-1)  # augmented
    p = model(x).softmax(dim=1).detach()
    residual = F.one_hot(given.y, 3) - p
    own = p.gather(1, given.y[:, None])
    expected = torch.einsum("nc,nk->ck", own * residual**2, x**2) / len(given)
    torch.testing.assert_close(ewc.importances[0]["head.weight"], expected)


def test_online_ewc_has_the_decay_in_the_penalty_too() -> None:
    """Schwarz et al. 2018, equation 9, and ewc_loss in continual_learner.py of GMvandeVen/continual-learning."""
    penalties = {}
    for decay in (0.8, 1.0):
        model, given = linear_model(), data()
        ewc = builtin("ewc_dialects", strength=10, terms="online", decay=decay)
        ewc.start(model)
        ewc.after_experience(model, of(given, Experience(0, (3, 2))))
        model.head.grow(2, seed=2)
        with torch.no_grad():
            model.head.old.weight += 0.1  # type: ignore[union-attr]
        penalties[decay] = penalty(ewc, model, given)
    assert penalties[1.0] / penalties[0.8] == pytest.approx(1.25, rel=1e-4)


class Reversed(Given):
    """Data whose random order is known."""

    def shuffled(self, size: int, augmented: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        yield from Given(self.x.flip(0), self.y.flip(0)).batches(size)


def test_batches_whose_gradients_are_averaged_are_in_random_order() -> None:
    model, drawn = linear_model(), data(n=7)
    given, reordered = Reversed(drawn.x, drawn.y), Given(drawn.x.flip(0), drawn.y.flip(0))
    for scale in ("sample", "batch"):
        found, expected = (
            importance.fisher(model, of(samples, WHERE), "true", 2, scale=scale)  # type: ignore[arg-type]
            for samples in (given, reordered)
        )
        equal(found, expected)
    equal(importance.sensitivity(model, of(given, WHERE), 2), importance.sensitivity(model, of(reordered, WHERE), 2))


def test_a_batchs_square_counts_by_its_samples_or_once() -> None:
    model, given = linear_model(), data(n=6)
    where = of(given, WHERE)
    squares = []
    for rows in (slice(0, 4), slice(4, 6)):  # the second batch is smaller
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(given.x[rows]), given.y[rows]), [model.head.new.weight])  # type: ignore[union-attr]
        squares.append(gradient**2)
    by_sample = importance.fisher(model, where, "true", 4)["head.weight"]
    by_batch = importance.fisher(model, where, "true", 4, scale="batch")["head.weight"]
    torch.testing.assert_close(by_sample, (16 * squares[0] + 4 * squares[1]) / 6)
    torch.testing.assert_close(by_batch, (squares[0] + squares[1]) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["pycil", "mammoth"])
def test_a_run_whose_fisher_information_is_of_augmented_images_resumes_bit_for_bit(preset: str) -> None:
    recipe = Recipe(
        network="cnn",
        optimizer="adam",
        lr=1e-3,
        batch_size=16,
        augmentation=Augmentation(crop=1, flip=True),
        head="fixed",
    )

    small = colours(classes=6)
    images = Samples(small.x.repeat(2, axis=1).repeat(2, axis=2), small.y)  # 16x16, since the cnn divides by 8

    def run() -> SmallRun:
        strategy = preset_of("ewc_dialects", preset)
        made = SmallRun(strategy, recipe, images, (2, 2, 2))
        fixed = made.new_model()
        fixed.head.fixed = True
        strategy.start(fixed)
        return made

    whole, first, resumed = run().learn(), run().learn(2), run()
    resumed.trainer.model, resumed.trainer.strategy = first.trainer.model, first.trainer.strategy
    torch.manual_seed(123)
    resumed.trainer.learn(2)
    assert same(resumed.trainer.model, whole.models[2])


def test_mas_holds_each_weight_by_its_sensitivity() -> None:
    model, given = linear_model(), data()
    mas = builtin("mas", strength=2)
    mas.start(model)
    mas.after_experience(model, of(given, WHERE))
    sensitivity = importance.sensitivity(model, of(given, WHERE))
    model.head.grow(2, seed=2)
    with torch.no_grad():
        model.head.old.bias -= 0.2  # type: ignore[union-attr]
    assert penalty(mas, model, given) == pytest.approx(2 * 0.04 * float(sensitivity["head.bias"].sum()), rel=1e-3)


@pytest.mark.parametrize("gradient", ["classification", "total"])
def test_si_credits_each_weight_with_the_loss_that_its_path_took_away(gradient: str) -> None:
    model, given = linear_model(), data()
    si = builtin("si", strength=3, damping=0.5, gradient=gradient)
    si.start(model)
    si.before_experience(model, WHERE)
    began = model.head.weight.detach().clone()
    path = torch.zeros_like(began)
    for _ in range(4):  # steepest descent by hand
        batch = Batch(given.x, given.y, given.y, model(given.x), None, model, WHERE)
        model.zero_grad()
        si.loss(batch).backward()
        weight = model.head.new.weight  # type: ignore[union-attr]
        path += 0.1 * weight.grad**2
        si.before_step(batch)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
        si.after_step(batch)
    si.after_experience(model, of(given, WHERE))
    expected = path / ((model.head.weight.detach() - began) ** 2 + 0.5)
    torch.testing.assert_close(si.importance["head.weight"], expected, rtol=1e-4, atol=1e-7)
    assert torch.equal(si.anchor["head.weight"], model.head.weight.detach())


def test_si_leaves_its_own_penalty_out_of_the_credit_unless_told_otherwise_and_cut_gradients_are_no_matter() -> None:
    paths = {}
    for gradient, cut in (("classification", 1), ("classification", 100), ("total", 100)):
        model, given = linear_model(), data()
        si = builtin("si", strength=5, gradient=gradient)
        si.start(model)
        si.anchor = {name: weight.detach() - 1 for name, weight in model.weights().items()}
        si.importance = {name: torch.ones_like(weight) for name, weight in model.weights().items()}
        model.head.grow(2, seed=2)
        where = Experience(1, (3, 2))
        si.before_experience(model, where)
        batch = Batch(given.x, given.y, given.y, model(given.x), None, model, where)
        si.loss(batch).backward()
        si.before_step(batch)
        for parameter in model.parameters():
            parameter.grad = parameter.grad / cut  # as a recipe's clip_norm does
        with torch.no_grad():
            model.head.old.weight -= 0.01  # type: ignore[union-attr]
        si.after_step(batch)
        paths[gradient, cut] = si.path["head.old.weight"]
    # The penalty's gradient is 2·5·1·(w - (w - 1)) = 10, and every weight moved by -0.01: the credit differs by 0.1.
    credit = paths["total", 100] - paths["classification", 100]
    torch.testing.assert_close(credit, torch.full((3, 4), 0.1), rtol=1e-4, atol=1e-5)
    assert torch.equal(paths["classification", 100], paths["classification", 1])


def test_si_credits_no_weight_with_a_jump_back_to_the_best_weights() -> None:
    model, given = linear_model(), data()
    si = builtin("si")
    si.start(model)
    si.before_experience(model, WHERE)
    paths = []
    for jump in (0.0, 0.3, 0.0):  # as the schedule `plateau` jumps between two steps
        with torch.no_grad():
            model.head.new.weight += jump  # type: ignore[union-attr]
        batch = Batch(given.x, given.y, given.y, model(given.x), None, model, WHERE)
        model.zero_grad()
        si.loss(batch).backward()
        gradient = model.head.new.weight.grad.clone()  # type: ignore[union-attr]
        si.before_step(batch)
        with torch.no_grad():
            model.head.new.weight -= 0.1 * gradient  # type: ignore[union-attr]
        si.after_step(batch)
        paths.append(0.1 * gradient**2)
    torch.testing.assert_close(si.path["head.new.weight"], torch.stack(paths).sum(dim=0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize(
    ("name", "config"),
    [("ewc", {}), ("mas", {}), ("mas", {"batch": 16}), ("ewc_dialects", {"fisher_batch_size": 16})],
)
def test_weights_that_do_not_train_have_no_part_in_a_penalty(name: str, config: dict[str, Any], network: str) -> None:
    recipe = Recipe(network=network, lr=0.05, batch_size=16, epochs=1)
    run = SmallRun(builtin(name, **config), recipe, colours(classes=6), (2, 2, 2))
    run.trainer.model.hold(run.trainer.model.blocks[:1])
    initial = copy.deepcopy(run.trainer.model.blocks[0])
    run.trainer.strategy.start(run.trainer.model)
    run.learn()
    assert same(run.models[-1].blocks[0], initial)
    assert not same(run.models[-1].blocks[1], run.models[0].blocks[1])
