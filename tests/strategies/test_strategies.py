"""The built-in strategies: each loss against its formula, and what each leaves alone, on runs of a few seconds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SmallRun, builtin, colours, configured, digits, same, strategy_class
from torch import Tensor, nn

import clbench
from clbench import Augmentation, Batch, Experience, Recipe
from clbench.audit.object_graph import weights_sha256

SIZES = (2, 1, 2)
MLP = Recipe(network="mlp", optimizer="sgd", lr=0.1, momentum=0.9, batch_size=16, epochs=2)
CNN = Recipe(network="cnn", optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=0.01, batch_size=16, epochs=2)
# Active, so that nothing is computed once for all epochs, and yet without effect: 1 + 1e-12 is 1 in float32.
UNSEEN = Augmentation(brightness=1e-12)


def with_augmentation(recipe: Recipe, augmentation: Augmentation) -> Recipe:
    return Recipe(**{**vars(recipe), "augmentation": augmentation})


def small(strategy: Any, recipe: Recipe = MLP, sizes: tuple[int, ...] = SIZES) -> SmallRun:
    return SmallRun(strategy, recipe, colours(), sizes)


def state(module: nn.Module) -> list[bytes]:
    return [tensor.contiguous().numpy().tobytes() for tensor in module.state_dict().values()]


def rows_of(model: clbench.Network, count: int) -> tuple[bytes, bytes]:
    """The head's first rows and biases."""
    head = model.head
    return head.weight[:count].detach().numpy().tobytes(), head.bias[:count].detach().numpy().tobytes()


def by_hand(logits: list[list[float]], y: list[int], first: int = 0) -> float:
    """-1/n Σ log of the probability of the class y among the classes from `first` on."""
    terms = []
    for row, label in zip(logits, y, strict=True):
        terms.append(math.log(math.exp(row[label]) / sum(map(math.exp, row[first:]))))
    return -sum(terms) / len(terms)


def random_batch(index: int, sizes: tuple[int, ...] = SIZES, n: int = 6) -> Batch:
    """A batch of the experience with random logits and random old responses."""
    experience, draw = Experience(index, sizes), torch.Generator().manual_seed(index)
    old, seen = experience.old_classes, experience.seen_classes
    y = torch.randint(old, seen, (n,), generator=draw)
    logits, recorded = (2 * torch.randn(n, columns, generator=draw) for columns in (seen, old))
    x = torch.zeros(n, 1, 2, 2)
    return Batch(x, y, torch.arange(n), logits, recorded if index else None, clbench.Network([], 4), experience)


def spied(name: str, watch: Callable[[Any, Batch, Tensor], None], **config: Any) -> Any:
    """The built-in strategy with `watch(strategy, batch, loss)` after every loss."""
    cls = strategy_class(name)

    class Spy(cls):  # type: ignore[misc, valid-type]
        def loss(self, batch: Batch) -> Tensor:
            value: Tensor = super().loss(batch)
            watch(self, batch, value)
            return value

    return configured(Spy, **config)


# Every strategy


class ByItself(clbench.Strategy):  # type: ignore[type-arg]
    """Fine-tuning by hooks of its own from the first experience on."""

    def loss(self, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(batch.logits, batch.y)


@pytest.mark.parametrize("name", ["naive", "joint", "l2", "ewc", "mas", "frozen", "slda", "lwf", "agem", "bic"])
def test_a_plain_start_learns_as_fine_tuning_by_hooks_does_to_the_byte(name: str) -> None:
    by_itself = ByItself(None)
    assert builtin(name).first_loss() is not None and by_itself.first_loss() is None
    one, other = small(builtin(name), CNN).trainer, small(by_itself, CNN).trainer
    assert one.fit(0) and other.fit(0)
    assert same(one.model, other.model)


def test_a_plain_start_over_all_classes_of_the_stream_counts_those_to_come() -> None:
    recipe = replace(CNN, head="fixed")
    over_all, over_seen = (
        small(builtin("naive", cross_entropy_over=term), recipe).learn(1) for term in ("all", "seen")
    )
    assert not same(over_all.models[0], over_seen.models[0])


# Naive and joint


@pytest.mark.parametrize("name", ["naive", "joint"])
def test_naive_and_joint_rank_all_classes_seen(name: str) -> None:
    batch = random_batch(2)
    expected = by_hand(batch.logits.tolist(), batch.y.tolist())
    assert builtin(name).loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_joint_trains_on_exactly_all_data_so_far_as_often_as_the_recipe_says() -> None:
    served: dict[int, list[int]] = {1: [], 2: []}
    run = small(spied("joint", lambda _, batch, __: served[batch.experience.index].extend(batch.index.tolist())))
    run.learn()
    for index in served:
        so_far = [row for earlier in range(index + 1) for row in run.rows(earlier)]
        assert sorted(served[index]) == sorted(2 * so_far)


def test_joint_labels_old_samples_with_their_own_classes() -> None:
    def check(_: Any, batch: Batch, __: Tensor) -> None:
        assert torch.equal(batch.y, run.positions[batch.index])

    run = small(spied("joint", check))
    run.learn()


def test_joint_starts_afresh_so_that_only_training_last_ends_the_same() -> None:
    everywhere, last = (small(builtin("joint", experiences=which), CNN).learn() for which in ("all", "last"))
    assert weights_sha256(last.models[-1]) == weights_sha256(everywhere.models[-1])
    assert [costs.gradient_steps for costs in last.experience_costs[:-1]] == [0, 0]
    assert weights_sha256(last.models[1]) != weights_sha256(everywhere.models[1])


def test_joint_on_the_last_experience_only_stores_null_for_those_skipped(data: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"split": "4,3,3", "epochs": 1, "threads": 1, "out": tmp_path, "data": data}
    (run,) = clbench.run("joint", "splitdigits", set={"experiences": "last"}, **settings)
    result = json.loads((run.path / "result.json").read_bytes())
    for setting in ("class_incremental", "task_incremental"):
        assert result["counts"][setting]["correct"][:2] == [None, None]
        assert len(result["counts"][setting]["correct"][2]) == 3
    assert result["metrics"]["class_incremental"]["new_accuracy"][:2] == [None, None]
    assert result["metrics"]["class_incremental"]["new_accuracy"][2] is not None
    assert [entry["samples_seen"] for entry in result["experiences"][:2]] == [0, 0]


# L2


@pytest.mark.parametrize(("convention", "coefficient"), [("lambda", 3.0), ("half_lambda", 1.5)])
def test_l2_adds_the_squared_distance_to_the_weights_after_the_previous_experience(
    convention: str, coefficient: float
) -> None:
    """Every parameter of that network counts, and nothing else: not the new rows, not the buffers."""
    checked = []

    def check(_: Any, batch: Batch, loss: Tensor) -> None:
        index = batch.experience.index
        if index == 0:
            return
        previous, now = run.models[index - 1], batch.model
        old = batch.experience.old_classes
        pairs = list(zip(now.blocks.parameters(), previous.blocks.parameters(), strict=True))
        pairs += [(now.head.weight[:old], previous.head.weight), (now.head.bias[:old], previous.head.bias)]
        distance = sum((w.double() - a.double()).square().sum().item() for w, a in pairs)
        new = by_hand(batch.logits.tolist(), batch.y.tolist())
        assert loss.item() == pytest.approx(new + coefficient * distance, rel=1e-4)
        checked.append(distance)

    run = small(spied("l2", check, strength=3.0, convention=convention), Recipe(**{**vars(CNN), "lr": 0.02}))
    for _ in SIZES:
        run.learn(1)
    assert checked[0] == 0  # at the first step of an experience, the old weights are the anchors
    assert max(checked) > 1e-3


def test_l2_pulls_towards_the_anchors() -> None:
    """A strong penalty keeps the trunk nearer to where it was than a weak one."""

    def moved(strength: float) -> float:
        first, second = small(builtin("l2", strength=strength), MLP, (2, 3)).learn().models
        pairs = zip(first.blocks.parameters(), second.blocks.parameters(), strict=True)
        return sum((a - b).square().sum().item() for a, b in pairs)

    assert moved(5.0) < moved(0.05) / 2


def test_l2_without_strength_is_fine_tuning_bit_for_bit() -> None:
    assert all(
        map(same, small(builtin("l2", strength=0), CNN).learn().models, small(builtin("naive"), CNN).learn().models)
    )


def test_a_lambda_of_one_convention_is_half_that_of_the_other() -> None:
    one = small(builtin("l2", strength=1.0, convention="lambda")).learn()
    other = small(builtin("l2", strength=2.0, convention="half_lambda")).learn()
    assert all(map(same, one.models, other.models))


# Frozen


def test_frozen_blocks_keep_parameters_and_running_statistics_to_the_byte() -> None:
    run = small(builtin("frozen"), CNN).learn()
    for model in run.models[1:]:
        assert state(model.blocks) == state(run.models[0].blocks)


@pytest.mark.parametrize("blocks", [1, 2])
def test_only_as_many_leading_blocks_are_frozen_as_asked_for(blocks: int) -> None:
    run = small(builtin("frozen", blocks=blocks), CNN).learn()
    first = run.models[0].blocks
    for model in run.models[1:]:
        assert [state(block) == state(one) for block, one in zip(model.blocks, first, strict=True)] == [
            position < blocks for position in range(3)
        ]


def test_frozen_by_default_keeps_the_old_rows_of_the_head_to_the_byte() -> None:
    first, second, third = small(builtin("frozen"), CNN).learn().models
    assert rows_of(second, 2) == rows_of(first, 2)
    assert rows_of(third, 3) == rows_of(second, 3)


def test_frozen_trains_the_new_rows_of_the_head() -> None:
    run = small(builtin("frozen"), CNN)
    fresh: list[bytes] = []

    class Spy(strategy_class("frozen")):  # type: ignore[misc]
        def before_experience(self, model: clbench.Network, experience: Experience) -> None:
            fresh.append(model.head.new.weight.detach().numpy().tobytes())  # type: ignore[union-attr]

    run = small(configured(Spy), CNN).learn()
    for untrained, model in zip(fresh, run.models[1:], strict=True):
        assert model.head.new is not None
        assert model.head.new.weight.detach().numpy().tobytes() != untrained


@pytest.mark.parametrize("state", ["fresh", "carried"])
@pytest.mark.parametrize(("optimizer", "momentum"), [("sgd", 0.9), ("adam", 0.0)])
def test_frozen_trains_the_new_rows_of_a_fixed_head_alone(optimizer: str, momentum: float, state: str) -> None:
    recipe = replace(
        MLP, optimizer=optimizer, momentum=momentum, weight_decay=0.01, head="fixed", optimizer_state=state
    )
    first, second, third = small(builtin("frozen"), recipe).learn().models
    for before, after, others, new in ((first, second, [0, 1, 3, 4], [2]), (second, third, [0, 1, 2], [3, 4])):
        assert same(after.blocks, before.blocks)
        assert torch.equal(after.head.weight[others], before.head.weight[others])
        assert torch.equal(after.head.bias[others], before.head.bias[others])
        assert (after.head.weight[new] != before.head.weight[new]).any(dim=1).all()


def test_frozen_is_refused_domain_incrementally_where_it_would_train_no_row() -> None:
    cls = strategy_class("frozen")
    for setting in ("class_incremental", "task_incremental"):
        cls.check_protocol(builtin("frozen").config, MLP, setting)
    cls.check_protocol(builtin("frozen", head="all_rows").config, MLP, "domain_incremental")
    with pytest.raises(clbench.UsageError, match=r"frozen\.head=all_rows"):
        cls.check_protocol(builtin("frozen").config, MLP, "domain_incremental")


def test_frozen_trains_old_rows_too_where_asked() -> None:
    first, second, _ = small(builtin("frozen", head="all_rows", cross_entropy_over="seen"), CNN).learn().models
    assert state(second.blocks) == state(first.blocks)
    assert rows_of(second, 2) != rows_of(first, 2)


@pytest.mark.parametrize(("over", "first"), [("current", 3), ("seen", 0)])
def test_the_cross_entropy_of_frozen_ranges_over_the_new_classes_or_all_seen(over: str, first: int) -> None:
    batch = random_batch(2)
    expected = by_hand(batch.logits.tolist(), batch.y.tolist(), first)
    assert builtin("frozen", cross_entropy_over=over).loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_more_blocks_than_the_network_has_are_refused_before_training() -> None:
    model = small(builtin("naive"), CNN).trainer.model
    builtin("frozen", blocks=3).start(model)
    with pytest.raises(clbench.UsageError, match="3 blocks"):
        builtin("frozen", blocks=4).start(model)


def test_cached_features_give_the_weights_that_images_give() -> None:
    cached = small(builtin("frozen"), CNN).learn()
    computed = small(builtin("frozen"), with_augmentation(CNN, UNSEEN)).learn()
    assert [costs.features_cached for costs in cached.experience_costs] == [False, True, True]
    assert [costs.features_cached for costs in computed.experience_costs] == [False, False, False]
    assert same(cached.models[0], computed.models[0])
    assert not same(cached.models[1].head, cached.models[2].head)
    for one, other in zip(cached.models, computed.models, strict=True):
        torch.testing.assert_close(one.head.weight, other.head.weight, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.head.bias, other.head.bias, rtol=1e-4, atol=1e-5)


def test_features_are_not_cached_while_a_block_trains() -> None:
    assert not any(costs.features_cached for costs in small(builtin("frozen", blocks=2), CNN).learn().experience_costs)


# LwF


def softened(row: list[float], temperature: float) -> list[float]:
    """Equation 3 of Li & Hoiem: the probabilities to the power of 1/T, normalised."""
    total = sum(map(math.exp, row))
    powers = [(math.exp(value) / total) ** (1 / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def paper_distillation(batch: Batch, temperature: float, scope: str) -> float:
    """Equation 2, -Σ y' log ŷ', averaged over the samples: within each earlier experience or over the scope."""
    assert batch.teacher_outputs is not None
    experience, old = batch.experience, batch.experience.old_classes
    total = 0.0
    for student, teacher in zip(batch.logits.tolist(), batch.teacher_outputs.tolist(), strict=True):
        if scope == "per_experience":
            ends = [sum(experience.classes_per_experience[: i + 1]) for i in range(experience.index)]
            groups = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
            tasks = [(student[group], teacher[group]) for group in groups]
        else:
            tasks = [(student[:old] if scope == "old" else student, teacher)]
        for ours, theirs in tasks:
            answered, recorded = softened(ours, temperature), softened(theirs, temperature)
            total -= sum(y * math.log(answered[c]) for c, y in enumerate(recorded))
    return total / len(batch.y)


def with_answers(lwf: Any, batch: Batch) -> Batch:
    """The batch as `lwf` gets it, where its `recorded` are the old network's logits."""
    return replace(batch, teacher_outputs=lwf.teacher_output(nn.Identity(), batch.teacher_outputs, batch.experience))


@pytest.mark.parametrize("index", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(2, 1, 3, 2), (2, 2, 2, 2)])
@pytest.mark.parametrize("scope", ["per_experience", "old", "seen"])
@pytest.mark.parametrize("over", ["current", "seen"])
def test_the_loss_of_lwf_is_the_papers_in_every_variant(
    index: int, sizes: tuple[int, ...], scope: str, over: str
) -> None:
    batch = random_batch(index, sizes)
    lwf = builtin(
        "lwf_dialects", alpha=0.7, temperature=3.0, lambda_new=1.3, distillation_over=scope, cross_entropy_over=over
    )
    first = batch.experience.old_classes if over == "current" else 0
    new = by_hand(batch.logits.tolist(), batch.y.tolist(), first)
    expected = 1.3 * new + 0.7 * paper_distillation(batch, 3.0, scope)
    assert lwf.loss(with_answers(lwf, batch)).item() == pytest.approx(expected, rel=1e-5)


def test_lwf_by_default_is_the_paper_with_temperature_2_and_both_weights_1() -> None:
    batch = random_batch(2)
    new = by_hand(batch.logits.tolist(), batch.y.tolist(), first=3)
    expected = new + paper_distillation(batch, 2.0, "per_experience")
    lwf = builtin("lwf")
    assert lwf.loss(with_answers(lwf, batch)).item() == pytest.approx(expected, rel=1e-5)
    assert lwf.config.lambda_r == 0.0005


def test_without_the_old_classes_in_the_new_term_it_gives_them_no_gradient() -> None:
    batch = random_batch(2)
    batch.logits.requires_grad_()
    lwf = builtin("lwf", alpha=0)
    lwf.loss(with_answers(lwf, batch)).backward()
    assert batch.logits.grad is not None
    assert (batch.logits.grad[:, :3] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("augmentation", [Augmentation(), UNSEEN, Augmentation(crop=1, flip=True, brightness=0.2)])
def test_lwf_is_given_the_answers_of_the_network_before_the_experience(augmentation: Augmentation) -> None:
    """The published network's, in evaluation mode, for the very images of the batch; also at the last step."""
    recorded = []

    def check(_: Any, batch: Batch, __: Tensor) -> None:
        index = batch.experience.index
        if index == 0:
            assert batch.teacher_outputs is None
            return
        lwf = builtin("lwf")
        with torch.no_grad():
            expected = lwf.teacher_output(run.models[index - 1].eval(), batch.x, batch.experience)
            now = lwf.teacher_output(nn.Identity(), batch.logits[:, : batch.experience.old_classes], batch.experience)
        assert batch.teacher_outputs is not None
        torch.testing.assert_close(batch.teacher_outputs, expected, rtol=1e-4, atol=1e-4)
        recorded.append((now - expected).abs().max().item())

    run = small(spied("lwf", check), with_augmentation(CNN, augmentation))
    for _ in SIZES:
        run.learn(1)
    assert max(recorded) > 0.1  # the network in training answers otherwise
    how = "online" if augmentation.active else "recorded"
    assert [costs.teacher for costs in run.experience_costs] == [None, how, how]
    # Four bytes a sample, group and class: 20 samples with a group of 2 classes, then 40 with two groups of up to 2.
    assert [costs.teacher_bytes for costs in run.experience_costs] == [0, *((0, 0) if how == "online" else (160, 640))]


def test_recorded_and_live_answers_train_the_same_network() -> None:
    recorded = small(builtin("lwf"), CNN).learn()
    live = small(builtin("lwf"), with_augmentation(CNN, UNSEEN)).learn()
    assert same(recorded.models[0], live.models[0])
    for one, other in zip(recorded.models[1].parameters(), live.models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_old_network_does_not_train_while_it_answers_live() -> None:
    """Its answers for the same image stay those of the first step, although the network has moved on."""
    answers: dict[int, list[Tensor]] = {}

    def collect(_: Any, batch: Batch, __: Tensor) -> None:
        if batch.teacher_outputs is not None:
            assert not batch.teacher_outputs.requires_grad
            for row, answer in zip(batch.index.tolist(), batch.teacher_outputs, strict=True):
                answers.setdefault(row, []).append(answer)

    small(spied("lwf", collect), with_augmentation(CNN, UNSEEN), (2, 3)).learn()
    assert all(len(own) == 2 for own in answers.values())
    for first, second in answers.values():
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


def test_lwf_without_its_terms_is_fine_tuning_bit_for_bit() -> None:
    lwf = small(builtin("lwf_dialects", alpha=0, lambda_r=0, cross_entropy_over="seen"), CNN).learn()
    assert all(map(same, lwf.models, small(builtin("naive"), CNN).learn().models))


def test_distillation_keeps_the_old_answers_nearer() -> None:
    gentle = Recipe(network="mlp", lr=0.05, batch_size=16, epochs=5)
    run, other = (small(builtin("lwf", alpha=alpha, lambda_r=0), gentle, (2, 3)).learn() for alpha in (5.0, 0.0))
    x = run.scaling(run.images.read(torch.tensor(run.rows(1))))
    with torch.no_grad():
        before = torch.softmax(run.models[0](x), dim=1)
        near, far = (torch.softmax(each.models[1](x)[:, :2], dim=1).sub(before).abs().mean() for each in (run, other))
    assert near < far / 2


def test_lambda_r_adds_half_the_squared_norm_of_all_parameters_from_experience_1_on() -> None:
    def norm(model: nn.Module) -> Tensor:
        return torch.stack([w.square().sum() for w in model.parameters()]).sum()

    class Explicit(strategy_class("lwf")):  # type: ignore[misc]
        def loss(self, batch: Batch) -> Tensor:
            value: Tensor = super().loss(batch)
            return value + 0.05 * 0.5 * norm(batch.model) if batch.experience.index else value

    decayed = small(builtin("lwf", lambda_r=0.05)).learn()
    explicit = small(configured(Explicit, lambda_r=0.0)).learn()
    without = small(builtin("lwf", lambda_r=0.0)).learn()
    assert same(decayed.models[0], without.models[0])
    assert norm(decayed.models[1]) < 0.99 * norm(without.models[1])
    for one, other in zip(decayed.models[1].parameters(), explicit.models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_warm_up_trains_the_new_rows_alone() -> None:
    """With the warm-up as long as the recipe, everything else stays as it was to the byte."""
    run = small(builtin("lwf", warmup_epochs=2), CNN).learn()
    for earlier, later, old in zip(run.models, run.models[1:], (2, 3), strict=False):
        assert state(later.blocks) == state(earlier.blocks)
        assert rows_of(later, old) == rows_of(earlier, old)
    assert not same(small(builtin("lwf", warmup_epochs=2), CNN).learn(1).models[0], run.new_model())


OPTIMIZERS = [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0), ("adamw", 0.0), ("adagrad", 0.0), ("rmsprop", 0.9)]


@pytest.mark.parametrize("name", ["lwf", "lwf_dialects"])
@pytest.mark.parametrize(("optimizer", "momentum"), OPTIMIZERS)
def test_the_warm_up_leaves_the_other_rows_of_a_fixed_head_and_their_moments_alone(
    optimizer: str, momentum: float, name: str
) -> None:
    """With SGD, weight decay would shrink them by 1 - lr·λ in every step, although the loss gives them no gradient."""
    recipe = replace(MLP, optimizer=optimizer, momentum=momentum, head="fixed", weight_decay=0.01)
    run = small(builtin(name, warmup_epochs=2, lambda_r=0.05), recipe).learn(2)
    before, after = (run.models[index].head for index in (0, 1))
    others = [0, 1, 3, 4]  # experience 1 brings class 2 of 5
    assert torch.equal(after.weight[others], before.weight[others])
    assert torch.equal(after.bias[others], before.bias[others])
    assert not torch.equal(after.weight[2], before.weight[2])
    for parameter in run.trainer.model.head.parameters():
        for value in run.trainer.optimizer.state[parameter].values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                assert (value[others] == 0).all()


def test_after_the_warm_up_all_rows_of_a_fixed_head_train() -> None:
    recipe = replace(MLP, head="fixed")
    run = small(builtin("lwf", warmup_epochs=1, lambda_r=0.05), recipe).learn(2)
    changed = (run.models[1].head.weight != run.models[0].head.weight).all(dim=1)
    assert changed.all()


@pytest.mark.parametrize("head", ["growing", "fixed"])
@pytest.mark.parametrize("name", ["lwf", "lwf_dialects"])
def test_domain_incrementally_no_unit_is_new_and_there_is_no_warm_up(name: str, head: str) -> None:
    recipe = replace(MLP, head=head)
    warm, cold = (
        SmallRun(builtin(name, warmup_epochs=w), recipe, colours(classes=4), (2, 2), setting="domain_incremental")
        for w in (2, 0)
    )
    assert all(map(same, warm.learn().models, cold.learn().models))


@pytest.mark.parametrize(("optimizer", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0)])
def test_after_the_warm_up_everything_trains(optimizer: str, momentum: float) -> None:
    recipe = Recipe(network="cnn", optimizer=optimizer, momentum=momentum, lr=0.01, batch_size=16, epochs=2)  # type: ignore[arg-type]
    trunks: list[list[bytes]] = []
    rows: list[tuple[bytes, bytes]] = []

    def watch(_: Any, batch: Batch, __: Tensor) -> None:
        if batch.experience.index == 1:
            trunks.append(state(batch.model.blocks))
            rows.append(rows_of(batch.model, 5))

    # Experience 1 has 60 samples: 4 steps an epoch, of which there are 2.
    run = small(spied("lwf", watch, warmup_epochs=1), recipe, (2, 3)).learn()
    # In epoch 1 the forward pass has moved the running statistics before the first loss.
    assert [trunk == trunks[0] for trunk in trunks] == [True] * 4 + [False] * 4
    assert len(set(rows)) == 8  # the new rows train throughout
    assert rows_of(run.models[1], 2) != rows_of(run.models[0], 2)
    for one, other in zip(run.models[0].blocks.parameters(), run.models[1].blocks.parameters(), strict=True):
        assert not torch.equal(one, other)


# Real digits


@pytest.mark.slow
def test_joint_learns_the_digits_and_fine_tuning_forgets_them() -> None:
    """With two thirds of the images new each time, accuracy on all of them tells the references apart."""
    recipe = Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=32, epochs=10)
    accuracy = {}
    for name in ("naive", "joint"):
        run = SmallRun(builtin(name), recipe, digits(), (5, 5)).learn()
        predicted = run.test_set.predict(run.trainer.model)["class_incremental"]
        accuracy[name] = (torch.from_numpy(predicted) == run.positions).float().mean().item()
    assert accuracy["joint"] > 0.95
    assert accuracy["naive"] < 0.7
