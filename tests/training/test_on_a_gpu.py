"""Training on a GPU: replayed graphs and single operations give the same bits, and nearly the numbers of a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small_runs import CPU, SmallRun, builtin, colours, same
from torch import Tensor

import clbench
from clbench import Augmentation, Batch, Recipe
from clbench.system.randomness import random_state
from clbench.training.cuda_graphs import WARM_UP, GraphRecorder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU to train on"),
]

GPU = torch.device("cuda")
SIZES = (2, 1, 2)  # of 20 samples a class: 40, 20 and 40 samples
PLAIN = Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=8, epochs=2)
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
LOWER = Recipe(network="resnet32", optimizer="sgd", lr=1e-4, batch_size=8, epochs=2, precision="bfloat16")
RECIPES = {"plain": PLAIN, "rough": ROUGH, "lower": LOWER}

REPLAYED = ("naive", "l2", "ewc", "mas", "frozen", "lwf", "lwf_mc", "joint", "icarl", "bic")
WITHIN = ("er", "er_ace", "derpp", "si", "agem")


@pytest.fixture(autouse=True)
def same_sums_every_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only kernels that give the same sums every time, as in a run."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def learned(strategy: Any, recipe: Recipe, replayed: bool, device: torch.device = GPU) -> SmallRun:
    recorder = GraphRecorder() if replayed else None
    run = SmallRun(strategy, recipe, colours(sum(SIZES)), SIZES, recorder=recorder, device=device)
    strategy.start(run.trainer.model)
    return run.learn()


def assert_same(one: SmallRun, other: SmallRun) -> None:
    assert all(same(ours, theirs) for ours, theirs in zip(one.models, other.models, strict=True))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("name", REPLAYED)
def test_a_replayed_graph_gives_the_numbers_of_one_operation_after_another(name: str, recipe: Recipe) -> None:
    replayed, plain = (learned(builtin(name), recipe, each) for each in (True, False))
    assert [costs.not_replayed for costs in replayed.experience_costs] == [None] * 3
    assert all(costs.replayed_steps for costs in replayed.experience_costs if costs.gradient_steps > 2 * WARM_UP + 4)
    assert_same(replayed, plain)


@pytest.mark.parametrize("name", WITHIN)
def test_strategies_that_act_within_a_step_are_trained_without_graphs(name: str) -> None:
    replayed, plain = (learned(builtin(name), ROUGH, each) for each in (True, False))
    assert_same(replayed, plain)
    assert replayed.experience_costs[1].not_replayed is not None


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adagrad", "rmsprop"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_every_optimizer_takes_a_cpus_steps_replayed_or_not(optimizer: Any, schedule: Any) -> None:
    recipe = Recipe(network="mlp", optimizer=optimizer, lr=1e-3, schedule=schedule, batch_size=8, epochs=2)
    replayed, plain = (learned(builtin("naive"), recipe, each) for each in (True, False))
    on_cpu = learned(builtin("naive"), recipe, False, CPU)
    assert_same(replayed, plain)
    for ours, theirs in zip(plain.models, on_cpu.models, strict=True):
        for name, value in ours.state_dict().items():
            torch.testing.assert_close(value.cpu(), theirs.state_dict()[name], rtol=1e-3, atol=1e-4)


class Reading(clbench.Strategy):  # type: ignore[type-arg]
    """Waits for the device in every step, which a graph cannot do."""

    def loss(self, batch: Batch) -> Tensor:
        loss = batch.cross_entropy()
        return loss * 2 if loss.item() > 0.5 else loss


def test_if_a_graph_cannot_be_captured_training_goes_on_and_so_do_random_numbers() -> None:
    replayed, plain = (learned(Reading(None), PLAIN, each) for each in (True, False))
    assert_same(replayed, plain)
    assert [costs.not_replayed for costs in replayed.experience_costs] == ["a step waits for the GPU"] * 3
    assert not any(costs.replayed_steps for costs in replayed.experience_costs)
    random_state()
    torch.manual_seed(3)
    drawn = torch.rand(4, device="cuda")
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(4, device="cuda"))
    assert_same(learned(builtin("naive"), PLAIN, True), learned(builtin("naive"), PLAIN, False))


class Dropping(clbench.Strategy):  # type: ignore[type-arg]
    """Draws random numbers on the GPU in every step."""

    def loss(self, batch: Batch) -> Tensor:
        return batch.cross_entropy() * torch.rand((), device=batch.x.device)


def test_a_step_that_draws_random_numbers_on_the_gpu_is_not_captured() -> None:
    replayed, plain = (learned(Dropping(None), PLAIN, each) for each in (True, False))
    assert_same(replayed, plain)
    assert replayed.experience_costs[0].not_replayed == "a step draws random numbers"


@pytest.mark.parametrize("name", [*REPLAYED, *WITHIN, "slda", "gdumb"])
def test_a_gpu_learns_what_a_cpu_learns(name: str) -> None:
    on_gpu, on_cpu = (learned(builtin(name), PLAIN, False, device) for device in (GPU, CPU))
    ours, theirs = on_gpu.models[0], on_cpu.models[0]
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(value.cpu(), theirs.state_dict()[key], rtol=1e-3, atol=1e-4)
