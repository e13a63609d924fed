"""Tracked steps: their losses and learning rates are as they were, and training is the same."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_runs import CPU, SmallRun, builtin, colours, same

from clbench import Recipe
from clbench.base.events import Event, StepsTaken
from clbench.training.cuda_graphs import GraphRecorder
from clbench.training.loss_watch import LossWatch

SIZES = (2, 1)
COSINE = Recipe(network="mlp", optimizer="sgd", lr=0.1, batch_size=4, epochs=12, schedule="cosine")


def learned(
    recipe: Recipe, tracked: bool, device: torch.device = CPU, per_class: int = 20, **options: Any
) -> tuple[SmallRun, list[StepsTaken]]:
    """An experience of two classes and one of one class, with the steps that were sent."""
    run = SmallRun(builtin("naive"), recipe, colours(sum(SIZES), per_class), SIZES, device=device, **options)
    events: list[Event] = []
    run.trainer.losses = LossWatch("small", events.append)
    for _ in SIZES:
        if tracked:
            run.trainer.steps_before = sum(costs.gradient_steps for costs in run.experience_costs)
        run.learn(1)
    return run, [event for event in events if isinstance(event, StepsTaken)]


def test_every_step_is_sent_with_its_number_and_the_rate_of_the_schedule() -> None:
    run, sent = learned(COSINE, tracked=True)
    steps = [120, 60]  # 12 epochs of 10 and of 5 batches
    assert [costs.gradient_steps for costs in run.experience_costs] == steps
    for experience, taken in enumerate(steps):
        own = [event for event in sent if event.experience == experience]
        rates = [rate for event in own for rate in event.learning_rates]
        if experience == 0:  # each epoch ends a part
            assert [event.step for event in own] == list(range(10, 121, 10))
        assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * step / taken)) for step in range(taken)])
        for epoch, reached in enumerate(run.experience_costs[experience].epochs):
            losses = [loss for event in own if event.epoch == epoch for loss in event.losses]
            assert math.fsum(losses) / len(losses) == reached.loss
    assert sent[-1].step == sum(steps)


def test_losses_are_read_fifty_at_a_time() -> None:
    recipe = replace(COSINE, epochs=1, batch_size=1)
    _, sent = learned(recipe, tracked=True, per_class=60)
    assert [len(event.losses) for event in sent] == [50, 50, 20, 50, 10]


@pytest.mark.slow
def test_what_is_tracked_is_trained_as_what_is_not() -> None:
    tracked, sent = learned(COSINE, tracked=True)
    plain, nothing = learned(COSINE, tracked=False)
    assert sent and not nothing
    assert all(same(one, other) for one, other in zip(tracked.models, plain.models, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU to train on")
def test_on_a_gpu_tracked_steps_are_replayed_like_others_and_their_rates_are_those_of_the_schedule() -> None:
    gpu = torch.device("cuda")
    tracked, sent = learned(COSINE, True, gpu, recorder=GraphRecorder())
    plain, _ = learned(COSINE, False, gpu, recorder=GraphRecorder())
    replayed = [[costs.replayed_steps for costs in run.experience_costs] for run in (tracked, plain)]
    assert replayed[0] == replayed[1] and all(replayed[0])
    assert all(same(one, other) for one, other in zip(tracked.models, plain.models, strict=True))
    rates = [rate for event in sent if event.experience == 0 for rate in event.learning_rates]
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 120)) for step in range(120)], abs=1e-6)
