"""The engine and whole runs: the same numbers again, in a new process or after an interruption, and the costs."""

from __future__ import annotations

import gc
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import SmallRun, builtin, colours, configured, digits, same, strategy_class
from torch import Tensor, nn

import clbench
from clbench import Augmentation, Batch, Experience, Recipe
from clbench.audit.object_graph import carried_bytes, contents_sha256, weights_sha256
from clbench.base.events import Event, ExperienceFinished
from clbench.errors import Divergence, PluginError
from clbench.plugins.networks import build
from clbench.results.store import ResultsFolder
from clbench.runs.context import RunContext
from clbench.runs.planned_runs import Planned, plan
from clbench.runs.request import Request
from clbench.runs.run import execute
from clbench.system.seeds import derive
from clbench.system.signals import Interrupted, Interruption

STRATEGIES = ("naive", "l2", "frozen", "lwf", "joint")
SIZES = (2, 1, 2)  # of 20 samples a class: 40, 20 and 40 samples
ORDER = (3, 0, 4, 1, 2)
SGD = Recipe(network="mlp", optimizer="sgd", lr=0.1, batch_size=16, epochs=3)
ROUGH = Recipe(
    network="cnn",
    optimizer="sgd",
    lr=0.05,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="cosine",
    batch_size=16,
    epochs=2,
    augmentation=Augmentation(crop=1, flip=True, brightness=0.2),
)
MLP_ROWS, MLP_TRUNK = 400 + 1, (192 + 1) * 400 + (400 + 1) * 400  # 8x8x3 pixels, two layers of 400


def small(strategy: Any, recipe: Recipe = SGD, sizes: tuple[int, ...] = SIZES, **options: Any) -> SmallRun:
    return SmallRun(strategy, recipe, colours(), sizes, **options)


def naive_with(loss: Callable[[Batch], Tensor | float]) -> Any:
    """A strategy with this loss."""

    class Given(clbench.Strategy):  # type: ignore[type-arg]
        def loss(self, batch: Batch) -> Tensor:
            return loss(batch)  # type: ignore[return-value]

    return Given(None)


def cross_entropy(batch: Batch) -> Tensor:
    return torch.nn.functional.cross_entropy(batch.logits, batch.y)


# What a strategy sees


class Journal:
    """What passed through a strategy's hooks."""

    def __init__(self) -> None:
        self.hooks: list[str] = []
        self.batches: list[tuple[int, list[int], Tensor, Tensor]] = []
        """Experience, rows, images and labels of every batch."""
        self.shown: list[Tensor] = []
        """Images given to `teacher_output`."""
        self.beginnings: list[tuple[str, bytes]] = []
        """Hash of the weights, and the head's new rows, before each experience."""


def journaling(name: str, journal: Journal, **config: Any) -> Any:
    """The built-in strategy, recording what it is given."""
    cls = strategy_class(name)

    class Spy(cls):  # type: ignore[misc, valid-type]
        """In experience 0 its own hooks do what the harness would do with its first_loss."""

        def first_loss(self) -> None:
            return None

        def teacher_output(self, model: nn.Module, x: Tensor, experience: Experience) -> Tensor:
            assert not model.training
            journal.hooks.append("teacher_output")
            journal.shown.append(x)
            return super().teacher_output(model, x, experience) if name == "lwf" else model(x)

        def before_experience(self, model: clbench.Network, experience: Experience) -> None:
            assert model.head.classes == experience.seen_classes
            journal.hooks.append("before_experience")
            journal.beginnings.append((weights_sha256(model), model.head.new.weight.detach().numpy().tobytes()))
            if experience.index:
                super().before_experience(model, experience)

        def frozen(self, model: clbench.Network, experience: Experience, epoch: int) -> Any:
            journal.hooks.append(f"frozen {epoch}")
            return super().frozen(model, experience, epoch) if experience.index else ()

        def loss(self, batch: Batch) -> Tensor:
            journal.hooks.append("loss")
            journal.batches.append((batch.experience.index, batch.index.tolist(), batch.x, batch.y))
            value: Tensor = super().loss(batch) if batch.experience.index else batch.cross_entropy()
            return value

        def after_experience(self, model: clbench.Network, experience: Experience) -> None:
            journal.hooks.append("after_experience")
            super().after_experience(model, experience)

    return configured(Spy, **config)


def journal_of(name: str, recipe: Recipe = SGD, seed: int = 0, **config: Any) -> Journal:
    journal = Journal()
    small(journaling(name, journal, **config), recipe, order=ORDER, seed=seed).learn()
    return journal


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(crop=1)])
def test_the_hooks_are_called_in_the_documented_order(augmentation: Augmentation) -> None:
    recipe = Recipe(network="mlp", batch_size=16, epochs=2, augmentation=augmentation)
    losses = {40: 3, 20: 2}  # batches per epoch
    expected = []
    for samples in (40, 20, 40):
        first = samples == 40 and not expected
        once, each = (["teacher_output"], ["loss"]) if not augmentation.active else ([], ["teacher_output", "loss"])
        expected += ([] if first else once) + ["before_experience"]
        for epoch in range(2):
            expected += [f"frozen {epoch}", *(["loss"] if first else each) * losses[samples]]
        expected += ["after_experience"]
    assert journal_of("naive", recipe).hooks == expected


@pytest.mark.parametrize("name", ["naive", "l2", "frozen", "lwf"])
def test_a_strategy_sees_the_current_experiences_samples_and_no_others(name: str) -> None:
    run, journal = small(builtin("naive"), order=ORDER), journal_of(name)
    for index in range(3):
        own = run.rows(index)
        served = [row for experience, rows, _, _ in journal.batches if experience == index for row in rows]
        assert sorted(served) == sorted(own * 3)  # each once in each of three epochs
    shown = torch.cat(journal.shown)
    expected = run.scaling(run.images.read(torch.tensor(sorted(run.rows(1)) + sorted(run.rows(2)))))
    assert torch.equal(shown, expected)


def test_labels_are_positions_in_the_class_order() -> None:
    samples = colours()
    for _, rows, _, y in journal_of("naive").batches:
        assert y.tolist() == [ORDER.index(class_id) for class_id in samples.y[rows]]


@pytest.mark.slow
def test_batches_order_images_and_initial_weights_do_not_depend_on_the_strategy() -> None:
    journals = {name: journal_of(name, ROUGH) for name in STRATEGIES}
    naive = journals["naive"]
    for name in ("l2", "lwf", "frozen"):
        other = journals[name]
        assert [batch[:2] for batch in other.batches] == [batch[:2] for batch in naive.batches]
        assert all(torch.equal(a[2], b[2]) for a, b in zip(other.batches, naive.batches, strict=True))
        assert [rows for _, rows in other.beginnings] == [rows for _, rows in naive.beginnings]
    assert len({journal.beginnings[0] for journal in journals.values()}) == 1
    first = {name: [batch[1] for batch in journal.batches if batch[0] == 0] for name, journal in journals.items()}
    assert all(batches == first["naive"] for batches in first.values())


def test_a_strategy_that_draws_random_numbers_does_not_shift_the_batches() -> None:
    rows: dict[bool, list[list[int]]] = {True: [], False: []}

    def loss(batch: Batch, draw: bool) -> Tensor:
        rows[draw].append(batch.index.tolist())
        return cross_entropy(batch) + (0 * torch.rand(()) if draw else 0)

    runs = [small(naive_with(lambda batch, draw=draw: loss(batch, draw)), ROUGH).learn() for draw in (True, False)]  # type: ignore[misc]
    assert rows[True] == rows[False]
    assert same(runs[0].models[-1], runs[1].models[-1])


def test_seeds_change_the_order_and_the_initial_weights() -> None:
    one, other = journal_of("naive"), journal_of("naive", seed=1)
    assert one.batches[0][1] != other.batches[0][1]
    assert one.beginnings[0] != other.beginnings[0]
    epoch = 3  # batches of experience 0
    assert one.batches[0][1] != one.batches[epoch][1]


def test_experiences_of_equal_size_have_orders_of_their_own() -> None:
    served: dict[int, list[int]] = {0: [], 1: []}

    def loss(batch: Batch) -> Tensor:
        own = run.rows(batch.experience.index)
        served[batch.experience.index] += [own.index(row) for row in batch.index.tolist()]
        return cross_entropy(batch)

    run = SmallRun(naive_with(loss), SGD, colours(4), (2, 2))
    run.learn()
    assert served[0] != served[1]


@pytest.mark.slow
def test_initial_weights_are_those_of_the_model_seed() -> None:
    run = small(builtin("naive"), ROUGH)
    expected = build("cnn", (8, 8, 3), run.seeds["model"])
    expected.head.grow(2, derive(run.seeds["model"], "head", 0))
    journal = Journal()
    small(journaling("naive", journal), ROUGH).learn(1)
    assert journal.beginnings[0][0] == weights_sha256(expected)


def test_losses_are_computed_in_float32_where_the_network_computes_in_bfloat16() -> None:
    kinds: set[tuple[torch.dtype, bool]] = set()

    def loss(batch: Batch) -> Tensor:
        with torch.no_grad():
            exact = batch.model(batch.x)
        kinds.add((batch.logits.dtype, torch.equal(batch.logits, exact)))
        return cross_entropy(batch)

    small(naive_with(loss), Recipe(network="mlp", precision="bfloat16")).learn()
    assert kinds == {(torch.float32, False)}


# The optimizer


def test_gradient_steps_and_samples_seen_are_counted() -> None:
    """40, 20 and 40 samples in batches of 16, three epochs: 3, 2 and 3 steps per epoch."""
    experience_costs = small(builtin("naive")).learn().experience_costs
    assert [costs.gradient_steps for costs in experience_costs] == [9, 6, 9]
    assert [costs.samples_seen for costs in experience_costs] == [120, 60, 120]
    experience_costs = small(builtin("joint")).learn().experience_costs  # 40, 60 and 100 samples
    assert [costs.gradient_steps for costs in experience_costs] == [9, 12, 21]
    assert [costs.samples_seen for costs in experience_costs] == [120, 180, 300]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_cosine_schedule_is_half_a_cosine_over_each_experience(optimizer: str) -> None:
    rates: list[float] = []

    def loss(batch: Batch) -> Tensor:
        rates.extend(group["lr"] for group in run.trainer.optimizer.param_groups)
        return cross_entropy(batch)

    recipe = Recipe(**{**vars(SGD), "schedule": "cosine", "lr": 0.2, "optimizer": optimizer})  # type: ignore[arg-type]
    run = small(naive_with(loss), recipe)
    run.learn()
    steps = [(step, total) for total in (9, 6, 9) for step in range(total)]
    assert rates == pytest.approx([0.1 * (1 + math.cos(math.pi * step / total)) for step, total in steps], rel=1e-12)


def test_the_constant_schedule_keeps_the_rate() -> None:
    rates: set[float] = set()

    def loss(batch: Batch) -> Tensor:
        rates.update(group["lr"] for group in run.trainer.optimizer.param_groups)
        return cross_entropy(batch)

    run = small(naive_with(loss))
    run.learn()
    assert rates == {0.1}


def test_one_step_of_sgd_is_the_rate_times_the_gradient() -> None:
    run = small(naive_with(lambda batch: 3 * batch.model.head.bias.sum()), Recipe(lr=0.1, batch_size=1000), (5,))
    bias = []
    run.trainer.strategy.before_experience = lambda model, experience: bias.append(model.head.bias.detach().clone())
    run.learn()
    torch.testing.assert_close(run.models[0].head.bias, bias[0] - 0.3)


@pytest.mark.parametrize(("recipe_decay", "own"), [(0.5, 0.0), (0.0, 0.25), (0.5, 0.25)])
def test_the_strategys_weight_decay_is_added_to_the_recipes(recipe_decay: float, own: float) -> None:
    """Without another gradient, a step multiplies every weight by 1 - lr (λ + λ_own)."""
    before: list[dict[str, Tensor]] = []

    class Decaying(clbench.Strategy):  # type: ignore[type-arg]
        def weight_decay(self, experience: Experience) -> float:
            return own

        def before_experience(self, model: clbench.Network, experience: Experience) -> None:
            before.append({name: w.detach().clone() for name, w in model.named_parameters()})

        def loss(self, batch: Batch) -> Tensor:
            return 0 * batch.logits.sum()

    recipe = Recipe(network="mlp", lr=0.1, weight_decay=recipe_decay, batch_size=1000)
    run = small(Decaying(None), recipe, (5,)).learn()
    for name, w in run.models[0].named_parameters():
        torch.testing.assert_close(w.detach(), before[0][name] * (1 - 0.1 * (recipe_decay + own)))


def test_each_epoch_records_its_mean_loss_and_its_last_learning_rate() -> None:
    class Counting(clbench.Strategy[Any]):
        steps = 0

        def loss(self, batch: Batch) -> Any:
            self.steps += 1
            return batch.logits.sum() * 0 + self.steps

    recipe = Recipe(**{**vars(SGD), "epochs": 3, "batch_size": 10, "lr": 0.5, "schedule": "cosine"})
    epochs = SmallRun(Counting(None), recipe, digits(40), (10,)).trainer.learn(0).epochs
    # 4 steps per epoch, with losses 1, 2, …, 12; the rate of step s of 12 is ½(1 + cos πs/12) of the first.
    assert [epoch.loss for epoch in epochs] == [2.5, 6.5, 10.5]
    rates = [0.25 * (1 + math.cos(math.pi * step / 12)) for step in (3, 7, 11)]
    assert [epoch.learning_rate for epoch in epochs] == pytest.approx(rates)


def test_momentum_does_not_carry_over_to_the_next_experience() -> None:
    """Experience 1 has no gradient: only momentum left from experience 0 could move a weight."""
    recipe = Recipe(network="mlp", lr=0.1, momentum=0.9)
    run = small(naive_with(lambda b: cross_entropy(b) if b.experience.index == 0 else 0 * b.logits.sum()), recipe)
    first, second, _ = run.learn().models
    assert same(first.blocks, second.blocks)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_blocks_can_be_frozen_and_trained_in_turn(optimizer: str, momentum: float) -> None:
    class Alternating(strategy_class("naive")):  # type: ignore[misc]
        def frozen(self, model: clbench.Network, experience: Experience, epoch: int) -> Any:
            return [model.blocks[epoch % 2]]

    recipe = Recipe(network="mlp", optimizer=optimizer, momentum=momentum, lr=1e-3, batch_size=16, epochs=3)  # type: ignore[arg-type]
    run = small(configured(Alternating), recipe)
    start = run.new_model()
    run.learn(1)
    trained = zip(start.blocks.parameters(), run.models[0].blocks.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in trained)


# Faults of a loss


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [0, 5, 49, 50, 73])
def test_a_loss_that_is_not_finite_is_reported_with_its_step(step: int, value: float) -> None:
    """Steps are counted from 0 in each experience; experience 0 takes 60 steps here, experience 1 another 120."""
    count = {0: 0, 1: 0}

    def loss(batch: Batch) -> Tensor:
        index = batch.experience.index
        count[index] += 1
        return cross_entropy(batch) if index == 0 or count[1] <= step else batch.logits.sum() * 0 + value

    run = small(naive_with(loss), Recipe(network="mlp", lr=0.01, batch_size=2, epochs=3), (2, 3)).learn(1)
    with pytest.raises(Divergence, match=rf"in experience 1, step {step}: the loss became {value}$"):
        run.learn()


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (lambda batch: batch.logits.mean(0), r"shape \(2,\)"),
        (lambda batch: 1.0, "a float"),
        (lambda batch: None, "a NoneType"),
    ],
)
def test_a_loss_that_is_no_scalar_is_refused(value: Callable[[Batch], Any], what: str) -> None:
    with pytest.raises(PluginError, match=f"{what}; it must return a scalar tensor"):
        small(naive_with(value)).learn()


# What a method stores


def test_an_l2_anchor_is_four_bytes_a_parameter_of_the_network_before() -> None:
    strategy = builtin("l2")
    run, found = small(strategy), []
    for _ in SIZES:
        run.learn(1)
        found.append(carried_bytes({k: v for k, v in vars(strategy).items() if k != "config"}, run.trainer.model))
    assert found == [0, 4 * (MLP_TRUNK + 2 * MLP_ROWS), 4 * (MLP_TRUNK + 3 * MLP_ROWS)]


def test_each_memory_counts_once_and_the_model_not_at_all() -> None:
    model = small(builtin("naive")).learn(1).models[0]
    shared = torch.zeros(10, dtype=torch.float64)
    buffer = next(model.parameters()).detach()
    state = {"model": model, "views": [shared, shared[2:4]], "of the model": [buffer, buffer[0]], "same": shared}
    assert carried_bytes(state, model) == 80
    holder = nn.Linear(3, 2)
    more = {"array": np.zeros(3, np.int16), "bytes": b"1234", "module": holder, "nested": [{"x": (torch.zeros(5),)}]}
    assert carried_bytes(more, model) == 6 + 4 + 4 * (3 * 2 + 2) + 20
    itself: list[Any] = [shared]
    itself.append(itself)
    assert carried_bytes(itself, model) == 80


def test_joint_counts_the_earlier_experiences_images() -> None:
    """8 x 8 x 3 bytes per image, 40 and 60 images."""
    experience_costs = small(builtin("joint")).learn().experience_costs
    assert [costs.past_data_bytes for costs in experience_costs] == [0, 40 * 192, 60 * 192]
    assert [costs.past_data_bytes for costs in small(builtin("naive")).learn().experience_costs] == [0, 0, 0]


def test_evaluations_within_an_experience_are_no_part_of_its_training_time() -> None:
    run = small(builtin("naive"))
    run.trainer.evaluate_every, run.trainer.evaluate = 1, lambda step: time.sleep(0.05)
    (costs,) = run.learn(1).experience_costs
    assert costs.gradient_steps >= 2 and costs.training_seconds < 0.05 * costs.gradient_steps
    assert costs.training_seconds > 0


# Whole runs

SCENARIO = '''
"""Digits in three uneven experiences, with everything that draws random numbers."""

import clbench
from clbench import Augmentation


class Rough(clbench.Scenario):
    dataset = "digits"
    split = "4,3,3"
    recipes = {
        "plain": clbench.Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=128),
        "rough": clbench.Recipe(network="cnn", optimizer="sgd", lr=0.05, momentum=0.9, batch_size=128,
                                schedule="cosine", augmentation=Augmentation(crop=1, brightness=0.1)),
    }
'''


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    """A scenario file with a recipe `plain` and one, `rough`, that augments and anneals."""
    path = tmp_path / "rough.py"
    path.write_text(SCENARIO)
    return str(path)


def numbers(run: Path) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
    """A published run's predictions, weights and counts."""
    result = json.loads((run / "result.json").read_bytes())
    with np.load(run / "predictions.npz") as arrays:
        predictions = {name: arrays[name].tolist() for name in arrays.files}
    return predictions, [entry["weights_sha256"] for entry in result["experiences"]], result["counts"]


RUN = """
import sys, clbench
strategy, scenario, recipe, out, data = sys.argv[1:]
print(clbench.run(strategy, scenario, recipe=recipe, threads=1, out=out, data=data)[0].path)
"""


@pytest.mark.slow
def test_two_processes_compute_the_same_bits(scenario: str, data: Path, tmp_path: Path) -> None:
    started = []
    for out in ("one", "other"):
        command = [sys.executable, "-c", RUN, "lwf", scenario, "rough", str(tmp_path / out), str(data)]
        environment = {**os.environ, "PYTHONHASHSEED": "random"}
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
    outputs = [process.communicate(timeout=300)[0].strip() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    one, other = (numbers(Path(output)) for output in outputs)
    assert outputs[0] != outputs[1]
    assert one == other
    assert len(set(one[1])) == 3


def planned(strategy: str, scenario: str, recipe: str, data: Path) -> Planned:
    request = Request([strategy], [scenario], recipe=recipe, threads=1, device="cpu", data=data)
    (run,) = plan(request, lambda event: None)
    return run


def surroundings(results: Path, data: Path, notify: Callable[[Event], None]) -> tuple[RunContext, Interruption]:
    interruption = Interruption()
    return RunContext(ResultsFolder(results), data, interruption, notify), interruption


def interrupted_after(run: Planned, index: int, saved: bool, results: Path, data: Path) -> None:
    """Execute `run` up to the end of experience `index`: with it saved, or stopped just before that."""

    def listen(event: Event) -> None:
        if isinstance(event, ExperienceFinished) and event.experience == index:
            if not saved:
                raise Interrupted(signal.SIGTERM)
            interruption.request(signal.SIGTERM)

    around, interruption = surroundings(results, data, listen)
    with pytest.raises(Interrupted):
        execute(run.spec, run.plugin, around)


CARRYING = '''
import clbench


class Carrying(clbench.Strategy):
    """Its loss depends on what it has seen in earlier experiences, and on the network that it holds on to."""

    def start(self, model):
        self.experiences, self.network = 0, None

    def loss(self, batch):
        loss = clbench.losses.cross_entropy(batch.logits, batch.y) * (1 + self.experiences)
        return loss if self.network is None else loss + self.network.blocks[0][1].weight.square().sum()

    def after_experience(self, model, experience):
        self.experiences += 1
        self.network = model
'''


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "recipe"),
    [*((name, "plain") for name in STRATEGIES), ("carrying", "plain"), ("lwf", "rough"), ("frozen", "rough")],
)
def test_a_run_continued_after_any_interruption_ends_as_one_that_never_stopped(
    strategy: str, recipe: str, scenario: str, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "carrying.py").write_text(CARRYING)
    run = planned(str(tmp_path / "carrying.py") if strategy == "carrying" else strategy, scenario, recipe, data)
    around, _ = surroundings(tmp_path / "whole", data, lambda event: None)
    whole = execute(run.spec, run.plugin, around)
    assert whole is not None
    expected = numbers(whole.path)
    for index, saved in ((0, True), (1, True), (0, False), (2, False)):
        results, finished = tmp_path / f"stopped-{index}-{saved}", []
        interrupted_after(run, index, saved, results, data)

        def listen(event: Event, finished: list[int] = finished) -> None:
            if isinstance(event, ExperienceFinished):
                finished.append(event.experience)

        around, _ = surroundings(results, data, listen)
        outcome = execute(run.spec, run.plugin, around)
        assert outcome is not None
        assert finished == list(range(index + saved, 3))  # nothing finished is done again
        assert numbers(outcome.path) == expected


@pytest.mark.slow
def test_a_run_interrupted_at_every_boundary_ends_as_one_that_never_stopped(
    scenario: str, data: Path, tmp_path: Path
) -> None:
    run = planned("l2", scenario, "plain", data)
    around, _ = surroundings(tmp_path / "whole", data, lambda event: None)
    whole = execute(run.spec, run.plugin, around)
    for index in (0, 1):
        interrupted_after(run, index, True, tmp_path / "stopped", data)
    around, _ = surroundings(tmp_path / "stopped", data, lambda event: None)
    outcome = execute(run.spec, run.plugin, around)
    assert whole is not None
    assert outcome is not None
    assert numbers(outcome.path) == numbers(whole.path)


def test_a_run_stopped_within_an_experience_begins_that_experience_again(
    scenario: str, data: Path, tmp_path: Path
) -> None:
    spy = tmp_path / "stopping.py"
    spy.write_text(
        "import os, signal, clbench\n"
        "class Stopping(clbench.Strategy):\n"
        "    def before_experience(self, model, experience):\n"
        "        self.step = 0\n"
        "    def loss(self, batch):\n"
        "        self.step += 1\n"
        "        if batch.experience.index == 1 and self.step == 3 and 'STOP' in os.environ:\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "        return clbench.losses.cross_entropy(batch.logits, batch.y)\n"
    )
    run = planned(str(spy), scenario, "plain", data)
    around, interruption = surroundings(tmp_path / "stopped", data, lambda event: None)
    with pytest.MonkeyPatch.context() as patch, interruption, pytest.raises(Interrupted) as stop:
        patch.setenv("STOP", "1")
        execute(run.spec, run.plugin, around)
    assert stop.value.exit_code == 143
    continued = execute(run.spec, run.plugin, surroundings(tmp_path / "stopped", data, lambda event: None)[0])
    whole = execute(run.spec, run.plugin, surroundings(tmp_path / "whole", data, lambda event: None)[0])
    assert continued is not None
    assert whole is not None
    assert numbers(continued.path) == numbers(whole.path)


@pytest.mark.slow
@pytest.mark.parametrize(("split", "sizes"), [("4,3,3", [4, 3, 3]), ("4+3x2", [4, 2, 2, 2]), ("1", [10])])
def test_uneven_splits_and_a_single_experience_run_from_end_to_end(
    split: str, sizes: list[int], scenario: str, data: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"recipe": "plain", "threads": 1, "out": tmp_path / "results", "data": data}
    runs = clbench.run(STRATEGIES, scenario, split=split, seeds=(3,), **options)
    assert len(runs) == len(STRATEGIES)
    for run in runs:
        assert list(run.spec.scenario.classes_per_experience) == sizes
        predictions, _, counts = numbers(run.path)
        tested = counts["class_incremental"]["total"]
        labels = np.asarray(predictions["labels"])
        classes = [entry.classes for entry in run.result.experiences]
        assert [len(own) for own in classes] == list(sizes)
        assert tested == [int(np.isin(labels, own).sum()) for own in classes]
        for index, row in enumerate(np.asarray(predictions["class_incremental"])):
            seen = {c for own in classes[: index + 1] for c in own}
            assert set(row[np.isin(labels, list(seen))]) <= seen
            assert (row[~np.isin(labels, list(seen))] == -1).all()
            within = np.asarray(predictions["task_incremental"][index])
            assert ((within == -1) == ~np.isin(labels, list(seen))).all()
            for own in classes[: index + 1]:
                assert set(within[np.isin(labels, own)]) <= set(own)


@pytest.mark.slow
def test_a_published_run_states_its_costs(scenario: str, data: Path, tmp_path: Path) -> None:
    """Digits are 8x8x1 bytes; two layers of 400 on 64 pixels, and rows of 401 for 4, 3 and 3 classes."""
    options: dict[str, Any] = {"recipe": "plain", "epochs": 2, "threads": 1, "out": tmp_path / "results", "data": data}
    naive, l2, joint = clbench.run(("naive", "l2", "joint"), scenario, **options)
    trunk = (64 + 1) * 400 + (400 + 1) * 400
    labels = np.load(next(data.rglob("y_train.npy")))
    samples = [int(np.isin(labels, entry.classes).sum()) for entry in naive.result.experiences]

    def stated(run: Any, name: str) -> list[int]:
        return [getattr(entry, name) for entry in run.result.experiences]

    assert stated(naive, "parameters") == [trunk + 401 * classes for classes in (4, 7, 10)]
    assert stated(naive, "stored_bytes") == [0, 0, 0]
    assert stated(l2, "stored_bytes") == [0, 4 * (trunk + 401 * 4), 4 * (trunk + 401 * 7)]
    assert stated(joint, "stored_bytes") == [0, 64 * samples[0], 64 * (samples[0] + samples[1])]
    assert stated(naive, "samples_seen") == [2 * count for count in samples]
    assert stated(naive, "gradient_steps") == [2 * math.ceil(count / 128) for count in samples]
    assert stated(joint, "samples_seen") == [2 * sum(samples[: index + 1]) for index in range(3)]
    assert l2.result.totals.stored_bytes == 4 * (trunk + 401 * 7)
    assert naive.result.totals.gradient_steps == sum(stated(naive, "gradient_steps"))


@pytest.mark.slow
def test_a_network_is_freed_when_its_run_has_ended(tmp_path: Path, data: Path) -> None:
    """Otherwise many runs of one process would stay in memory until Python happens to collect reference cycles."""

    def networks() -> set[int]:
        return {id(thing) for thing in gc.get_objects() if isinstance(thing, clbench.Network)}

    gc.collect()
    before = networks()
    gc.disable()
    try:
        clbench.run("lwf", "splitdigits", seeds=2, epochs=1, device="cpu", threads=1, out=tmp_path, data=data)
        assert not networks() - before
    finally:
        gc.enable()


def test_a_run_leaves_the_random_states_of_its_caller_alone(tmp_path: Path, data: Path) -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), np.random.random(), torch.rand(1).item()

    def after(compute: Callable[[], object]) -> tuple[float, float, float]:
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(5)
        compute()
        return draws()

    def run() -> None:
        clbench.run("naive", "splitdigits", epochs=1, device="cpu", threads=1, out=tmp_path, data=data)

    assert after(run) == after(lambda: None)


def test_what_a_strategy_keeps_is_hashed_whatever_its_type() -> None:
    kept = [torch.ones(3, dtype=torch.bfloat16), torch.eye(2).to_sparse(), torch.tensor(True), torch.Generator()]
    before = contents_sha256(kept)
    assert contents_sha256(kept) == before
    kept[0][1] = 2
    assert contents_sha256(kept) != before


def test_an_interruption_that_something_swallows_takes_effect_at_the_next_check() -> None:
    interruption = Interruption()
    with pytest.raises(Interrupted):
        interruption._handle(signal.SIGTERM, None)
    with pytest.raises(Interrupted):
        interruption.check()


@pytest.mark.parametrize("statistics, changes", [("training", True), ("given", False)])
def test_given_statistics_of_batch_normalisation_stay_and_its_parameters_train(statistics: Any, changes: bool) -> None:
    recipe = Recipe(network="cnn", lr=0.1, batch_size=16, batch_norm=statistics)
    run = small(builtin("naive"), recipe)
    before = run.new_model().state_dict()
    after = run.learn(1).models[0].state_dict()
    own = [name for name in before if name.endswith(("running_mean", "running_var"))]
    assert own and all(torch.equal(before[name], after[name]) != changes for name in own)
    assert not torch.equal(before["blocks.0.2.weight"], after["blocks.0.2.weight"])


@pytest.mark.parametrize("plain", [[3, 4.0], {"a": 1, 2: None}, (True, "x"), {b"y"}])
def test_many_plain_values_are_hashed_as_one_and_each_counts(plain: Any) -> None:
    before = contents_sha256({"kept": plain})
    assert contents_sha256({"kept": plain}) == before
    more = {**plain, 5: 6} if isinstance(plain, dict) else type(plain)([*plain, 5])
    assert contents_sha256({"kept": more}) != before
    assert contents_sha256({"kept": [plain, torch.zeros(1)]}) != contents_sha256({"kept": [more, torch.zeros(1)]})
