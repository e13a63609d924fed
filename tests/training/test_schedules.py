"""Learning rates within an experience, validation data, and budgets that differ by experience and strategy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SmallRun, builtin, colours, digits, same

import clbench
from clbench.base.recipe import Overrides, Recipe
from clbench.data.batches import held_out
from clbench.errors import UsageError
from clbench.plugins.discovery import builtin_folder, select
from clbench.plugins.loading import load
from clbench.plugins.networks import build
from clbench.results.protocol_building import protocol
from clbench.training.schedules import Plateau, scheduled_rate

SURVEY = Recipe(
    lr=0.1,
    schedule="milestones",
    milestones=(60, 120, 180, 220),
    epochs=250,
    weight_decay=2e-4,
    first=Overrides(epochs=200, weight_decay=5e-4, milestones=(60, 120, 170)),
    of_strategy={"ewc": Overrides(epochs=180, milestones=(70, 120, 150)), "odd": Overrides(lr=0.03)},
)


# -- milestones -------------------------------------------------------------------------------------------------------


def test_the_rate_is_divided_at_every_milestone_and_not_before() -> None:
    recipe = Recipe(lr=0.1, schedule="milestones", milestones=(2, 3), divisor=10, epochs=4)
    rates = [scheduled_rate(recipe, step, steps=40, steps_per_epoch=10) for step in (0, 19, 20, 29, 30, 39)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


class Rates(clbench.Strategy):  # type: ignore[type-arg]
    """Fine-tuning that records the learning rate of every step."""

    run: SmallRun
    rates: list[float]

    def loss(self, batch: clbench.Batch) -> torch.Tensor:
        self.rates.append(self.run.trainer.optimizer.param_groups[0]["lr"])
        return batch.cross_entropy()


def rates_of(recipe: Recipe) -> list[float]:
    strategy = Rates(None)
    strategy.run, strategy.rates = SmallRun(strategy, recipe, colours(classes=2), (2,)), []
    strategy.run.learn()
    return strategy.rates


def test_the_optimizer_follows_the_milestones() -> None:
    recipe = Recipe(lr=0.1, schedule="milestones", milestones=(1, 2), divisor=2, epochs=3, batch_size=20)
    assert rates_of(recipe) == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025, 0.025])


# -- warm-up and restarts, against torch's own schedules --------------------------------------------------------------


def rates_of_torch(make: Callable[[torch.optim.Optimizer], Any], lr: float, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_the_cosine_is_torchs() -> None:
    recipe = Recipe(lr=0.3, schedule="cosine")
    expected = rates_of_torch(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=40), 0.3, 40)
    assert [scheduled_rate(recipe, step, 40, 10) for step in range(40)] == pytest.approx(expected)


def test_warm_restarts_are_torchs() -> None:
    recipe = Recipe(lr=0.3, schedule="warm_restarts", restart_epochs=1, restart_factor=2)
    restarts = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts
    expected = rates_of_torch(lambda o: restarts(o, T_0=10, T_mult=2), 0.3, 80)
    assert [scheduled_rate(recipe, step, 80, 10) for step in range(80)] == pytest.approx(expected)
    assert expected[0] == expected[10] == expected[30] == expected[70] == pytest.approx(0.3)


def test_a_warm_up_is_torchs_linear_one_with_the_schedule_after_it() -> None:
    recipe = Recipe(lr=0.3, schedule="cosine", warmup_epochs=0.5)
    schedulers = torch.optim.lr_scheduler
    expected = rates_of_torch(lambda o: schedulers.LinearLR(o, start_factor=1 / 5, total_iters=4), 0.3, 5)
    expected += rates_of_torch(lambda o: schedulers.CosineAnnealingLR(o, T_max=35), 0.3, 35)
    assert [scheduled_rate(recipe, step, 40, 10) for step in range(40)] == pytest.approx(expected)


def test_the_optimizer_follows_a_warm_up_under_a_constant_schedule() -> None:
    recipe = Recipe(lr=0.1, warmup_epochs=1.5, epochs=2, batch_size=20)
    assert rates_of(recipe) == pytest.approx([0.1 / 3, 0.2 / 3, 0.1, 0.1])


# -- plateaus ---------------------------------------------------------------------------------------------------------


def test_a_plateau_divides_the_rate_takes_up_the_best_weights_and_ends_below_the_smallest_rate() -> None:
    recipe = Recipe(schedule="plateau", lr=0.9, divisor=3, patience=2, lr_min=0.2, validation=0.1)
    model, plateau = build("mlp", (4, 4, 1), 0), Plateau(recipe)

    def after(loss: float, weight: float) -> float | None:
        with torch.no_grad():
            model.blocks[0][1].bias.fill_(weight)
        return plateau.after_epoch(loss, model)

    assert [after(1.0, 1), after(0.5, 2), after(0.6, 3)] == [0.9, 0.9, 0.9]
    assert after(0.5, 4) == pytest.approx(0.3)  # the second epoch without improvement: equal is no progress
    assert model.blocks[0][1].bias.unique().item() == 2
    assert after(0.4, 5) == pytest.approx(0.3)
    assert [after(0.7, 6), after(0.7, 7)] == [pytest.approx(0.3), None]
    assert plateau.best["blocks.0.1.bias"].unique().item() == 5


def test_an_experience_under_a_plateau_ends_early_with_the_best_weights_that_it_had() -> None:
    recipe = Recipe(
        schedule="plateau", lr=0.5, divisor=10, patience=1, lr_min=0.01, validation=0.25, epochs=50, batch_size=16
    )
    samples = colours(classes=4)
    samples.y[:] = samples.y[::-1].copy()  # labels without information: what is learned from them does not carry over
    run = SmallRun(builtin("lwf"), recipe, samples, (2, 2)).learn()
    for costs, model, index in zip(run.experience_costs, run.models, (0, 1), strict=True):
        assert costs.gradient_steps < 50 * 2
        assert costs.samples_seen % 30 == 0  # a quarter of 40 is held out
        assert run.trainer._plateau is not None
        if index == 1:
            state = run.trainer._plateau.best
            assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("method", ["lwf", "lwf_dialects"])
def test_validation_losses_of_a_warm_up_which_has_another_loss_do_not_count(method: str) -> None:
    """Cross-entropy alone, in the warm-up, is lower than with the distillation, whatever is learned afterwards."""
    recipe = Recipe(
        schedule="plateau", lr=0.05, momentum=0.9, divisor=3, patience=3, lr_min=0.001, validation=0.2, epochs=12
    )
    run = SmallRun(builtin(method, warmup_epochs=2), replace(recipe, batch_size=16), digits(400), (4, 3, 3)).learn()
    assert all(len(costs.epochs) > 3 for costs in run.experience_costs)
    assert not any(same(one.blocks, other.blocks) for one, other in itertools.pairwise(run.models))


def test_joint_training_is_validated_on_all_classes_that_it_trains_on() -> None:
    recipe = Recipe(schedule="plateau", lr=0.05, validation=0.25, epochs=3, batch_size=16)
    validated: dict[int, set[int]] = {}

    class Watching(builtin("joint").__class__):  # type: ignore[misc]
        def validation_loss(self, batch: clbench.Batch) -> torch.Tensor:
            validated.setdefault(batch.experience.index, set()).update(batch.y.tolist())
            return super().validation_loss(batch)

    SmallRun(Watching(builtin("joint").config), recipe, colours(classes=6), (2, 2, 2)).learn()
    assert validated[1] == {0, 1, 2, 3}
    assert validated[2] == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(schedule="plateau"), "validation > 0"),
        (Recipe(schedule="plateau", validation=0.1, warmup_epochs=1), "which a warm-up of the learning rate prevents"),
    ],
)
def test_a_plateau_needs_validation_data_and_no_warm_up_of_the_rate(recipe: Recipe, message: str) -> None:
    plugin = select("scenario", str(builtin_folder("scenario") / "splitmnist.py"))
    odd = type("Odd", (load(plugin),), {"recipes": {"odd": recipe}})
    with pytest.raises(UsageError, match=message):
        protocol(plugin, odd)


# -- validation data --------------------------------------------------------------------------------------------------


def test_a_share_of_each_class_is_held_out_and_nothing_is_lost() -> None:
    rows = torch.arange(100, 160)
    labels = torch.tensor([0] * 40 + [1] * 19 + [2])
    kept, held = held_out(rows, labels, 0.1, torch.Generator().manual_seed(0))
    assert sorted([*kept.tolist(), *held.tolist()]) == rows.tolist()
    assert [int((labels[held - 100] == c).sum()) for c in range(3)] == [4, 2, 0]  # the only one of its class stays


def test_what_is_held_out_is_never_trained_on_also_not_by_joint_training() -> None:
    seen: set[int] = set()

    class Watching(builtin("joint").__class__):  # type: ignore[misc]
        def loss(self, batch: clbench.Batch) -> torch.Tensor:
            seen.update(batch.index.tolist())
            return super().loss(batch)

    recipe = Recipe(validation=0.25, epochs=2, batch_size=16)
    run = SmallRun(Watching(builtin("joint").config), recipe, colours(classes=4), (2, 2)).learn()
    held = {row for index in (0, 1) for row in run.trainer.data.divided(index, recipe)[1].rows.tolist()}
    assert len(held) == 20 and len(seen) == 60 and not held & seen


def test_what_returns_and_is_then_held_out_is_not_trained_on_by_joint_training() -> None:
    """The second experience has half of the first one's samples again."""
    trained: set[int] = set()

    class Watching(builtin("joint").__class__):  # type: ignore[misc]
        def loss(self, batch: clbench.Batch) -> torch.Tensor:
            trained.update(batch.index.tolist())
            return super().loss(batch)

        def validation_loss(self, batch: clbench.Batch) -> torch.Tensor:
            return super().loss(batch)

    recipe = Recipe(schedule="plateau", validation=0.25, epochs=1, batch_size=16)
    run = SmallRun(Watching(builtin("joint").config), recipe, colours(classes=4), (2, 2))
    first, second = run.data.rows
    run.trainer.data = replace(run.data, rows=(first, torch.cat([first[::2], second]).sort().values))
    run.learn(1)
    trained.clear()
    run.learn(1)
    held = set(run.trainer._plateau_set.rows.tolist())
    assert held & set(first[::2].tolist()) and not held & trained
    assert held | trained == set(range(80))


def test_validation_accuracy_is_read_among_the_experiences_own_classes() -> None:
    recipe = Recipe(validation=0.5, epochs=1, batch_size=16)
    run = SmallRun(builtin("naive"), recipe, colours(classes=4), (2, 2)).learn()
    with torch.no_grad():
        run.trainer.model.head.old.bias.fill_(1e4)  # class-incrementally every prediction is now an old class
        run.trainer.model.head.new.weight.zero_()
        run.trainer.model.head.new.bias.copy_(torch.tensor([0.0, 1.0]))
    own = run.positions[run.trainer.validation_set.rows]
    assert run.trainer.validation_accuracy() == pytest.approx(float((own == 3).float().mean()))


# -- budgets ----------------------------------------------------------------------------------------------------------


def test_the_first_experience_and_each_strategy_have_budgets_of_their_own() -> None:
    ewc = SURVEY.for_strategy("ewc")
    assert [ewc.at(0).epochs, ewc.at(1).epochs, SURVEY.for_strategy("lwf").at(3).epochs] == [200, 180, 250]
    assert [ewc.at(0).milestones, ewc.at(1).milestones] == [(60, 120, 170), (70, 120, 150)]
    assert [ewc.at(0).weight_decay, ewc.at(1).weight_decay] == [5e-4, 2e-4]
    assert SURVEY.for_strategy("odd").at(0).lr == 0.03 and ewc.at(0).lr == 0.1
    assert SURVEY.length == "200, then 250 epochs"


def test_the_engine_gives_every_experience_its_own_budget() -> None:
    recipe = Recipe(epochs=3, batch_size=40, first=Overrides(epochs=1, lr=0.5), lr=0.25)
    run = SmallRun(builtin("naive"), recipe, colours(classes=4), (2, 2)).learn()
    assert [costs.gradient_steps for costs in run.experience_costs] == [1, 3]
    plain = SmallRun(builtin("naive"), Recipe(epochs=1, batch_size=40, lr=0.5), colours(classes=4), (2, 2)).learn(1)
    assert same(run.models[0], plain.models[0])


def test_a_shortened_recipe_has_the_same_budget_everywhere_and_its_milestones_in_proportion() -> None:
    short = SURVEY.shortened(10)
    for name, experience, milestones in (("lwf", 1, 250), ("ewc", 1, 180), ("lwf", 0, 200)):
        original, now = SURVEY.for_strategy(name).at(experience), short.for_strategy(name).at(experience)
        assert now.epochs == 10
        assert now.milestones == pytest.approx([m * 10 / milestones for m in original.milestones])


def test_a_run_of_another_length_has_another_recipe_name(tmp_path: Path) -> None:
    plugin = select("scenario", str(builtin_folder("scenario") / "splitcifar100.py"))
    scenario: Any = load(plugin)
    assert protocol(plugin, scenario, "survey2024").recipe_name == "survey2024"
    assert protocol(plugin, scenario, "survey2024", epochs=2).recipe_name == "survey2024-epochs2"
    assert protocol(plugin, scenario, "quick", epochs=4).recipe_name == "quick"


def test_the_order_of_1993_is_the_one_that_this_literature_shares() -> None:
    import numpy as np

    plugin = select("scenario", str(builtin_folder("scenario") / "splitcifar100.py"))
    recipes = load(plugin).recipes
    order = [int(c) for c in recipes["survey2024"].class_order.split(",")]
    assert order == np.random.RandomState(1993).permutation(100).tolist()
    assert recipes["masana2020"].class_order == recipes["survey2024"].class_order


@pytest.mark.parametrize(("iterations", "per_batch"), [(5, 2), (7, 3), (6, 3)])
def test_there_are_as_many_steps_as_iterations_also_with_several_steps_a_batch(iterations: int, per_batch: int) -> None:
    recipe = Recipe(iterations=iterations, steps_per_batch=per_batch, batch_size=16)
    run = SmallRun(builtin("naive"), recipe, colours(classes=4), (2, 2)).learn()
    assert [costs.gradient_steps for costs in run.experience_costs] == [iterations, iterations]
