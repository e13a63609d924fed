"""Learning rates that differ between parts of the network, and a strategy's own modules that train with it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SmallRun, colours, same
from torch import Tensor, nn

import clbench
from clbench.base.batch import Batch
from clbench.base.config import NoConfig
from clbench.base.experience import Experience
from clbench.base.recipe import Recipe
from clbench.base.strategy import Strategy
from clbench.checks import strategy_contract
from clbench.checks.check import perform
from clbench.checks.small_scenario import Bench
from clbench.errors import PluginError
from clbench.networks.network import Network
from clbench.plugins.discovery import describe
from clbench.training.optimizers import build_optimizer, parameter_groups, rate_of, set_rate

SIZES = (2, 1, 2)
SGD = Recipe(network="mlp", optimizer="sgd", lr=0.1, batch_size=16, epochs=2)
CARRIED: dict[str, Any] = {
    "network": "mlp",
    "momentum": 0.9,
    "lr": 0.01,
    "batch_size": 16,
    "head": "fixed",
    "optimizer_state": "carried",
}


class Plain(Strategy[NoConfig]):
    """Fine-tuning with its own hooks."""

    factors: Mapping[str, float] = {}

    def rate_factors(self, experience: Experience) -> Mapping[str, float]:
        return self.factors

    def loss(self, batch: Batch) -> Tensor:
        return batch.cross_entropy()


class Adapted(Plain):
    """A module of its own, made before the first experience, changes the logits; its dropout shows its mode."""

    def before_experience(self, model: Network, experience: Experience) -> None:
        if experience.index == 0:
            with torch.random.fork_rng():
                self.adapter = nn.Sequential(nn.Linear(4, 1), nn.Dropout(0.5))
        self.modes: list[bool] = []

    def trained_modules(self) -> Sequence[nn.Module]:
        return (self.adapter,)

    def loss(self, batch: Batch) -> Tensor:
        self.modes.append(self.adapter.training)
        means = batch.x.flatten(1)[:, :4]
        return nn.functional.cross_entropy(batch.logits * (1 + self.adapter(means)), batch.y)


def run_of(strategy: Strategy[Any], recipe: Recipe = SGD, **more: Any) -> SmallRun:
    return SmallRun(strategy, recipe, colours(), SIZES, **more)


def change(one: nn.Module, other: nn.Module) -> list[Tensor]:
    return [b.detach() - a.detach() for a, b in zip(one.parameters(), other.parameters(), strict=True)]


# -- rates ------------------------------------------------------------------------------------------------------------


def test_a_factor_multiplies_the_step_of_its_part_alone() -> None:
    recipe = Recipe(**{**vars(SGD), "iterations": 1})
    slower = Plain(NoConfig())
    slower.factors = {"trunk": 0.25}
    usual, slow = (run_of(strategy, recipe).learn(1) for strategy in (Plain(NoConfig()), slower))
    before = usual.new_model().blocks
    steps = (change(before, run.models[0].blocks) for run in (usual, slow))
    for whole, quarter in zip(*steps, strict=True):
        torch.testing.assert_close(quarter, 0.25 * whole, rtol=1e-3, atol=1e-7)
        assert whole.abs().max() > 1e-4
    assert same(usual.models[0].head, slow.models[0].head)


def test_factors_of_1_train_the_network_as_without_any_to_the_byte() -> None:
    equal = Plain(NoConfig())
    equal.factors = {"trunk": 1.0, "head": 1.0}
    one, other = (run_of(strategy).learn() for strategy in (Plain(NoConfig()), equal))
    assert same(one.models[-1], other.models[-1])


def test_without_factors_there_is_one_group_with_the_networks_parameters_in_their_order() -> None:
    model = run_of(Plain(NoConfig())).learn(1).models[0]
    (group,) = parameter_groups(model, [], {})
    assert [id(each) for each in group["params"]] == [id(each) for each in model.parameters()]
    assert list(group) == ["params"]


def test_every_rate_of_a_schedule_is_multiplied_and_the_recipes_own_is_reported() -> None:
    model = run_of(Plain(NoConfig())).learn(1).models[0]
    module = nn.Linear(2, 2)
    groups = parameter_groups(model, [module], {"trunk": 0.5, "modules": 10.0})
    optimizer = build_optimizer(SGD, groups, 0.0, None)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.1, 1.0])
    set_rate(optimizer, 0.02)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.02, 0.2])
    assert rate_of(optimizer) == pytest.approx(0.02)


@pytest.mark.parametrize("factors", [{"body": 0.1}, {"trunk": 0.0}, {"head": -1.0}, {"trunk": float("nan")}])
def test_a_part_that_does_not_exist_or_a_factor_that_is_not_above_0_is_an_error(factors: dict[str, float]) -> None:
    strategy = Plain(NoConfig())
    strategy.factors = factors
    with pytest.raises(PluginError, match=next(iter(factors))):
        run_of(strategy).learn(1)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad"])
def test_a_state_that_is_carried_on_stays_with_its_parameter_whatever_the_groups(optimizer: str) -> None:
    class Changing(Plain):
        def rate_factors(self, experience: Experience) -> Mapping[str, float]:
            return {"trunk": 0.5} if experience.index == 1 else {}

    recipe = Recipe(**CARRIED, optimizer=optimizer)
    run = run_of(Changing(NoConfig()), recipe)
    run.learn(1)
    before = {id(p): copy.deepcopy(state) for p, state in run.trainer.optimizer.state.items()}
    began: dict[int, dict[str, Any]] = {}
    learned = run.trainer._train

    def train() -> None:
        began.update((id(p), copy.deepcopy(state)) for p, state in run.trainer.optimizer.state.items())
        learned()

    run.trainer._train = train
    run.learn(1)
    assert len(run.trainer.optimizer.param_groups) == 2 and len(began) == len(before)
    for name, state in before.items():
        assert all(torch.equal(torch.as_tensor(began[name][key]), torch.as_tensor(state[key])) for key in state)


# -- modules ----------------------------------------------------------------------------------------------------------


def test_a_module_of_the_strategys_own_trains_in_training_mode_and_is_left_in_evaluation_mode() -> None:
    strategy = Adapted(NoConfig())
    run = run_of(strategy)
    run.learn(1)
    first = copy.deepcopy(strategy.adapter)
    assert all(strategy.modes) and not strategy.adapter.training
    assert all(parameter.grad is None for parameter in strategy.adapter.parameters())
    run.learn(1)
    assert all(float(step.abs().max()) > 0 for step in change(first, strategy.adapter))


def test_the_optimizer_of_a_module_is_the_recipes() -> None:
    steps: list[tuple[Tensor, Tensor]] = []

    class Watched(Adapted):
        def before_step(self, batch: Batch) -> None:
            self.before = self.adapter[0].weight.detach().clone()

        def after_step(self, batch: Batch) -> None:
            weight = self.adapter[0].weight
            steps.append((weight.detach() - self.before, weight.grad + 0.01 * self.before))

    strategy = Watched(NoConfig())
    strategy.factors = {"modules": 3.0}
    run_of(strategy, Recipe(**{**vars(SGD), "weight_decay": 0.01})).learn(1)
    for step, gradient in steps:
        torch.testing.assert_close(step, -0.1 * 3 * gradient, rtol=1e-3, atol=1e-6)


def test_gradients_are_clipped_by_their_norm_over_network_and_modules_together() -> None:
    norms: list[float] = []

    class Watched(Adapted):
        def after_step(self, batch: Batch) -> None:
            every = [*batch.model.parameters(), *self.adapter.parameters()]
            assert self.adapter[0].weight.grad.abs().sum() > 0
            norms.append(float(torch.stack([each.grad.norm() for each in every]).norm()))

    run_of(Watched(NoConfig()), Recipe(**{**vars(SGD), "clip_norm": 0.1})).learn(1)
    assert norms == pytest.approx([0.1] * len(norms), rel=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad", "rmsprop"])
def test_a_module_that_is_new_joins_an_optimizer_whose_state_is_carried_on(optimizer: str) -> None:
    class Later(Adapted):
        def before_experience(self, model: Network, experience: Experience) -> None:
            self.late = experience.index == 1
            if self.late:
                self.adapter = nn.Sequential(nn.Linear(4, 1), nn.Dropout(0.5))
                self.first = copy.deepcopy(self.adapter)

        def trained_modules(self) -> Sequence[nn.Module]:
            return (self.adapter,) if self.late else ()

        def loss(self, batch: Batch) -> Tensor:
            scale = 1 + self.adapter(batch.x.flatten(1)[:, :4]) if self.late else 1
            return nn.functional.cross_entropy(batch.logits * scale, batch.y)

    recipe = Recipe(**CARRIED, optimizer=optimizer)
    strategy = Later(NoConfig())
    run_of(strategy, recipe).learn(2)
    assert all(float(step.abs().max()) > 0 for step in change(strategy.first, strategy.adapter))


def test_the_plateau_schedule_restores_the_modules_with_the_network() -> None:
    class Growing(Adapted):
        def loss(self, batch: Batch) -> Tensor:
            # Its validation loss is lowest after the first epoch, and then only rises.
            if not self.adapter.training:
                self.validated += 1
                self.kept = self.kept or copy.deepcopy(self.adapter.state_dict())
                return batch.logits.sum() * 0 + self.validated
            return super().loss(batch)

        def before_experience(self, model: Network, experience: Experience) -> None:
            super().before_experience(model, experience)
            self.validated, self.kept = 0.0, {}

    recipe = Recipe(**{**vars(SGD), "schedule": "plateau", "validation": 0.2, "epochs": 4})
    strategy = Growing(NoConfig())
    run_of(strategy, recipe).learn(1)
    assert all(torch.equal(strategy.adapter.state_dict()[name], value) for name, value in strategy.kept.items())


FILE = '''"""Twin: a second network, which is trained with the first.

    L = CE(softmax(o + o_twin), y)

Source: the tests.
Variant: none.
"""

import copy

import clbench


class Twin(clbench.Strategy):
    def start(self, model):
        self.twin = None

    def before_experience(self, model, experience):
        if experience.index == 0:
            self.twin = copy.deepcopy(model)
        else:
            self.twin.head = copy.deepcopy(model.head)

    def trained_modules(self):
        return (self.twin,)

    def rate_factors(self, experience):
        return {"trunk": 0.5, "modules": 0.5}

    def loss(self, batch):
        batch.logits = batch.logits + self.twin(batch.x)
        return batch.cross_entropy()

    def predict(self, model, x, experience):
        return model(x) + self.twin(x)
'''


@pytest.mark.slow
@pytest.mark.parametrize(
    "check",
    [
        "trains_a_network_with_batch_normalisation",
        "the_same_seed_gives_the_same_weights",
        "a_killed_run_resumes_bit_identically",
        "frozen_copies_stay_unchanged",
        "evaluation_changes_nothing",
    ],
)
def test_the_contract_holds_for_a_network_of_the_strategys_own_that_trains(check: str, tmp_path: Path) -> None:
    (tmp_path / "twin.py").write_text(FILE)
    result = perform(getattr(strategy_contract, check), Bench(describe("strategy", tmp_path / "twin.py", "path")))
    assert result.status == "passed", f"{result.found}\n{result.fix}"


def test_the_training_data_can_be_read_before_an_experience() -> None:
    read: list[int] = []

    class Reading(Plain):
        def before_experience(self, model: Network, experience: Experience) -> None:
            assert experience.samples is not None
            read.append(sum(len(y) for _, y in experience.samples.batches(7)))

    run = run_of(Reading(NoConfig()))
    run.learn()
    assert read == [len(run.rows(index)) for index in range(3)]


MODES = '''"""Modes: a module of its own, batch normalisation, which must not learn from test images.

    L = CE(softmax(head(BN(φ))), y)

Source: the tests.
Variant: none.
"""

from torch import nn

import clbench
from clbench import losses


class Modes(clbench.Strategy):
    def start(self, model):
        self.norm = nn.BatchNorm1d(model.head.features)

    def trained_modules(self):
        return (self.norm,)

    def loss(self, batch):
        return losses.cross_entropy(batch.model.head(self.norm(batch.features)), batch.y)

    def predict(self, model, x, experience):
        return model.head(self.norm(model.blocks(x)))
'''


@pytest.mark.slow
def test_an_evaluation_within_an_experience_leaves_the_strategys_own_modules_as_they_were(
    tmp_path: Path, data: Path
) -> None:
    (tmp_path / "modes.py").write_text(MODES)
    found = []
    for every in (0, 10):
        values = {"recipe.drop_last": True, "stream.evaluate_every": every}
        out = tmp_path / str(every)
        (run,) = clbench.run(
            tmp_path / "modes.py", "splitdigits", stream="online", set=values, seeds=1, out=out, data=data
        )
        found.append((run.result.audit, run.result.counts))
    assert found[0] == found[1]
