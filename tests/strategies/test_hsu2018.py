"""Recipe hsu2018, task-incrementally, next to a transcription of its code: a head per task, and one Adam for all.

GT-RIPL/Continual-Learning-Benchmark at d78b997: agents/default.py, lines 31 to 44 (one optimizer over all parameters),
68 to 80 (a linear layer for each task) and 140 to 167 (the loss of each task's own head, and the step);
agents/regularization.py, classes L2 (the penalty over all parameters), EWC, SI and MAS; agents/customization.py,
EWC_mnist and EWC_online_mnist (its samples one by one). Its README names torch
1.0.1, in which `zero_grad` leaves gradients of 0, not none.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_runs import SmallRun, builtin, colours, same, strategy_class
from torch import Tensor, nn

import clbench
from clbench.base.experience import Experience
from clbench.base.recipe import Recipe
from clbench.networks.network import Network
from clbench.training.head_rows import prepare_head

SIZES = (2, 3, 2)
RECIPE = Recipe(
    network="mlp",
    optimizer="adam",
    optimizer_state="carried",
    lr=1e-3,
    batch_size=16,
    epochs=4,
    head="fixed",
    head_parameters="per_experience",
)


class Theirs:
    """Their agent: NormalNN, or L2, EWC, online EWC, SI or MAS by `method`."""

    def __init__(self, network: Network, method: str, coefficient: float) -> None:
        self.trunk, rows = copy.deepcopy(network.blocks), network.head
        self.heads = nn.ModuleList(nn.Linear(network.head.features, size) for size in SIZES)
        weights, biases = rows.weight.detach().split(SIZES), rows.bias.detach().split(SIZES)
        for head, weight, bias in zip(self.heads, weights, biases, strict=True):
            head.weight.data, head.bias.data = weight.clone(), bias.clone()
        self.parameters = [*self.trunk.parameters(), *self.heads.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=1e-3)
        self.method, self.coefficient = method, coefficient
        self.terms: list[tuple[list[Tensor], list[Tensor]]] = []
        self.path = [torch.zeros_like(p) for p in self.parameters]
        self.before = [p.detach().clone() for p in self.parameters]

    def logits(self, x: Tensor, task: int) -> Tensor:
        outputs = [head(self.trunk(x)) for head in self.heads]
        return outputs[task]

    def classification(self, x: Tensor, y: Tensor, task: int) -> Tensor:
        return F.cross_entropy(self.logits(x, task), y - sum(SIZES[:task]))

    def step(self, x: Tensor, y: Tensor, task: int) -> None:
        old = [p.detach().clone() for p in self.parameters]
        self.optimizer.zero_grad(set_to_none=False)
        loss = self.classification(x, y, task)
        loss.backward(retain_graph=True)
        gradients = [None if p.grad is None else p.grad.clone() for p in self.parameters]
        for importance, anchor in self.terms:
            weighted = [(f * (p - a) ** 2).sum() for p, a, f in zip(self.parameters, anchor, importance, strict=True)]
            loss = loss + self.coefficient * torch.stack(weighted).sum()
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        self.optimizer.step()
        for path, gradient, p, start in zip(self.path, gradients, self.parameters, old, strict=True):
            if gradient is not None:
                path -= gradient * (p.detach() - start)

    def end_task(self, x: Tensor, task: int) -> None:
        now = [p.detach().clone() for p in self.parameters]
        if self.method == "naive":
            return
        if self.method == "ewc":
            self.terms.append((self.fisher(x, task), now))
            return
        importance = [torch.ones_like(p) for p in now]
        earlier = self.terms[0][0] if self.terms else [torch.zeros_like(p) for p in now]
        if self.method == "ewc-online":
            importance = [f + more for f, more in zip(earlier, self.fisher(x, task), strict=True)]
        if self.method == "mas":  # their loader's batches of 128, of which these small tasks fill one
            sizes = torch.autograd.grad(self.logits(x, task).square().mean(), self.parameters, allow_unused=True)
            importance = [f if g is None else f + g.abs() for f, g in zip(earlier, sizes, strict=True)]
        if self.method == "si":
            importance = [
                f + path / ((p - before) ** 2 + 0.1)
                for f, path, p, before in zip(earlier, self.path, now, self.before, strict=True)
            ]
            self.path, self.before = [torch.zeros_like(p) for p in now], now
        self.terms = [(importance, now)]

    def fisher(self, x: Tensor, task: int) -> list[Tensor]:
        fisher = [torch.zeros_like(p) for p in self.parameters]
        for one in x.split(1):
            logits = self.logits(one, task)
            loss = F.cross_entropy(logits, logits.argmax(dim=1))
            gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
            for total, gradient in zip(fisher, gradients, strict=True):
                if gradient is not None:
                    total += gradient**2 / len(x)
        return fisher


def as_published(name: str, preset_name: str = "hsu2018") -> Any:
    """A strategy with its preset hsu2018, if it has one."""
    preset = strategy_class(name).presets.get(preset_name, {"set": {}})
    return builtin(name, **{**preset["set"], **preset.get("in_setting", {}).get("task_incremental", {})})


def task_incremental(strategy: Any, recipe: Recipe = RECIPE) -> SmallRun:
    run = SmallRun(strategy, recipe, colours(classes=7), SIZES, setting="task_incremental")
    strategy.start(run.trainer.model)
    return run


def recorded(run: SmallRun) -> list[tuple[Tensor, Tensor, int]]:
    """The batches that a run will train on, and the task of each."""
    batches: list[tuple[Tensor, Tensor, int]] = []
    loss_of = run.trainer.loss

    def loss(batch: clbench.Batch) -> Tensor:
        batches.append((batch.x.clone(), batch.y.clone(), batch.experience.index))
        return loss_of(batch)

    run.trainer.loss = loss  # type: ignore[method-assign]
    return batches


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "preset", "method"),
    [
        ("naive", "hsu2018", "naive"),
        ("l2", "hsu2018", "l2"),
        ("ewc_dialects", "hsu2018", "ewc"),
        ("ewc_dialects", "hsu2018-online", "ewc-online"),
        ("si", "hsu2018", "si"),
        ("mas", "hsu2018", "mas"),
    ],
)
def test_the_weights_are_those_of_a_network_with_a_head_for_each_task(name: str, preset: str, method: str) -> None:
    strategy = as_published(name, preset)
    run = task_incremental(strategy)
    batches = recorded(run)
    start = run.new_model()
    prepare_head(start, RECIPE, Experience(0, SIZES, "task_incremental"), run.seeds["model"])
    run.learn()
    theirs = Theirs(start, method, getattr(strategy.config, "strength", 0.0))
    for task in range(len(SIZES)):
        for x, y, index in batches:
            if index == task:
                theirs.step(x, y, task)
        theirs.end_task(run.data.scaled(torch.tensor(run.rows(task))), task)
        ours = [*run.models[task].blocks.parameters(), *run.models[task].head.parameters()]
        for mine, other in zip(ours, theirs.parameters, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=5e-6)


def test_a_head_with_a_layer_for_each_experience_starts_with_the_rows_of_one_in_a_layer() -> None:
    networks = [task_incremental(builtin("naive")).new_model() for _ in range(2)]
    for network, recipe in zip(networks, (RECIPE, replace(RECIPE, head_parameters="shared")), strict=True):
        prepare_head(network, recipe, Experience(0, SIZES, "task_incremental"), seed=1)
    x = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(networks[0](x), networks[1](x))
    assert [layer.out_features for layer in networks[0].head.old.layers] == list(SIZES)  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_resumed_run_ends_as_an_uninterrupted_one() -> None:
    whole = task_incremental(builtin("naive")).learn()
    first = task_incremental(builtin("naive")).learn(1)
    resumed = task_incremental(first.trainer.strategy)
    resumed.trainer.model = copy.deepcopy(first.trainer.model)
    resumed.trainer.optimizer_state = copy.deepcopy(first.trainer.optimizer_state)
    for index in (1, 2):
        resumed.trainer.learn(index)
    assert same(resumed.trainer.model, whole.models[2])


def test_rehearsed_exemplars_are_trained_by_the_loss_of_their_own_task() -> None:
    """agents/exp_replay.py, lines 19 to 38, and default.py, lines 140 to 152: the memory is part of the data."""
    strategy = builtin("er_dialects", memory=14)
    run = task_incremental(strategy)
    found: list[tuple[Tensor, Tensor]] = []
    loss_of = run.trainer.loss

    def loss(batch: clbench.Batch) -> Tensor:
        ours = loss_of(batch)
        per_task = []
        for task, logits in enumerate(batch.logits.split(SIZES, dim=1)):
            first = sum(SIZES[:task])
            own = (batch.y >= first) & (batch.y < first + SIZES[task])
            if own.any():
                per_task.append(F.cross_entropy(logits[own], batch.y[own] - first, reduction="sum"))
        found.append((ours.detach(), torch.stack(per_task).sum().detach() / len(batch.y)))
        return ours

    run.trainer.loss = loss  # type: ignore[method-assign]
    run.learn()
    for ours, theirs in found:
        torch.testing.assert_close(ours, theirs)
    assert strategy.exemplars.values["experience"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
