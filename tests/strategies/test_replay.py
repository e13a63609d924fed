"""Exemplar memories and the strategies that use them, beside their formulas."""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_runs import SmallRun, builtin, colours, strategy_class
from torch import Tensor

from clbench import losses
from clbench.base.batch import Batch
from clbench.base.exemplars import ExemplarMemory, herd
from clbench.base.experience import Experience
from clbench.base.incremental_setting import Setting
from clbench.base.recipe import Recipe
from clbench.errors import PluginError, UsageError
from clbench.networks.network import Network
from clbench.plugins.discovery import builtin_folder
from clbench.runs.planned_runs import plan
from clbench.runs.request import Request

RECIPE = Recipe(network="mlp", optimizer="sgd", lr=0.05, batch_size=16, epochs=2)
SIZES = (2, 2, 2)
WITH_MEMORY = ["er", "er_dialects", "er_ace", "mir", "derpp", "agem", "gem", "gdumb", "icarl", "bic"]


class Pixels:
    """Sixteen-valued images whose first pixel is their row, and which the network gets as they are."""

    def original(self, rows: Tensor) -> Tensor:
        return rows.view(-1, 1, 1, 1).repeat(1, 2, 2, 1).to(torch.uint8)

    def prepare(self, images: Tensor) -> Tensor:
        return images.float().permute(0, 3, 1, 2)

    def logits_of(self, model: Network, x: Tensor) -> Tensor:
        logits: Tensor = model(x)
        return logits

    def note_cross_entropy(self, outputs: int) -> None:
        """Nobody reads it here."""


def batch_of(rows: list[int], labels: list[int] | None = None, **more: Any) -> Batch:
    index = torch.tensor(rows)
    y = torch.tensor(labels or [0] * len(rows))
    given = {"logits": torch.zeros(len(rows), 2), "model": None, "experience": Experience(0, SIZES), **more}
    return Batch(index.float(), y, index, given["logits"], None, given["model"], given["experience"], Pixels())


# -- the memory -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_reservoir_keeps_every_sample_with_equal_probability() -> None:
    torch.manual_seed(0)
    counts: Counter[int] = Counter()
    for _ in range(2000):
        memory = ExemplarMemory(4)
        for rows in ([0, 1, 2], [3, 4, 5, 6], [7, 8, 9]):
            memory.reservoir(batch_of(rows))
        kept = memory.images[:, 0, 0, 0].tolist()
        assert len(set(kept)) == 4
        counts.update(kept)
    assert all(count == pytest.approx(2000 * 4 / 10, abs=100) for count in counts.values()) and len(counts) == 10


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [4, 10, 25])
def test_a_reservoir_keeps_each_image_with_equal_probability_and_once_however_many_epochs_show_it(
    capacity: int,
) -> None:
    torch.manual_seed(0)
    counts: Counter[int] = Counter()
    for _ in range(1000):
        memory = ExemplarMemory(capacity)
        for _ in range(3):
            for rows in torch.randperm(10).split(4):
                memory.reservoir(batch_of(rows.tolist()))
        kept = memory.images[:, 0, 0, 0].tolist()
        assert len(set(kept)) == len(kept) == min(capacity, 10) and memory.offered == 10
        counts.update(kept)
    assert all(count == pytest.approx(100 * min(capacity, 10), abs=70) for count in counts.values())


def test_the_values_of_a_stored_image_are_those_of_any_of_its_epochs_with_equal_probability() -> None:
    torch.manual_seed(0)
    counts: Counter[float] = Counter()
    for _ in range(300):
        memory = ExemplarMemory(3)
        for epoch in range(4):
            for rows in ([0, 1], [2, 3]):
                memory.reservoir(batch_of(rows, labels=rows), epoch=torch.tensor([[epoch], [epoch]]))
        assert memory.images[:, 0, 0, 0].tolist() == memory.labels.tolist()
        counts.update(memory.values["epoch"].flatten().tolist())
    assert all(counts[epoch] == pytest.approx(300 * 3 / 4, abs=50) for epoch in range(4))


def test_a_reservoir_replaces_no_exemplar_that_is_held_and_samples_what_follows_into_the_rest() -> None:
    torch.manual_seed(0)
    counts: Counter[int] = Counter()
    for _ in range(1000):
        memory = ExemplarMemory(5)
        memory.reservoir(batch_of([0, 1, 2]))
        memory.hold()
        for rows in ([3, 4, 5, 6], [7, 8, 9, 10]):
            memory.reservoir(batch_of(rows, experience=Experience(1, SIZES)))
        assert kept_rows(memory)[:3] == [0, 1, 2]
        counts.update(kept_rows(memory)[3:])
    assert all(counts[row] == pytest.approx(1000 * 2 / 8, abs=60) for row in range(3, 11))


def test_a_memory_full_of_exemplars_that_are_held_takes_no_others() -> None:
    memory = ExemplarMemory(3)
    memory.reservoir(batch_of([0, 1, 2]))
    memory.hold()
    memory.reservoir(batch_of(list(range(3, 30)), experience=Experience(1, SIZES)))
    assert kept_rows(memory) == [0, 1, 2]


def test_a_reservoir_leaves_out_exemplars_that_train_with_the_data_and_goes_on_after_a_limit() -> None:
    memory = ExemplarMemory(6)
    memory.reservoir(batch_of([0, 1, -1, 2, 3], labels=[0, 0, 0, 1, 1]))
    assert memory.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    memory.limit(1)
    memory.reservoir(batch_of([2, 4, 0, 5], experience=Experience(1, SIZES)))
    assert memory.images[:, 0, 0, 0].tolist() == [0, 2, 4, 5]


def test_what_is_kept_beside_an_exemplar_stays_with_it() -> None:
    torch.manual_seed(0)
    memory = ExemplarMemory(5)
    for first in range(0, 40, 8):
        rows = list(range(first, first + 8))
        memory.reservoir(batch_of(rows, labels=rows), logits=torch.tensor(rows).float()[:, None])
    assert memory.images[:, 0, 0, 0].tolist() == memory.labels.tolist() == memory.values["logits"].flatten().tolist()
    drawn = memory.draw(3, batch_of([0]))
    assert drawn.x[:, 0, 0, 0].tolist() == drawn.y.tolist() == drawn.values["logits"].flatten().tolist()
    assert len(set(drawn.y.tolist())) == 3 and len(memory.draw(99, batch_of([0])).y) == 5


def test_a_limit_keeps_the_first_of_each_class() -> None:
    memory = ExemplarMemory(9)
    memory.limit(1)  # of nothing
    memory.images, memory.labels = torch.arange(6).view(6, 1, 1, 1), torch.tensor([0, 1, 0, 1, 0, 1])
    memory.limit(2)
    assert memory.images.flatten().tolist() == [0, 1, 2, 3] and memory.labels.tolist() == [0, 1, 0, 1]


def kept_rows(memory: ExemplarMemory) -> list[int]:
    return memory.images[:, 0, 0, 0].tolist()


def test_a_ring_keeps_the_last_images_of_each_class_in_equal_shares_of_all_classes_of_the_stream() -> None:
    memory = ExemplarMemory(13)  # two for each of the six classes
    memory.ring(batch_of([0, 1, 2, 3, 4], labels=[0, 0, 0, 1, 0]))
    assert kept_rows(memory) == [2, 3, 4] and memory.labels.tolist() == [0, 1, 0]
    memory.ring(batch_of([5, 6], labels=[1, 1]))
    assert kept_rows(memory) == [2, 4, 5, 6]
    memory.ring(batch_of([-1, 7], labels=[0, 2], experience=Experience(1, SIZES)))
    assert kept_rows(memory) == [2, 4, 5, 6, 7]


def test_a_ring_keeps_an_image_once_however_many_epochs_show_it() -> None:
    memory = ExemplarMemory(18)
    for rows in ([0, 1, 2, 3], [2, 0, 3, 1]):
        memory.ring(batch_of(rows))
    assert kept_rows(memory) == [0, 3, 1]


def test_a_balanced_reservoir_gives_rare_classes_as_much_room_as_they_have_images() -> None:
    torch.manual_seed(0)
    counts: Counter[int] = Counter()
    for _ in range(300):
        memory = ExemplarMemory(6)
        memory.balanced_reservoir(batch_of(list(range(20)), labels=[0] * 20))
        memory.balanced_reservoir(batch_of([20, 21], labels=[1, 1]))
        memory.balanced_reservoir(batch_of(list(range(22, 42)), labels=[0] * 20))
        memory.balanced_reservoir(batch_of([42], labels=[2]))
        assert Counter(memory.labels.tolist()) == {0: 3, 1: 2, 2: 1}
        counts.update(row for row in kept_rows(memory) if row < 20 or 22 <= row < 42)
    # 3 of the 40 images of class 0, each as likely as any other
    assert sum(counts[row] for row in range(20)) == pytest.approx(450, abs=60)


def test_classes_that_share_outputs_domain_incrementally_have_their_own_room() -> None:
    for offer in ("ring", "balanced_reservoir"):
        memory = ExemplarMemory(6)
        for index in range(3):
            where = Experience(index, SIZES, "domain_incremental")
            rows = list(range(20 * index, 20 * index + 20))
            getattr(memory, offer)(batch_of(rows, labels=[row % 2 for row in rows], experience=where))
        origin = zip(memory.values["experience"].tolist(), memory.labels.tolist(), strict=True)
        assert Counter(origin) == {(index, y): 1 for index in range(3) for y in range(2)}, offer


@pytest.mark.parametrize("share", ["share_among_classes", "share_by_herding"])
def test_a_class_that_returns_has_no_more_than_its_share(share: str) -> None:
    samples = colours(classes=4)
    run = SmallRun(builtin("naive"), RECIPE, samples, (4,))
    own = run.data.divided(0, RECIPE)[0]
    memory = ExemplarMemory(9)
    for index in range(2):
        given = [Experience(index, (4, 0), samples=own)]
        getattr(memory, share)(*([run.new_model(), *given] if share == "share_by_herding" else given))
        assert Counter(memory.labels.tolist()) == dict.fromkeys(range(4), 2)


def test_experiences_have_equal_shares_of_which_older_ones_keep_the_first() -> None:
    torch.manual_seed(0)
    memory = ExemplarMemory(7)

    class Images:
        def __len__(self) -> int:
            return 20

        def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
            return positions.view(-1, 1, 1, 1).to(torch.uint8), positions % 2

    kept = []
    for index, share in enumerate((7, 3, 2)):
        memory.share_among_experiences(Experience(index, SIZES, samples=Images()))
        assert memory.values["experience"].tolist() == [i for i in range(index + 1) for _ in range(share)]
        assert all(kept[i][:share] == kept_rows(memory)[i * share : (i + 1) * share] for i in range(index))
        kept.append(kept_rows(memory)[index * share :])
        assert len(set(kept[-1])) == share
    memory.capacity = 2
    with pytest.raises(UsageError, match="a memory of 2 exemplars has none for each of the 3 experiences so far"):
        memory.share_among_experiences(Experience(2, SIZES, samples=Images()))


# -- whole runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_no_more_exemplars_are_kept_than_the_config_says_and_of_seen_classes_only(name: str) -> None:
    strategy = builtin(name, memory=13)
    run = SmallRun(strategy, RECIPE, colours(classes=6), SIZES)
    strategy.start(run.trainer.model)
    for index in range(3):
        run.learn(1)
        kept = strategy.exemplars
        assert 0 < len(kept) <= 13
        assert set(kept.labels.tolist()) <= set(range(2 * index + 2))
        if index and name not in ("er_ace",):
            assert set(kept.labels.tolist()) & {0, 1}
        # Every image that is kept is one of the dataset's, with its label.
        known = {image.numpy().tobytes(): int(y) for image, y in zip(run.images.pixels, run.positions, strict=True)}
        assert all(known[i.numpy().tobytes()] == int(y) for i, y in zip(kept.images, kept.labels, strict=True))


@pytest.mark.parametrize(("name", "config"), [("agem", {}), ("er", {"memories": "herding"})])
def test_domain_incrementally_every_class_has_its_share_though_experiences_share_outputs(
    name: str, config: dict[str, str]
) -> None:
    strategy = builtin(name, memory=13, **config)
    run = SmallRun(strategy, RECIPE, colours(classes=6), SIZES, setting="domain_incremental")
    strategy.start(run.trainer.model)
    for index, share in enumerate((6, 3, 2)):  # of 13 among 2, 4 and 6 classes
        run.learn(1)
        kept = strategy.exemplars
        known = {image.numpy().tobytes(): int(y) for image, y in zip(run.images.pixels, run.positions, strict=True)}
        classes = Counter(known[image.numpy().tobytes()] for image in kept.images)
        assert classes == dict.fromkeys(range(2 * index + 2), share)
        assert all(known[i.numpy().tobytes()] % 2 == int(y) for i, y in zip(kept.images, kept.labels, strict=True))


@pytest.mark.parametrize("memories", ["ring", "balanced", "herding"])
def test_every_memory_of_er_keeps_all_classes_in_equal_numbers(memories: str) -> None:
    strategy = builtin("er", memory=12, memories=memories)
    run = SmallRun(strategy, RECIPE, colours(classes=6), SIZES)
    strategy.start(run.trainer.model)
    run.learn()
    assert Counter(strategy.exemplars.labels.tolist()) == dict.fromkeys(range(6), 2)


def test_herded_exemplars_of_er_are_those_of_icarl() -> None:
    kept = []
    run = SmallRun(builtin("naive"), RECIPE, colours(classes=6), SIZES)
    for strategy in (builtin("er", memory=12, memories="herding"), builtin("icarl", memory=12)):
        strategy.start(run.trainer.model)
        model = run.new_model()
        strategy.after_experience(model, Experience(0, SIZES, samples=run.data.divided(0, RECIPE)[0]))
        kept.append(strategy.exemplars.images)
    assert torch.equal(*kept)


@pytest.mark.parametrize("name", ["er_dialects", "gem"])
def test_rehearsed_exemplars_are_repeated_until_they_are_about_as_many_as_the_new_samples(name: str) -> None:
    strategy = builtin(name, memory=12, **({"rehearsal": True} if name == "gem" else {}))
    images = colours(classes=6)
    run = SmallRun(strategy, RECIPE, images, SIZES)
    strategy.start(run.trainer.model)
    seen = [costs.samples_seen for costs in run.learn().experience_costs]
    new = [len(run.rows(index)) for index in range(3)]
    exemplars = 0 if name == "er_dialects" else 12  # of GEM's gradients, for every step
    for index in (1, 2):
        trained = new[index] + new[index] // 12 * 12
        steps = -(-trained // RECIPE.batch_size)
        assert seen[index] == RECIPE.epochs * (trained + steps * exemplars)


def test_replayed_samples_count_as_seen() -> None:
    counts = {}
    for name in ("naive", "er"):
        strategy = builtin(name)
        run = SmallRun(strategy, RECIPE, colours(classes=6), SIZES)
        strategy.start(run.trainer.model)
        counts[name] = run.learn().experience_costs[2].samples_seen
    assert counts["er"] > 1.5 * counts["naive"]


def planned(data: Path, strategy: str, memory: int) -> int:
    """How many runs are planned with this number of exemplars."""
    request = Request([strategy], ["splitdigits"], data=data, set={"memory": memory})
    return len(plan(request, lambda event: None))


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_fewer_exemplars_than_classes_are_refused_when_a_run_is_planned(name: str, data: Path) -> None:
    with pytest.raises(UsageError, match=rf"{name}\.memory = 9 exemplars are fewer than the 10 classes") as refusal:
        planned(data, name, memory=9)
    assert str(refusal.value).endswith(f"--set {name}.memory=10")
    assert planned(data, name, memory=10) == 1


def test_the_budget_of_somebody_elses_strategy_is_checked_and_0_is_none(data: Path, tmp_path: Path) -> None:
    text = (builtin_folder("strategy") / "er.py").read_text().replace("Ge(1)] = 200", "Ge(0)] = 9")
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UsageError, match=r"mine\.memory = 9 exemplars are fewer than the 10 classes"):
        planned(data, str(tmp_path / "mine.py"), memory=9)
    assert planned(data, str(tmp_path / "mine.py"), memory=0) == 1


# -- losses -----------------------------------------------------------------------------------------------------------


class Linear(Network):
    """A head alone over four pixels."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__([torch.nn.Flatten()], 4)
        self.head.grow(classes, seed=1)


BY_SETTING = pytest.mark.parametrize(
    ("setting", "new", "old"),
    [("class_incremental", slice(0, 4), slice(0, 4)), ("task_incremental", slice(2, 4), slice(0, 2))],
)
"""Over which outputs the cross-entropy ranges for the new batch, and for exemplars of the first of two experiences."""


def a_batch(model: Network, setting: Setting = "class_incremental") -> tuple[Batch, Tensor]:
    x = torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([2, 3, 2, 3, 3, 2])
    index = torch.arange(6)
    return Batch(x, y, index, model(x), None, model, Experience(1, (2, 2), setting), Pixels()), y


def filled(memory: ExemplarMemory, **values: Tensor) -> tuple[Tensor, Tensor]:
    memory.images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).repeat(1, 2, 2, 1)
    memory.labels, memory.values = torch.tensor([0, 1, 0, 1]), values
    return memory.images.float().permute(0, 3, 1, 2), memory.labels


def started(name: str, model: Network, **config: Any) -> Any:
    strategy = builtin(name, **config)
    strategy.start(model)
    return strategy


def test_er_is_the_cross_entropy_over_the_batch_and_the_exemplars_together() -> None:
    model = Linear()
    er = started("er", model)
    x, y = filled(er.exemplars)
    batch, new = a_batch(model)
    expected = F.cross_entropy(torch.cat([batch.logits, model(x)]), torch.cat([new, y]))
    torch.testing.assert_close(er.loss(batch), expected)


@BY_SETTING
def test_er_ace_leaves_absent_classes_out_for_the_new_batch_only(setting: Setting, new: slice, old: slice) -> None:
    model = Linear()
    ace = started("er_ace", model)
    x, y = filled(ace.exemplars)
    batch, labels = a_batch(model, setting)
    expected = F.cross_entropy(batch.logits[:, 2:], labels - 2) + F.cross_entropy(model(x)[:, old], y)
    torch.testing.assert_close(ace.loss(batch), expected)


@BY_SETTING
def test_derpp_matches_the_logits_that_were_known_and_the_labels(setting: Setting, new: slice, old: slice) -> None:
    model = Linear()
    derpp = started("derpp", model, alpha=0.3, beta=0.7)
    stored = torch.full((4, 4), torch.nan)
    stored[:, :2] = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    x, y = filled(derpp.exemplars, logits=stored)
    batch, labels = a_batch(model, setting)
    expected = F.cross_entropy(batch.logits[:, new], labels - new.start)
    expected = expected + 0.3 * F.mse_loss(model(x)[:, :2], stored[:, :2]) + 0.7 * F.cross_entropy(model(x)[:, old], y)
    torch.testing.assert_close(derpp.loss(batch), expected)


@BY_SETTING
def test_agem_takes_away_what_would_raise_the_loss_on_the_exemplars(setting: Setting, new: slice, old: slice) -> None:
    model = Linear()
    agem = started("agem", model)
    x, y = filled(agem.exemplars)
    weights = list(model.parameters())
    references = torch.autograd.grad(F.cross_entropy(model(x)[:, old], y), weights)
    reference = torch.cat([g.flatten() for g in references])
    batch, _ = a_batch(model, setting)
    for sign in (-1, 1):  # against the exemplars' gradient and with it
        noise = torch.randn(len(reference), generator=torch.Generator().manual_seed(2))
        noise -= noise @ reference / (reference @ reference) * reference
        gradient, position = sign * reference + noise, 0
        for weight in weights:
            weight.grad = gradient[position : position + weight.numel()].view_as(weight).clone()
            position += weight.numel()
        agem.before_step(batch)
        after = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])
        torch.testing.assert_close(after, noise if sign < 0 else gradient, rtol=1e-4, atol=1e-5)


def gem_of(strength: float, *gradients: list[float]) -> Tensor:
    gem = sys.modules[strategy_class("gem").__module__]
    first, *others = (torch.tensor(gradient) for gradient in gradients)
    found: Tensor = gem.projected(first, torch.stack(others), strength)
    return found


def test_gem_projects_the_gradient_onto_the_cone_of_what_helps_every_experience() -> None:
    # Worked by hand. Against one experience, the part along its gradient goes.
    torch.testing.assert_close(gem_of(0.0, [1.0, -30.0], [0.0, 10.0]), torch.tensor([1.0, 0.0]), atol=1e-3, rtol=0)
    # The nearest point of {z: z₂ ≥ 0, z₁ + z₂ ≥ 0} to (-30, 10) is (-20, 20); z₂ ≥ 0 does not bind.
    found = gem_of(0.0, [-30.0, 10.0], [0.0, 10.0], [10.0, 10.0])
    torch.testing.assert_close(found, torch.tensor([-20.0, 20.0]), atol=2e-3, rtol=0)
    # Both bind: the nearest point of {z₁ ≥ 0, z₂ ≥ 0} to (-20, -30) is the origin.
    found = gem_of(0.0, [-20.0, -30.0], [10.0, 0.0], [0.0, 10.0])
    torch.testing.assert_close(found, torch.zeros(2), atol=1e-3, rtol=0)


def test_the_memory_strength_of_gem_is_what_is_added_of_each_experiences_gradient_at_least() -> None:
    # v = (3, 0) without strength; with 0.5, v₂ = 0.5, and v₁ is still 3, as the two are orthogonal.
    found = gem_of(0.5, [1.0, -30.0], [0.0, 10.0], [10.0, 0.0])
    torch.testing.assert_close(found, torch.tensor([6.0, 0.0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_gem_solves_the_quadratic_program_that_scipy_solves(strength: float) -> None:
    from scipy.optimize import minimize

    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        gradient, references = torch.randn(6, generator=generator), torch.randn(4, 6, generator=generator)
        gram = (references @ references.T).double().numpy() + 0.001 * torch.eye(4).double().numpy()
        linear = (references @ gradient).double().numpy()
        dual = minimize(
            lambda v: 0.5 * v @ gram @ v + linear @ v,  # noqa: B023
            [1.0] * 4,
            jac=lambda v: gram @ v + linear,  # noqa: B023
            bounds=[(strength, None)] * 4,
            options={"ftol": 1e-14, "gtol": 1e-10},
        )
        expected = gradient + torch.from_numpy(dual.x).float() @ references
        torch.testing.assert_close(
            gem_of(strength, gradient.tolist(), *references.tolist()), expected, atol=1e-4, rtol=1e-4
        )


def test_gem_leaves_a_gradient_that_harms_no_experience_and_projects_one_that_does() -> None:
    model = Linear()
    gem = started("gem", model, strength=0.0)
    x, y = filled(gem.exemplars, experience=torch.zeros(4, dtype=torch.int64))
    weights = list(model.parameters())
    reference = torch.cat([g.flatten() for g in torch.autograd.grad(F.cross_entropy(model(x), y), weights)])
    batch, _ = a_batch(model)
    for sign in (-1, 1):
        for weight, part in zip(weights, (sign * reference).split([w.numel() for w in weights]), strict=True):
            weight.grad = part.view_as(weight).clone()
        gem.before_step(batch)
        after = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])
        torch.testing.assert_close(after, reference if sign > 0 else torch.zeros_like(after), rtol=1e-4, atol=2e-3)


def test_mir_replays_the_exemplars_whose_loss_the_step_would_raise_most() -> None:
    # One pixel is 1: logit c of image i is W[c, i]. All weights are 0, so every p is 1/4 and ℓ = log 4. A step of
    # rate 1 on image 0 of class 2 adds (-1/4, -1/4, 3/4, -1/4) to column 0: only exemplars with pixel 0 change, and of
    # these the loss rises for classes 0 and 1 and falls for class 2.
    model = Linear()
    for weight in model.parameters():
        torch.nn.init.zeros_(weight)
        weight.requires_grad_(weight.dim() == 2)  # no bias
    mir = started("mir", model, batch=2, rate=1.0)
    pixels = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    mir.exemplars.images = pixels.view(5, 2, 2, 1).to(torch.uint8)
    mir.exemplars.labels = torch.tensor([0, 1, 2, 0, 2])
    x = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    batch = Batch(x, torch.tensor([2]), torch.tensor([0]), model(x), None, model, Experience(1, (2, 2)), Pixels())
    drawn = mir.exemplars.draw(50, batch)
    rises = mir.interference(batch, batch.cross_entropy(), drawn)
    raised = math.log(3 * math.exp(-0.25) + math.exp(0.75)) - math.log(4) + 0.25
    for image, label, rise in zip(drawn.x.flatten(1).tolist(), drawn.y.tolist(), rises.tolist(), strict=True):
        pixel = image.index(1.0)
        expected = raised - (label == 2) if pixel == 0 else 0.0
        assert rise == pytest.approx(expected, abs=1e-6)
    chosen = drawn.x[rises.topk(2).indices], drawn.y[rises.topk(2).indices]
    assert sorted(chosen[1].tolist()) == [0, 1] and all(image[0] == 1 for image in chosen[0].flatten(1))
    torch.testing.assert_close(mir.loss(batch), 2 * torch.tensor(4.0).log())


def test_mir_of_aljundi_2019_has_a_softmax_over_all_classes_of_the_stream() -> None:
    """All logits are 0, so the cross-entropy over n classes is log n: 2 are seen, 4 will be."""
    model = Linear()
    model.head.fixed = True
    for weight in model.parameters():
        torch.nn.init.zeros_(weight)
    x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    batch = Batch(x, y, torch.arange(2), model(x), None, model, Experience(0, (2, 2)), Pixels())
    for over, classes in (("seen", 2.0), ("all", 4.0)):
        mir = started("mir", model, cross_entropy_over=over)
        torch.testing.assert_close(mir.loss(batch), torch.tensor(classes).log())
        torch.testing.assert_close(mir.validation_loss(batch), torch.tensor(classes).log())
        filled(mir.exemplars)
        torch.testing.assert_close(mir.loss(batch), 2 * torch.tensor(classes).log())
    model.head.fixed = False
    with pytest.raises(UsageError, match="mir: a loss over all classes of the stream needs a recipe with a fixed head"):
        started("mir", model, cross_entropy_over="all")


def test_mir_scores_exemplars_over_the_classes_of_its_loss() -> None:
    """Both the step and the loss depend on how many classes the softmax ranges over."""
    model = Linear()
    model.head.fixed = True
    for weight in model.parameters():
        torch.nn.init.zeros_(weight)
        weight.requires_grad_(weight.dim() == 2)  # no bias
    x = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    batch = Batch(x, torch.tensor([0]), torch.arange(1), model(x), None, model, Experience(0, (2, 2)), Pixels())
    for over, classes in (("seen", 2), ("all", 4)):
        mir = started("mir", model, rate=1.0, cross_entropy_over=over)
        mir.exemplars.images = torch.tensor([[1, 0, 0, 0]], dtype=torch.uint8).view(1, 2, 2, 1)
        mir.exemplars.labels = torch.tensor([1])
        rise = mir.interference(batch, batch.cross_entropy(over), mir.exemplars.draw(1, batch))
        # The gradient is p - 1 = 1/n - 1 for class 0, and p = 1/n for each of the others.
        logits = torch.full((classes,), -1 / classes)
        logits[0] = 1 - 1 / classes
        expected = torch.logsumexp(logits, 0) + 1 / classes - math.log(classes)
        torch.testing.assert_close(rise, expected[None])


@BY_SETTING
def test_mir_scores_exemplars_by_the_loss_of_the_setting(setting: Setting, new: slice, old: slice) -> None:
    model = Linear()
    mir = started("mir", model, rate=1.0)
    filled(mir.exemplars)
    batch, labels = a_batch(model, setting)
    drawn = mir.exemplars.draw(4, batch)
    found = mir.interference(batch, batch.cross_entropy(), drawn)
    gradients = torch.autograd.grad(
        F.cross_entropy(model(batch.x)[:, new], labels - new.start), list(model.parameters())
    )
    ahead = Linear()
    ahead.load_state_dict({name: w - g for (name, w), g in zip(model.named_parameters(), gradients, strict=True)})
    after, before = (F.cross_entropy(each(drawn.x)[:, old], drawn.y, reduction="none") for each in (ahead, model))
    torch.testing.assert_close(found, after - before)


@pytest.mark.parametrize("name", ["er", "er_dialects", "er_ace", "derpp", "mir"])
def test_the_validation_loss_that_a_plateau_follows_draws_no_exemplars(name: str) -> None:
    how = replace(RECIPE, schedule="plateau", validation=0.25, patience=5)
    config = {"mixture": "batches"} if name == "er_dialects" else {}
    strategy = builtin(name, memory=13, **config)
    run = SmallRun(strategy, how, colours(classes=6), SIZES)
    strategy.start(run.trainer.model)
    run.learn(2)
    x = torch.zeros(1, 1)
    batch = Batch(
        x,
        torch.tensor([1]),
        torch.tensor([0]),
        torch.zeros(1, 4),
        None,
        run.trainer.model,
        run.trainer.shown_experience,
    )
    assert float(strategy.validation_loss(batch)) == pytest.approx(math.log(4)) and len(strategy.exemplars) > 0
    with pytest.raises(PluginError, match="a batch of validation data comes without them"):
        strategy.loss(batch)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("icarl", "icarl uses labels only for new outputs; the domain-incremental setting has none"),
        ("lwf_mc", "lwf_mc uses labels only for new outputs; the domain-incremental setting has none"),
        ("bic", "bic weights its cross-entropy by the share of new outputs: 0 in the domain-incremental setting"),
    ],
)
def test_a_loss_that_does_not_depend_on_labels_where_no_output_is_new_is_refused_there(name: str, why: str) -> None:
    strategy = builtin(name)
    with pytest.raises(UsageError, match=why):
        type(strategy).check_protocol(strategy.config, RECIPE, "domain_incremental")
    type(strategy).check_protocol(strategy.config, RECIPE, "class_incremental")


def test_near_class_means_are_told_apart_whatever_the_recipes_precision() -> None:
    icarl, model = builtin("icarl"), Linear()
    icarl.means = F.normalize(torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1.001]]), dim=1)
    x = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1.001]]).view(2, 1, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert icarl.predict(model, x, Experience(0, (2,))).argmax(dim=1).tolist() == [0, 1]


def test_exemplars_go_through_the_network_in_the_recipes_precision() -> None:
    seen = set()

    class Watched(torch.nn.Flatten):
        def forward(self, x: Tensor) -> Tensor:
            seen.add(torch.is_autocast_enabled("cpu"))
            return super().forward(x)

    strategy = builtin("er", memory=13)
    run = SmallRun(strategy, replace(RECIPE, precision="bfloat16"), colours(classes=6), SIZES)
    run.trainer.model.blocks.append(Watched())
    strategy.start(run.trainer.model)
    run.learn(1)
    assert seen == {True}


def test_the_replay_of_van_de_ven_weighs_the_exemplars_by_the_share_of_old_experiences() -> None:
    model = Linear()
    model.head.fixed = True
    er = started("er_dialects", model, mixture="batches", cross_entropy_over="all")
    x, y = filled(er.exemplars)
    batch, new = a_batch(model)
    expected = 0.5 * F.cross_entropy(batch.logits, new) + 0.5 * F.cross_entropy(model(x), y)
    torch.testing.assert_close(er.loss(batch), expected)


def test_lwf_mc_and_icarl_take_the_old_networks_sigmoids_for_targets() -> None:
    model = Linear()
    batch, y = a_batch(model)
    old = torch.rand(6, 2, generator=torch.Generator().manual_seed(3))
    batch.teacher_outputs = old
    targets = torch.cat([old, F.one_hot(y - 2, 2).float()], dim=1)
    expected = F.binary_cross_entropy(batch.logits.sigmoid(), targets)
    for name in ("lwf_mc", "icarl"):
        torch.testing.assert_close(builtin(name).loss(batch), expected)


def test_bic_weighs_distillation_by_the_share_of_old_classes() -> None:
    model = Linear()
    bic = started("bic", model)
    batch, y = a_batch(model)
    teacher = torch.randn(6, 2, generator=torch.Generator().manual_seed(4))
    batch.teacher_outputs = losses.soften(teacher, 2.0)
    kd = -(F.softmax(teacher / 2, 1) * F.log_softmax(batch.logits[:, :2] / 2, 1)).sum(1).mean()
    torch.testing.assert_close(bic.loss(batch), 0.5 * F.cross_entropy(batch.logits, y) + 0.5 * kd)


def test_earlier_corrections_of_bic_apply_to_the_student_as_to_the_teacher() -> None:
    # G-U-N/PyCIL, models/bic.py, and mmasana/FACIL, approach/bic.py: the bias layers of all tasks follow the head.
    model = Linear(classes=6)
    bic = started("bic", model)
    bic.corrections = [(2, 4, torch.tensor([0.5, -1.0]))]
    batch, y = a_batch(model)
    batch.experience, batch.y = Experience(2, SIZES), y + 2
    teacher = torch.randn(6, 4, generator=torch.Generator().manual_seed(4))
    batch.teacher_outputs = bic.teacher_output(lambda x: teacher, batch.x, batch.experience)
    factor, offset = torch.tensor([1, 1, 0.5, 0.5, 1, 1]), torch.tensor([0, 0, -1.0, -1.0, 0, 0])
    student, taught = batch.logits * factor + offset, teacher * factor[:4] + offset[:4]
    kd = -(F.softmax(taught / 2, 1) * F.log_softmax(student[:, :4] / 2, 1)).sum(1).mean()
    torch.testing.assert_close(bic.loss(batch), F.cross_entropy(student, y + 2) / 3 + 2 / 3 * kd)


def test_the_distillation_of_bic_has_no_gradient_while_the_student_is_the_teacher() -> None:
    model = Linear(classes=6).double()
    bic = started("bic", model)
    bic.corrections = [(2, 4, torch.tensor([0.5, -1.0]))]
    x = torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    where = Experience(2, SIZES)
    logits, answers = (model(x).detach().requires_grad_() for _ in range(2))
    recorded = bic.teacher_output(lambda x: logits.detach(), x, where)
    batch = Batch(x, torch.tensor([4, 5, 4, 5, 5, 4]), torch.arange(6), logits, recorded, model, where, Pixels())
    bic.loss(batch).backward()
    (F.cross_entropy(bic.corrected(answers), batch.y) / 3).backward()
    assert logits.grad is not None and answers.grad is not None
    assert (logits.grad - answers.grad).abs().max() < 1e-15  # what is left is the distillation's


def test_bic_corrects_the_new_classes_only() -> None:
    bic = started("bic", Linear())
    bic.corrections = [(2, 4, torch.tensor([0.5, -1.0]))]
    logits = torch.tensor([[1.0, 2.0, 4.0, 6.0]])
    assert bic.corrected(logits).tolist() == [[1.0, 2.0, 1.0, 2.0]]
    assert logits.tolist() == [[1.0, 2.0, 4.0, 6.0]]


def test_herding_takes_what_keeps_the_mean_of_the_chosen_near_the_mean_of_all() -> None:
    phi = torch.tensor([[0.0], [1.0], [4.0], [7.0]])  # mean 3: first 4, then 1 (mean 2.5), then 4, 1, 7 (mean 4) or 0
    assert herd(phi, 3).tolist() == [2, 1, 3]
    assert sorted(herd(phi, 9).tolist()) == [0, 1, 2, 3]


def test_icarl_answers_with_the_nearest_mean_of_exemplars() -> None:
    icarl = builtin("icarl")
    icarl.means = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    x = torch.tensor([[[[9.0, 1.0], [0.0, 0.0]]], [[[0.1, 0.2], [0.0, 0.0]]]])
    assert icarl.predict(Linear(), x, Experience(0, (2,))).argmax(dim=1).tolist() == [0, 1]


def test_slda_is_the_linear_discriminant_of_all_data_however_it_came() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    strategy = builtin("slda")
    run = SmallRun(strategy, RECIPE, colours(classes=6), SIZES)
    strategy.start(run.trainer.model)
    run.learn()
    with torch.no_grad():
        network = run.trainer.model.in_evaluation()
        phi = network.blocks(run.scaling(run.images.pixels)).double()
        answers = strategy.predict(network, run.scaling(run.images.pixels), run.trainer.experience).argmax(dim=1)
    eye = strategy.config.shrinkage * torch.eye(phi.shape[1], dtype=torch.float64)
    y = run.positions
    means = torch.stack([phi[y == c].mean(0) for c in range(6)])
    around = phi - means[y]
    precision = torch.linalg.inv((1 - strategy.config.shrinkage) * around.T @ around / len(y) + eye)
    scores = phi @ precision @ means.T - 0.5 * (means @ precision * means).sum(1)
    assert (answers == scores.argmax(dim=1)).float().mean() > 0.99
    theirs = (
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(phi.numpy(), y.numpy()).predict(phi.numpy())
    )
    assert (answers == torch.from_numpy(theirs)).float().mean() > 0.9


def offered_to_gdumb(memory: int, labels: list[int]) -> list[int]:
    """The labels that are kept of a stream of them."""
    gdumb = started("gdumb", Linear(), memory=memory)

    class Images:
        def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
            return positions.view(-1, 1, 1, 1).to(torch.uint8), torch.tensor(labels)[positions]

    gdumb.fill(Images(), torch.arange(len(labels)), torch.tensor(labels))
    return [int(y) for y in gdumb.exemplars.labels]


def test_gdumb_gives_a_class_its_share_even_before_the_memory_is_full() -> None:
    # Algorithm 1: a sample of a class seen enters if its class has fewer than k / |Y| exemplars, here 4 / 2.
    assert offered_to_gdumb(4, [0, 1, 0, 0, 0]) == [0, 1, 0]
    assert offered_to_gdumb(4, [0, 0, 0, 1, 0]) == [0, 0, 0, 1]
    assert offered_to_gdumb(5, [0, 1, 0, 0, 0]) == [0, 1, 0, 0]  # k / |Y| is not rounded: 2 < 5 / 2


@pytest.mark.slow
def test_a_class_that_gdumb_has_not_seen_enters_though_there_are_more_classes_than_exemplars() -> None:
    torch.manual_seed(0)
    for _ in range(20):
        kept = Counter(offered_to_gdumb(7, [y for pair in range(5) for y in [2 * pair, 2 * pair + 1] * 20]))
        assert sum(kept.values()) == 7 and kept[8] == kept[9] == 1


@pytest.mark.slow
def test_gdumb_draws_what_it_replaces_from_all_largest_classes() -> None:
    torch.manual_seed(0)
    kept = Counter(label for _ in range(200) for label in offered_to_gdumb(4, [0, 1, 0, 1, 2]))
    assert kept[2] == 200 and kept[0] == pytest.approx(300, abs=30)


def test_gdumb_balances_its_memory_and_trains_on_it_alone() -> None:
    strategy = builtin("gdumb", memory=12)
    run = SmallRun(strategy, RECIPE, colours(classes=6), SIZES)
    strategy.start(run.trainer.model)
    run.learn()
    assert Counter(strategy.exemplars.labels.tolist()) == dict.fromkeys(range(6), 2)
    assert [costs.samples_seen for costs in run.experience_costs] == [24, 24, 24]  # two epochs over twelve exemplars
