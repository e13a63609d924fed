"""Strategies on the features of a frozen trunk, each against the closed form that its paper claims."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from small_runs import SmallRun, builtin, colours, same, strategy_class
from torch import Tensor, nn

import clbench
from clbench.base.batch import Batch
from clbench.base.experience import Experience
from clbench.base.incremental_setting import Setting
from clbench.base.recipe import Recipe
from clbench.errors import UsageError
from clbench.networks.network import Network

RECIPE = Recipe(network="mlp", optimizer="sgd", lr=0.05, batch_size=16, epochs=2)
SIZES = (2, 1, 3)
F_ = 5
"""Number of features."""

FEATURE_STRATEGIES = ["slda", "ncm", "ranpac", "fecam", "acil", "dsal"]
SMALL: dict[str, dict[str, Any]] = {
    "ranpac": {"projections": 40},
    "acil": {"expansion": 40},
    "dsal": {"expansion": 40},
}
Stream = list[tuple[Tensor, Tensor]]


def stream(sizes: tuple[int, ...] = SIZES, per_class: int = 12) -> Stream:
    """Positive features, (n, F_), around a centre of each class, and labels, for each experience."""
    draw = torch.Generator().manual_seed(3)
    experiences, first = [], 0
    for size in sizes:
        labels = torch.arange(first, first + size).repeat(per_class)
        centres = 4 * torch.rand(size, F_, generator=draw)
        features = centres[labels - first] + torch.rand(len(labels), F_, generator=draw)
        experiences.append((features, labels))
        first += size
    return experiences


def taught(
    name: str, data: Stream, sizes: tuple[int, ...] = SIZES, setting: Setting = "class_incremental", **config: Any
) -> tuple[Any, nn.Module]:
    """A strategy that has learned these features, experience by experience, and its last classifier."""
    torch.manual_seed(0)
    strategy = builtin(name, **config)
    strategy.start(Network([], F_))
    classifier = nn.Module()
    for index, (features, labels) in enumerate(data):
        classifier = strategy.learn(features, labels, Experience(index, sizes, setting))
    return strategy, classifier


def joined(data: Stream) -> tuple[Tensor, Tensor]:
    features, labels = zip(*data, strict=True)
    return torch.cat(features), torch.cat(labels)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    return F.one_hot(labels, classes).double()


# -- what they have in common -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FEATURE_STRATEGIES, "fetril"])
def test_the_trunk_is_frozen_after_the_first_experience(name: str) -> None:
    strategy = builtin(name, **SMALL.get(name, {}))
    run = SmallRun(strategy, RECIPE, colours(classes=6), SIZES)
    strategy.start(run.trainer.model)
    run.learn()
    assert all(same(run.models[0].blocks, model.blocks) for model in run.models)
    steps = [costs.gradient_steps for costs in run.experience_costs]
    assert steps[0] > 0 and (sum(steps[1:]) > 0) == (name == "fetril")


@pytest.mark.parametrize("name", [*FEATURE_STRATEGIES, "fetril"])
def test_a_trunk_that_is_frozen_from_the_start_is_not_trained_in_the_first_experience_either(name: str) -> None:
    strategy = builtin(name, **SMALL.get(name, {}))
    strategy.start(Network([], F_))
    assert strategy.first_loss() is None
    if name != "fetril":
        assert strategy.training_data(Experience(0, SIZES)) == "read"


@pytest.mark.parametrize("name", FEATURE_STRATEGIES)
def test_a_strategy_says_if_it_ignores_further_images_of_a_class_that_it_knows(name: str) -> None:
    config = SMALL.get(name, {})
    (first, y), (new, new_y) = stream((2, 1))
    again = (torch.cat([new, first[:6] + 1]), torch.cat([new_y, y[:6]]))
    _, with_old = taught(name, [(first, y), again], (2, 1), **config)
    _, without = taught(name, [(first, y), (new, new_y)], (2, 1), **config)
    ignored = torch.equal(with_old(first), without(first))
    assert ignored == strategy_class(name).only_new_classes


@pytest.mark.parametrize(
    "name, config, exponent",
    [
        ("ranpac", {"projections": 100_000}, 3),
        ("acil", {"expansion": 100_000}, 3),
        ("dsal", {"expansion": 100_000}, 3),
        ("ranpac", {"projections": 100_000, "ridge": 1.0}, 3),
        ("ncm", {}, 0),
    ],
)
def test_the_time_of_a_closed_form_grows_with_the_cube_of_its_width(
    name: str, config: dict[str, Any], exponent: int
) -> None:
    half = {key: value // 2 if isinstance(value, int) else value for key, value in config.items()}
    long, short = (builtin(name, **own).operations(10, 1, 1280) for own in (config, half))
    assert long == pytest.approx(2**exponent * short, rel=0.01)


def test_the_time_of_ranpac_grows_faster_than_the_square_of_the_images_it_chooses_its_ridge_on() -> None:
    few, more = (builtin("ranpac", projections=10**6).operations(n, 1, 1280) for n in (10**5, 2 * 10**5))
    fixed = [builtin("ranpac", projections=10**6, ridge=1.0).operations(n, 1, 1280) for n in (10**5, 2 * 10**5)]
    choice_few, choice_more = few - fixed[0], more - fixed[1]
    assert 4 < choice_more / choice_few < 8


def test_the_time_of_fecam_grows_with_the_classes() -> None:
    strategy = builtin("fecam")
    assert strategy.operations(10, 20, 1280) == pytest.approx(2 * strategy.operations(5, 10, 1280))


@pytest.mark.parametrize("name", FEATURE_STRATEGIES)
def test_predictions_are_what_the_classifier_makes_of_the_trunks_features(name: str) -> None:
    strategy = builtin(name, **SMALL.get(name, {}))
    run = SmallRun(strategy, RECIPE, colours(classes=6), SIZES)
    strategy.start(run.trainer.model)
    run.learn()
    network, where = run.trainer.model.in_evaluation(), run.trainer.experience
    x = run.scaling(run.images.pixels)
    with torch.no_grad():
        scores = strategy.predict(network, x, where)
        assert torch.equal(scores, strategy.classifier(network, where)(network.blocks(x)))
        with torch.autocast("cpu", torch.bfloat16):  # only the trunk may be computed in lower precision
            low = strategy.classifier(network, where)
            given = network.blocks(x).float()
            predicted = strategy.predict(network, x, where)
        assert torch.equal(predicted, low(given))
    assert scores.shape == (len(x), 6)
    assert (scores.argmax(dim=1) == run.positions).float().mean() > 0.8


@pytest.mark.parametrize("name", ["naive", "lwf", "ewc"])
def test_predictions_by_the_head_are_the_networks_outputs_to_the_bit(name: str) -> None:
    run = SmallRun(builtin(name), RECIPE, colours(classes=6), SIZES)
    run.trainer.strategy.start(run.trainer.model)
    run.learn()
    network = run.trainer.model.in_evaluation()
    x = run.scaling(run.images.pixels)
    with torch.no_grad():
        assert torch.equal(run.trainer.strategy.predict(network, x, run.trainer.experience), network(x))


def small_run(name: str, setting: Setting, data: Path, out: Path, **more: Any) -> Any:
    given: dict[str, Any] = {"split": "5", "recipe": "quick", "threads": 1, "out": out, "data": data, **more}
    given["set"] = {**SMALL.get(name, {}), **given.get("set", {})}
    (run,) = clbench.run(name, "splitdigits", setting=setting, **given)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FEATURE_STRATEGIES, "fetril"])
@pytest.mark.parametrize("setting", ["class_incremental", "task_incremental"])
def test_they_learn_the_digits_and_the_audit_has_nothing_to_say(
    name: str, setting: Setting, data: Path, tmp_path: Path
) -> None:
    run = small_run(name, setting, data, tmp_path)
    assert run.result.audit.verdict == "pass"
    # Knowing only the last experience gives 20 % class-incrementally, guessing 50 % task-incrementally.
    assert run.metric("final_accuracy") > (0.4 if setting == "class_incremental" else 0.75)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FEATURE_STRATEGIES, "fetril"])
def test_they_learn_the_digits_on_a_network_that_is_frozen_from_the_start(
    name: str, data: Path, tmp_path: Path
) -> None:
    run = small_run(name, "class_incremental", data, tmp_path, network="mlp", set={"network.train": "head"})
    assert run.result.audit.verdict == "pass"
    assert run.metric("final_accuracy") > 0.8  # of random features
    assert (run.result.experiences[0].gradient_steps > 0) == (name == "fetril")


@pytest.mark.parametrize("name", ["fecam", "fetril", "dsal"])
def test_those_that_cannot_go_on_with_a_class_are_refused_domain_incrementally(
    name: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=name):
        small_run(name, "domain_incremental", data, tmp_path)


@pytest.mark.parametrize("name", ["slda", "ncm", "acil"])
def test_classes_that_come_again_domain_incrementally_are_learned_as_if_all_data_came_at_once(name: str) -> None:
    draw = torch.Generator().manual_seed(5)
    domains = [
        (domain + torch.rand(20 + 30 * domain, F_, generator=draw), torch.arange(20 + 30 * domain) % 2)
        for domain in range(3)
    ]
    config = SMALL.get(name, {})
    _, by_domain = taught(name, domains, (2, 2, 2), "domain_incremental", **config)
    _, at_once = taught(name, [joined(domains)], (2, 2, 2), "domain_incremental", **config)
    x, _ = joined(domains)
    torch.testing.assert_close(by_domain(x), at_once(x), rtol=1e-4, atol=1e-4)


# -- NCM --------------------------------------------------------------------------------------------------------------


def test_ncm_scores_by_the_cosine_to_the_class_means() -> None:
    data = stream()
    _, classifier = taught("ncm", data)
    x, y = (part.numpy().astype(np.float64) for part in joined(data))
    means = np.stack([x[y == c].mean(axis=0) for c in range(6)])
    expected = (x @ means.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(means, axis=1)
    np.testing.assert_allclose(classifier(joined(data)[0]).numpy(), expected, rtol=1e-5)


# -- SLDA -------------------------------------------------------------------------------------------------------------


def test_slda_has_the_scores_of_scikit_learns_linear_discriminant_analysis() -> None:
    # Scikit-learn shrinks towards the mean variance times I, which is I for features of mean variance 1; and it has the
    # log of the class's frequency, here 1/6, in its scores.
    data = stream()
    x, y = joined(data)
    means = torch.stack([x[y == c].mean(dim=0) for c in range(6)])
    scale = (x - means[y]).square().mean().sqrt()
    _, classifier = taught("slda", [(features / scale, labels) for features, labels in data], shrinkage=0.1)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit((x / scale).double().numpy(), y.numpy())
    expected = theirs.decision_function((x / scale).double().numpy()) + np.log(6)
    np.testing.assert_allclose(classifier(x / scale).numpy(), expected, rtol=1e-4, atol=1e-3)


# -- RanPAC -----------------------------------------------------------------------------------------------------------


def test_ranpac_is_ridge_regression_on_random_relu_features_of_all_data() -> None:
    data = stream()
    strategy, classifier = taught("ranpac", data, projections=30, ridge=2.0)
    x, y = joined(data)
    h = np.maximum(0, x.double().numpy() @ strategy.projection.double().numpy())
    ridge = Ridge(alpha=2.0, fit_intercept=False).fit(h, one_hot(y, 6).numpy())
    np.testing.assert_allclose(classifier(x).numpy(), ridge.predict(h), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("samples", [30, 200])  # fewer and more than the 50 projections
def test_ranpac_chooses_the_ridge_with_the_lowest_error_on_a_fifth_of_the_features(samples: int) -> None:
    module = sys.modules[strategy_class("ranpac").__module__]
    draw = torch.Generator().manual_seed(1)
    h = torch.randn(samples, 50, generator=draw, dtype=torch.float64)
    y = h[:, :3] + 2 * torch.randn(samples, 3, generator=draw, dtype=torch.float64)
    torch.manual_seed(4)
    chosen = module.chosen_ridge(h, y)
    torch.manual_seed(4)
    order = torch.randperm(samples).numpy()
    fitted, held = order[: int(0.8 * samples)], order[int(0.8 * samples) :]
    errors = {}
    for ridge in (10.0**power for power in range(-8, 9)):
        model = Ridge(alpha=ridge, fit_intercept=False).fit(h.numpy()[fitted], y.numpy()[fitted])
        errors[ridge] = np.square(model.predict(h.numpy()[held]) - y.numpy()[held]).mean()
    assert chosen == min(errors, key=lambda ridge: errors[ridge])
    assert 1e-8 < chosen < 1e8  # or the case would not tell much


# -- FeCAM ------------------------------------------------------------------------------------------------------------


def unit(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def test_fecam_scores_by_the_mahalanobis_distance_with_normalised_covariances() -> None:
    data = stream()
    _, classifier = taught("fecam", data, power=0.5, variance_shrinkage=1.5, covariance_shrinkage=0.5)
    x, y = (part.numpy().astype(np.float64) for part in joined(data))
    expected = np.empty((len(x), 6))
    for c in range(6):
        sigma = np.cov(np.sqrt(x[y == c]), rowvar=False)
        off = ~np.eye(F_, dtype=bool)
        sigma += 1.5 * np.diag(sigma).mean() * np.eye(F_) + 0.5 * sigma[off].mean() * off
        normalised = sigma / np.sqrt(np.outer(np.diag(sigma), np.diag(sigma)))
        mean = unit(np.sqrt(x[y == c].mean(axis=0)))
        for row in range(len(x)):
            expected[row, c] = -(mahalanobis(unit(np.sqrt(x[row])), mean, np.linalg.inv(normalised)) ** 2)
    np.testing.assert_allclose(classifier(joined(data)[0]).numpy(), expected, rtol=1e-3, atol=1e-5)


def test_fecam_of_a_single_sample_or_of_dead_features_has_scores() -> None:
    features = torch.tensor([[1.0, 2.0, 0.0, 0.5, 0.0], [1.0, 1.0, 0.0, 0.5, 0.0], [0.0, 3.0, 0.0, 0.1, 0.0]])
    _, classifier = taught("fecam", [(features, torch.tensor([0, 1, 1]))], (2,))
    scores = classifier(features)
    assert bool(scores.isfinite().all()) and scores[0].argmax() == 0


def test_negative_features_have_a_power_in_fecam() -> None:
    features, labels = stream((2,))[0]
    _, classifier = taught("fecam", [(features - 2, labels)], (2,))
    assert bool(classifier(features - 2).isfinite().all())


# -- ACIL -------------------------------------------------------------------------------------------------------------


def joint_ridge(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    """(XᵀX + γI)⁻¹ XᵀY."""
    return torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)


@st.composite
def splits(draw: st.DrawFn) -> tuple[int, ...]:
    """Nine classes in experiences of any sizes."""
    left, sizes = 9, []
    while left:
        sizes.append(draw(st.integers(1, left)))
        left -= sizes[-1]
    return tuple(sizes)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(sizes=splits(), ridge=st.sampled_from([1e-3, 0.1, 10.0]))
def test_acil_is_the_joint_ridge_regression_however_the_stream_is_split(sizes: tuple[int, ...], ridge: float) -> None:
    data = stream(sizes)
    strategy, classifier = taught("acil", data, sizes, expansion=30, ridge=ridge)
    x, y = joined(data)
    h = torch.relu(x.double() @ strategy.projection.double())
    expected = joint_ridge(h, one_hot(y, 9), ridge)
    assert (strategy.regression.weights(ridge) - expected).norm() / expected.norm() < 1e-5
    torch.testing.assert_close(classifier(x).double(), h @ expected, rtol=1e-3, atol=1e-4)


def test_acil_goes_through_more_samples_than_fit_into_a_batch() -> None:
    data = stream((2, 2), per_class=1100)
    strategy, _ = taught("acil", data, (2, 2), expansion=20)
    x, y = joined(data)
    expected = joint_ridge(torch.relu(x.double() @ strategy.projection.double()), one_hot(y, 4), 0.1)
    assert (strategy.regression.weights(0.1) - expected).norm() / expected.norm() < 1e-5


# -- DS-AL ------------------------------------------------------------------------------------------------------------


def test_the_streams_of_dsal_are_ridge_regressions_on_the_labels_and_on_the_cleansed_residuals() -> None:
    data = stream()
    strategy, classifier = taught("dsal", data, expansion=30, ridge=0.5, compensation_ridge=0.2, compensation=0.7)
    projection = strategy.projection.double()
    residuals, old = [], 0
    for index, (features, labels) in enumerate(data):
        x, y = joined(data[: index + 1])
        main = joint_ridge(torch.relu(x.double() @ projection), one_hot(y, 6), 0.5)
        residual = one_hot(labels, 6) - torch.relu(features.double() @ projection) @ main
        seen = old + SIZES[index]
        residual[:, :old] = residual[:, seen:] = 0
        residuals.append(residual)
        old = seen
    x, _ = joined(data)
    projected = x.double() @ projection
    rest = joint_ridge(torch.tanh(projected), torch.cat(residuals), 0.2)
    expected = torch.relu(projected) @ main + 0.7 * torch.tanh(projected) @ rest
    torch.testing.assert_close(classifier(x).double(), expected, rtol=1e-3, atol=1e-4)


# -- FeTrIL -----------------------------------------------------------------------------------------------------------


def test_fetril_translates_the_features_of_the_nearest_new_class() -> None:
    fetril = builtin("fetril")
    # Of the new classes 2 and 3, class 0 is nearer to 3 by the cosine, though nearer to 2 by distance; class 1 to 2.
    fetril.means = [torch.tensor(mean) for mean in ([1.0, 1.0], [3.0, 0.0], [2.0, 0.0], [9.0, 9.0])]
    phi, y = torch.tensor([[2.5, 0.5], [9.0, 8.0], [1.5, -0.5]]), torch.tensor([2, 3, 2])
    row, label, shift = fetril.translations(y, old=2)
    pseudo = sorted(zip(label.tolist(), (phi[row] + shift[label]).tolist(), strict=True))
    assert pseudo == [(0, [1.0, 0.0]), (1, [2.5, -0.5]), (1, [3.5, 0.5])]


def test_the_loss_of_fetril_is_the_cross_entropy_over_features_and_pseudo_features() -> None:
    model = Network([], 2)
    model.head.grow(2, seed=0)
    model.head.grow(2, seed=1)
    fetril = builtin("fetril")
    fetril.means = [torch.tensor(mean) for mean in ([1.0, 1.0], [3.0, 0.0], [2.0, 0.0], [9.0, 9.0])]
    phi, y = torch.tensor([[2.5, 0.5], [9.0, 8.0]]), torch.tensor([2, 3])
    batch = Batch(phi, y, torch.arange(2), model(phi), None, model, Experience(1, (2, 2)))
    whole = torch.tensor([[2.5, 0.5], [9.0, 8.0], [1.0, 0.0], [3.5, 0.5]])
    expected = F.cross_entropy(whole @ model.head.weight.T + model.head.bias, torch.tensor([2, 3, 0, 1]))
    torch.testing.assert_close(fetril.loss(batch), expected)


def test_fetril_takes_the_means_of_the_classes_before_it_imitates_them() -> None:
    fetril = builtin("fetril")
    run = SmallRun(fetril, RECIPE, colours(classes=6), SIZES)
    fetril.start(run.trainer.model)
    run.learn()
    with torch.no_grad():
        phi = run.trainer.model.in_evaluation().blocks(run.scaling(run.images.pixels))
    expected = torch.stack([phi[run.positions == c].mean(dim=0) for c in range(6)])
    torch.testing.assert_close(torch.stack(fetril.means), expected, rtol=1e-4, atol=1e-5)


def test_the_features_of_a_batch_are_the_trunks_or_what_the_network_is_trained_on() -> None:
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    model = Network([trunk], 3)
    images, features = torch.rand(2, 1, 2, 2), torch.rand(2, 3)

    def of(x: Tensor) -> Tensor:
        return Batch(x, torch.zeros(2), torch.arange(2), torch.zeros(2, 1), None, model, Experience(0, (1,))).features

    assert torch.equal(of(images), trunk(images)) and torch.equal(of(features), features)
