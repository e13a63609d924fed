"""Replayed steps give the same numbers as one operation after another; steps that cannot be replayed say why.

A GPU's graph is replaced by recorders that keep the computation itself; everything around it is the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from small_runs import SmallRun, builtin, colours, same
from torch import Tensor

import clbench
from clbench import Augmentation, Batch, Recipe
from clbench.errors import Divergence, PluginError
from clbench.system.signals import Interrupted
from clbench.training.cuda_graphs import WARM_UP, GraphRecorder

SIZES = (2, 1, 2)  # of 20 samples a class: 40, 20 and 40 samples
PLAIN = Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=8, epochs=2)
LEFT_OVER = Recipe(network="mlp", optimizer="sgd", lr=0.1, batch_size=6, epochs=2)
ROUGH = Recipe(
    network="cnn",
    optimizer="sgd",
    lr=0.05,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="cosine",
    batch_size=6,
    epochs=2,
    augmentation=Augmentation(crop=1, flip=True, brightness=0.2),
)
RECIPES = {"plain": PLAIN, "left over": LEFT_OVER, "rough": ROUGH}


class Kept:
    """Records a computation by keeping it."""

    @contextmanager
    def aside(self) -> Iterator[list[str]]:
        yield []

    def record(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        memory = torch.zeros(())
        return lambda: memory.copy_(compute()) and None, memory


class Refusing(Kept):
    """Cannot record anything."""

    def record(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


class Forgetful(Kept):
    """Replays nothing."""

    def record(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        return lambda: None, torch.zeros(())


class Foreseeing(Kept):
    """Reports without trying that it cannot record anything."""

    @contextmanager
    def aside(self) -> Iterator[list[str]]:
        yield ["a step waits for the GPU"]

    def record(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        raise AssertionError("tried in spite of it")


class BreakingOff(Kept):
    """Fails after it has taken the step."""

    def record(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        compute()
        raise RuntimeError("broken off")


def begun(strategy: Any, recipe: Recipe, sizes: tuple[int, ...] = SIZES, **options: Any) -> SmallRun:
    """A run whose strategy has been started."""
    run = SmallRun(strategy, recipe, colours(sum(sizes)), sizes, **options)
    strategy.start(run.trainer.model)
    return run


def pair(strategy: Callable[[], Any], recipe: Recipe, recorder: Any = None) -> tuple[SmallRun, SmallRun]:
    """The same run with its steps replayed, and one operation after another; both have ended."""
    return begun(strategy(), recipe, recorder=recorder or Kept()).learn(), begun(strategy(), recipe).learn()


def assert_same(one: SmallRun, other: SmallRun) -> None:
    assert all(same(ours, theirs) for ours, theirs in zip(one.models, other.models, strict=True))
    for ours, theirs in zip(one.experience_costs, other.experience_costs, strict=True):
        assert (ours.gradient_steps, ours.samples_seen) == (theirs.gradient_steps, theirs.samples_seen)


def with_loss(loss: Callable[[Any, Batch], Tensor]) -> Callable[[], Any]:
    class Given(clbench.Strategy):  # type: ignore[type-arg]
        steps = 0

        def loss(self, batch: Batch) -> Tensor:
            return loss(self, batch)

    return lambda: Given(None)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("name", ["naive", "l2", "ewc", "mas", "frozen", "lwf", "lwf_mc", "joint"])
def test_replayed_steps_give_the_numbers_of_the_plain_loop_to_the_bit(name: str, recipe: Recipe) -> None:
    replayed, plain = pair(lambda: builtin(name), recipe)
    assert_same(replayed, plain)
    for costs in replayed.experience_costs:
        assert costs.not_replayed is None
        assert costs.replayed_steps > 0 or costs.gradient_steps <= WARM_UP + 1 + 2  # two epochs' left-over batches
    assert all(costs.replayed_steps == 0 for costs in plain.experience_costs)


def test_every_whole_batch_after_the_warm_up_and_the_recording_is_replayed() -> None:
    replayed, _ = pair(lambda: builtin("naive"), LEFT_OVER)
    # 40 samples in batches of 6 are 6 whole ones and one of 4, twice.
    costs = replayed.experience_costs[0]
    assert (costs.gradient_steps, costs.replayed_steps) == (14, 12 - WARM_UP - 1)


@pytest.mark.parametrize("name", ["er", "derpp", "si", "agem"])
def test_strategies_that_act_within_a_step_are_not_captured(name: str) -> None:
    replayed, plain = pair(lambda: builtin(name), PLAIN)
    assert_same(replayed, plain)
    reasons = [costs.not_replayed for costs in replayed.experience_costs if costs.replayed_steps == 0]
    assert "the strategy has a before_step or after_step hook" in reasons


@pytest.mark.slow
def test_rates_that_differ_between_parts_are_replayed_and_own_modules_that_train_are_not() -> None:
    class Slow(clbench.Strategy):  # type: ignore[type-arg]
        def rate_factors(self, experience: Any) -> dict[str, float]:
            return {"trunk": 0.1}

        def loss(self, batch: Batch) -> Tensor:
            return batch.cross_entropy()

    class Scaled(Slow):
        def before_experience(self, model: Any, experience: Any) -> None:
            self.scale = torch.nn.Linear(1, 1)

        def trained_modules(self) -> list[torch.nn.Module]:
            return [self.scale]

        def loss(self, batch: Batch) -> Tensor:
            return batch.cross_entropy() * self.scale.weight.square().sum()

    replayed, plain = pair(lambda: Slow(None), ROUGH)
    assert_same(replayed, plain)
    assert replayed.experience_costs[0].replayed_steps > 0
    replayed, plain = pair(lambda: Scaled(None), ROUGH)
    assert_same(replayed, plain)
    assert {costs.not_replayed for costs in replayed.experience_costs} == {"modules of the strategy's own are trained"}


def counting(strategy: Any, batch: Batch) -> Tensor:
    strategy.steps += 1
    return batch.cross_entropy() / strategy.steps


def drawing(strategy: Any, batch: Batch) -> Tensor:
    return batch.cross_entropy() * torch.rand(())


def asking(strategy: Any, batch: Batch) -> Tensor:
    again = batch.prepare(batch.images(torch.tensor([0])))
    return batch.cross_entropy() + 0 * again.sum()


def looking(strategy: Any, batch: Batch) -> Tensor:
    return batch.cross_entropy() + 0 * batch.images(torch.tensor([0])).sum()


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (counting, "a step changes the strategy"),
        (drawing, "a step draws random numbers"),
        (asking, "a step requests further images"),
        (looking, "a step requests further images"),
    ],
)
def test_a_loss_that_is_more_than_a_function_of_the_batch_is_not_replayed(
    loss: Callable[[Any, Batch], Tensor], reason: str
) -> None:
    replayed, plain = pair(with_loss(loss), PLAIN)
    assert_same(replayed, plain)
    assert replayed.experience_costs[0].not_replayed == reason
    assert not any(costs.replayed_steps for costs in replayed.experience_costs)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [PLAIN, ROUGH], ids=["plain", "rough"])
@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (Foreseeing(), "a step waits for the GPU"),
        (Refusing(), "RuntimeError: operation not permitted when stream is capturing"),
        (Forgetful(), "a replayed step gives another result"),
        (BreakingOff(), "RuntimeError: broken off"),
    ],
)
def test_if_capture_fails_the_step_is_done_once_and_the_reason_is_kept(
    recorder: Any, reason: str, recipe: Recipe
) -> None:
    replayed, plain = pair(lambda: builtin("lwf"), recipe, recorder)
    assert_same(replayed, plain)
    assert [costs.not_replayed for costs in replayed.experience_costs] == [reason] * 3


def test_a_recorder_that_fails_to_replay_would_change_the_numbers() -> None:
    """The comparison above can fail: without the trial, a forgetful recorder loses steps."""
    replayed = begun(builtin("naive"), PLAIN, recorder=Kept())
    plain = begun(builtin("naive"), PLAIN).learn()
    train = replayed.trainer.step
    calls = []

    def losing(inputs: Any) -> Tensor:
        calls.append(1)
        return train(inputs) if len(calls) < 4 else torch.zeros(())

    replayed.trainer.step = losing  # type: ignore[method-assign]
    assert not same(replayed.learn().models[0], plain.models[0])


def test_what_begins_to_train_between_epochs_is_recorded_again() -> None:
    recipe = Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=4, epochs=3)
    replayed, plain = pair(lambda: builtin("lwf", warmup_epochs=1), recipe)
    assert_same(replayed, plain)
    # 20 samples are 5 batches an epoch: the warm-up records its own step, the other two epochs another one.
    assert replayed.experience_costs[1].replayed_steps == (5 - WARM_UP - 1) + (10 - WARM_UP - 1)


@pytest.mark.parametrize("setting", ["task_incremental", "domain_incremental"])
def test_the_other_settings_are_replayed_too(setting: Any) -> None:
    sizes = (2, 2) if setting == "domain_incremental" else (3, 2)
    runs = [
        begun(builtin("lwf"), PLAIN, sizes, setting=setting, recorder=recorder).learn() for recorder in (Kept(), None)
    ]
    assert_same(*runs)
    assert all(costs.replayed_steps for costs in runs[0].experience_costs)


def test_a_loss_that_becomes_infinite_while_it_is_replayed_is_found() -> None:
    recipe = Recipe(network="mlp", optimizer="sgd", lr=1e6, batch_size=4, epochs=4)
    with pytest.raises(Divergence, match="the loss became"):
        begun(builtin("naive"), recipe, recorder=Kept()).learn()


def test_a_loss_that_is_no_scalar_is_the_strategys_failure() -> None:
    calls = []

    def late(strategy: Any, batch: Batch) -> Tensor:
        calls.append(1)
        return batch.cross_entropy() if len(calls) <= WARM_UP else batch.logits

    with pytest.raises(PluginError, match="must return a scalar"):
        begun(with_loss(late)(), PLAIN, recorder=Kept()).learn()


def test_what_a_strategy_replaces_between_epochs_is_recorded_again() -> None:
    class Weighted(clbench.Strategy):  # type: ignore[type-arg]
        def frozen(self, model: Any, experience: Any, epoch: int) -> Any:
            self.weights = [torch.tensor(1.0 + epoch)]
            return ()

        def loss(self, batch: Batch) -> Tensor:
            return self.weights[0] * batch.cross_entropy()

    replayed, plain = pair(lambda: Weighted(None), PLAIN)
    assert_same(replayed, plain)
    # Each of the two epochs has 5 batches, of which the last alone can be replayed.
    assert replayed.experience_costs[0].replayed_steps == 2 * (5 - WARM_UP - 1)


def test_replayed_steps_can_be_interrupted() -> None:
    run = begun(builtin("naive"), PLAIN, recorder=Kept())
    account, steps = run.trainer.end_step, []

    def interrupted(loss: Tensor, samples: int) -> None:
        account(loss, samples)
        steps.append(samples)
        if len(steps) == WARM_UP + 2:
            run.trainer.interruption.request(2)

    run.trainer.end_step = interrupted  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        run.learn()
    assert len(steps) == WARM_UP + 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU whose graphs could be recorded")
def test_a_graph_replays_what_was_recorded() -> None:
    recorder, memory = GraphRecorder(), torch.ones(4, device="cuda")
    with recorder.aside() as obstacles:
        memory.mul_(2)
    assert obstacles == []
    replay, result = recorder.record(lambda: memory.mul_(3).sum())
    replay()
    assert memory.tolist() == [6.0] * 4 and float(result) == 24


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU whose graphs could be recorded")
@pytest.mark.parametrize(
    "waiting",
    [
        lambda memory: memory.sum().item(),
        lambda memory: memory.nonzero(),
        lambda memory: memory[memory > 0],
        lambda memory: torch.tensor([1.0], device=memory.device),
    ],
    ids=["item", "nonzero", "mask", "from the host"],
)
def test_what_waits_for_the_gpu_is_an_obstacle_and_other_warnings_are_passed_on(
    waiting: Callable[[Tensor], object],
) -> None:
    recorder, memory = GraphRecorder(), torch.ones(4, device="cuda")
    with pytest.warns(UserWarning, match="of its own") as warned, recorder.aside() as obstacles:
        waiting(memory)
        warnings.warn("of its own", stacklevel=1)
    assert obstacles == ["a step waits for the GPU"] and len(warned) == 1
