"""Class-, task- and domain-incremental training, and the protocol options that published tables depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_runs import SmallRun, builtin, colours, same

import clbench
from clbench import Batch, Recipe, losses
from clbench.base.experience import Experience
from clbench.base.incremental_setting import READINGS
from clbench.base.recipe import Recipe as PlainRecipe
from clbench.errors import UsageError
from clbench.networks.head import Head
from clbench.plugins.discovery import builtin_folder, select
from clbench.plugins.loading import load
from clbench.plugins.networks import build
from clbench.results.protocol_building import protocol
from clbench.runs.context import RunContext
from clbench.runs.experiences import ExperienceByExperience
from clbench.runs.planned_runs import plan
from clbench.runs.request import Request
from clbench.runs.run import execute
from clbench.streams.stream import _padded, _padded_statistics

SIZES = (2, 2)
ADAM = PlainRecipe(network="mlp", optimizer="adam", lr=0.01, batch_size=16, epochs=2)


def changed(**values: Any) -> PlainRecipe:
    return PlainRecipe(**{**vars(ADAM), **values})


class Watching(clbench.Strategy):  # type: ignore[type-arg]
    """Fine-tuning that stores what it saw."""

    def start(self, model: clbench.Network) -> None:
        self.seen: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    def loss(self, batch: Batch) -> torch.Tensor:
        self.seen.append((batch.experience.index, batch.y, batch.logits.detach()))
        return batch.cross_entropy()


def watched(recipe: PlainRecipe, **options: Any) -> tuple[Watching, SmallRun]:
    strategy = Watching(None)
    run = SmallRun(strategy, recipe, colours(classes=4), SIZES, **options)
    strategy.start(run.trainer.model)
    run.learn()
    return strategy, run


# -- the classification loss of each setting --------------------------------------------------------------------------


def a_batch(where: Experience, columns: int, y: list[int]) -> Batch:
    logits = torch.randn(len(y), columns, generator=torch.Generator().manual_seed(0))
    return Batch(logits, torch.tensor(y), torch.arange(len(y)), logits, None, None, where)  # type: ignore[arg-type]


def test_class_incrementally_the_softmax_ranges_over_the_classes_seen_so_far_only() -> None:
    batch = a_batch(Experience(1, (2, 2, 3)), 7, [0, 3, 2])  # a fixed head has all seven columns
    torch.testing.assert_close(batch.cross_entropy(), F.cross_entropy(batch.logits[:, :4], batch.y))


def test_task_incrementally_the_softmax_ranges_over_each_samples_own_experience() -> None:
    batch = a_batch(Experience(1, (2, 3), "task_incremental"), 5, [1, 4, 2])
    own = [
        F.cross_entropy(batch.logits[:1, :2], torch.tensor([1])),
        F.cross_entropy(batch.logits[1:2, 2:], torch.tensor([2])),
        F.cross_entropy(batch.logits[2:, 2:], torch.tensor([0])),
    ]
    torch.testing.assert_close(batch.cross_entropy(), torch.stack(own).mean())


def test_domain_incrementally_all_experiences_share_the_outputs() -> None:
    batch = a_batch(Experience(3, (2, 2, 2, 2), "domain_incremental"), 2, [1, 0])
    torch.testing.assert_close(batch.cross_entropy(), F.cross_entropy(batch.logits, batch.y))


def test_masked_columns_get_no_gradient() -> None:
    logits = torch.randn(2, 4, requires_grad=True)
    losses.cross_entropy_within(logits, torch.tensor([0, 3]), (2, 2)).backward()
    assert logits.grad is not None
    assert not logits.grad[0, 2:].any() and not logits.grad[1, :2].any() and logits.grad[0, :2].all()


# -- training in each setting -----------------------------------------------------------------------------------------


def test_domain_incrementally_labels_are_places_in_the_own_experience_and_the_head_never_grows() -> None:
    strategy, run = watched(ADAM, setting="domain_incremental")
    assert {int(y) for _, labels, _ in strategy.seen for y in labels} == {0, 1}
    assert {logits.shape[1] for _, _, logits in strategy.seen} == {2}
    assert run.models[1].head.classes == 2


def test_task_incrementally_the_rows_of_other_experiences_do_not_move() -> None:
    _, run = watched(ADAM, setting="task_incremental")
    first, second = (model.head for model in run.models)
    assert first.new is not None and second.old is not None
    assert torch.equal(first.new.weight, second.old.weight) and torch.equal(first.new.bias, second.old.bias)


def test_class_incrementally_they_do() -> None:
    _, run = watched(ADAM)
    first, second = (model.head for model in run.models)
    assert first.new is not None and second.old is not None
    assert not torch.equal(first.new.weight, second.old.weight)


@pytest.mark.parametrize("setting", READINGS)
def test_a_run_is_counted_in_the_readings_of_its_setting_alone(setting: str, data: Path, tmp_path: Path) -> None:
    request = Request(["naive"], ["splitdigits"], epochs=1, setting=setting, threads=1, out=tmp_path, data=data)
    (planned,) = plan(request, lambda event: None)
    outcome = execute(planned.spec, planned.plugin, surroundings(tmp_path, data))
    assert outcome and outcome.status == "finished"
    from clbench.results.stored_run import StoredRun
    from clbench.results.stored_runs import read

    run = read(outcome.path)
    assert isinstance(run, StoredRun) and run.setting == setting
    assert tuple(run.result.counts) == tuple(run.result.chance) == READINGS[run.setting]
    assert (setting in outcome.run) == (setting != "class_incremental")


def surroundings(results: Path, data: Path) -> RunContext:
    from clbench.results.store import ResultsFolder
    from clbench.system.signals import Interruption

    return RunContext(ResultsFolder(results), data, Interruption(), lambda event: None)


def test_experiences_of_different_size_cannot_share_outputs(data: Path) -> None:
    request = Request(["naive"], ["splitdigits"], split="4,3,3", setting="domain", data=data)
    with pytest.raises(UsageError, match="share outputs"):
        plan(request, lambda event: None)


def test_a_setting_that_is_mistyped_is_a_mistake(data: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'domain'"):
        plan(Request(["naive"], ["splitdigits"], setting="domian", data=data), lambda event: None)


# -- what a protocol prescribes ---------------------------------------------------------------------------------------


def test_iterations_are_gradient_steps_whatever_the_size_of_the_experience() -> None:
    strategy, run = watched(changed(iterations=7))
    assert [costs.gradient_steps for costs in run.experience_costs] == [7, 7]
    assert [index for index, _, _ in strategy.seen] == [0] * 7 + [1] * 7


def test_every_sample_is_seen_once_in_each_pass_of_a_run_counted_in_iterations() -> None:
    strategy, _ = watched(changed(iterations=6))  # 40 samples in batches of 16: three per pass
    assert [len(y) for _, y, _ in strategy.seen[:6]] == [16, 16, 8, 16, 16, 8]


def test_incomplete_batches_can_be_left_out() -> None:
    strategy, run = watched(changed(drop_last=True))
    assert {len(y) for _, y, _ in strategy.seen} == {16}
    assert [costs.gradient_steps for costs in run.experience_costs] == [4, 4]


def test_an_experience_smaller_than_a_batch_is_a_mistake_where_incomplete_batches_are_left_out() -> None:
    with pytest.raises(UsageError, match="fewer than one batch"):
        watched(changed(drop_last=True, batch_size=64))


def test_a_carried_optimizer_goes_on_with_its_moments_and_a_fresh_one_does_not() -> None:
    steps = {}
    for state in ("carried", "fresh"):
        _, run = watched(changed(optimizer_state=state, head="fixed"))
        values = run.trainer.optimizer.state[next(iter(run.trainer.model.parameters()))]
        steps[state] = int(values["step"])
    assert steps == {"carried": 12, "fresh": 6}


def test_carrying_the_optimizer_changes_what_is_learned() -> None:
    runs = [watched(changed(optimizer_state=state, head="fixed"))[1] for state in ("carried", "fresh")]
    assert same(runs[0].models[0], runs[1].models[0]) and not same(runs[0].models[1], runs[1].models[1])


def test_a_carried_optimizer_needs_a_fixed_head(data: Path, tmp_path: Path) -> None:
    plugin = select("scenario", str(builtin_folder("scenario") / "splitmnist.py"))
    scenario = load(plugin)
    odd = type("Odd", (scenario,), {"recipes": {"odd": Recipe(optimizer_state="carried")}})
    with pytest.raises(UsageError, match="requires a fixed head"):
        protocol(plugin, odd)


def test_an_interrupted_run_with_a_carried_optimizer_ends_as_an_uninterrupted_one() -> None:
    recipe = changed(optimizer_state="carried", head="fixed")
    _, whole = watched(recipe)
    _, first = watched(recipe)
    second = SmallRun(Watching(None), recipe, colours(classes=4), SIZES)
    second.trainer.strategy.start(second.trainer.model)
    second.learn(1)
    resumed = SmallRun(second.trainer.strategy, recipe, colours(classes=4), SIZES)
    resumed.trainer.model, resumed.trainer.optimizer_state = second.trainer.model, second.trainer.optimizer_state
    resumed.trainer.learn(1)
    assert same(resumed.trainer.model, whole.models[1]) and same(first.models[1], whole.models[1])


def test_the_rows_of_a_fixed_head_are_there_from_the_start_and_those_to_come_wait() -> None:
    strategy, run = watched(changed(head="fixed"))
    assert {logits.shape[1] for _, _, logits in strategy.seen} == {4}
    first = run.models[0].head
    fresh = Head(400)
    fresh.fix(4, seed=first_seed(run))
    assert first.old is not None and fresh.old is not None
    assert torch.equal(first.old.weight[2:], fresh.old.weight[2:])
    assert not torch.equal(first.old.weight[:2], fresh.old.weight[:2])


@pytest.mark.parametrize("head", ["growing", "fixed"])
def test_the_recipe_says_how_rows_of_the_head_are_initialized(head: str) -> None:
    zero = []

    class Fresh(Watching):
        def reinitialize(self, experience: Experience) -> bool:
            return experience.index == 1

        def before_experience(self, model: clbench.Network, experience: Experience) -> None:
            zero.append(not model.head.bias.any())

    for initialization in ("torch", "lecun"):
        run = SmallRun(
            Fresh(None), changed(head=head, head_initialization=initialization), colours(classes=6), (2, 2, 2)
        )
        run.trainer.strategy.start(run.trainer.model)
        run.learn(2)
    assert zero == [False, False, True, True]


def test_the_recipe_says_how_the_networks_convolutions_are_initialized(data: Path, tmp_path: Path) -> None:
    """He et al. 2015 draw the first layer (16 channels, nine inputs) from N(0, 2/(9·16)); torch from U(-1/3, 1/3)."""
    variances = {}
    for initialization in ("architecture", "torch"):
        values = {"recipe.network": "resnet32", "recipe.initialization": initialization}
        (planned,) = plan(Request(["naive"], ["splitdigits"], set=values, data=data), lambda event: None)
        run = ExperienceByExperience(planned.spec, planned.plugin, surroundings(tmp_path, data))
        variances[initialization] = run._new_model().blocks[0][0].weight.var().item()  # type: ignore[index]
    assert variances == {"architecture": pytest.approx(2 / 144, rel=0.4), "torch": pytest.approx(1 / 27, rel=0.4)}


def first_seed(run: SmallRun) -> int:
    from clbench.system.seeds import derive

    return derive(run.seeds["model"], "head")


def test_padding_puts_zeros_around_images_and_into_their_statistics() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 2), dtype=np.uint8)
    padded = _padded(images, 2)
    assert padded.shape == (5, 8, 10, 2) and np.array_equal(padded[:, 2:-2, 2:-2], images)
    assert padded.sum() == images.sum()
    of = [tuple(value) for value in (images.mean((0, 1, 2)) / 255, images.std((0, 1, 2)) / 255)]
    mean, std = _padded_statistics((4, 6, 2), of[0], of[1], 2)
    assert mean == pytest.approx(tuple(padded.mean((0, 1, 2)) / 255))
    assert std == pytest.approx(tuple(padded.std((0, 1, 2)) / 255))


def test_a_recipe_prescribes_the_class_order_unless_the_user_does() -> None:
    plugin = select("scenario", str(builtin_folder("scenario") / "splitmnist.py"))
    scenario = load(plugin)
    assert protocol(plugin, scenario, "hsu2018").class_order == "natural"
    assert protocol(plugin, scenario, "hsu2018", order="seed").class_order == "seed"
    assert protocol(plugin, scenario, "quick").class_order == "seed"


def test_hsu2018_has_a_parameter_for_each_experience_only_if_the_task_is_given() -> None:
    plugin = select("scenario", str(builtin_folder("scenario") / "splitmnist.py"))
    scenario = load(plugin)
    found = {name: protocol(plugin, scenario, "hsu2018", setting=name).recipe for name in ("class", "domain", "task")}
    shared = {name: recipe.head_parameters for name, recipe in found.items()}
    assert shared == {"class": "shared", "domain": "shared", "task": "per_experience"}
    asked_for = {"head_parameters": "per_experience"}
    with pytest.raises(UsageError, match="needs setting task"):
        protocol(plugin, scenario, "vandeven2019", setting="class", recipe_values=asked_for)
    with pytest.raises(UsageError, match="needs head fixed"):
        protocol(plugin, scenario, "quick", setting="task", recipe_values=asked_for)


# -- presets ----------------------------------------------------------------------------------------------------------


def specs(data: Path, *strategies: str, **options: Any) -> dict[str, Any]:
    planned = plan(Request(list(strategies), ["splitdigits"], data=data, **options), lambda event: None)
    return {name: run.spec.strategy for name, run in zip(strategies, planned, strict=True)}


def test_presets_of_one_strategy_run_side_by_side_each_with_its_values(data: Path) -> None:
    found = specs(data, "lwf", "lwf:pycil", "lwf:mammoth", set={"lwf.temperature": "3", "lwf:pycil.alpha": "5"})
    assert [found[name].preset for name in found] == ["li2016", "pycil", "mammoth"]
    assert [found[name].config["alpha"] for name in found] == [1.0, 5.0, 0.5]
    assert [found[name].config["temperature"] for name in found] == [3.0, 3.0, 3.0]


def test_a_preset_may_have_other_values_in_another_setting(data: Path) -> None:
    strengths = {
        setting: specs(data, "l2:hsu2018", setting=setting)["l2:hsu2018"].config["strength"]
        for setting in ("class", "domain", "task")
    }
    assert strengths == {"class": 100, "domain": 0.5, "task": 0.01}


def test_what_the_user_sets_comes_before_the_preset_in_every_setting(data: Path) -> None:
    found = specs(data, "l2:hsu2018", setting="task", set={"strength": "7"})
    assert found["l2:hsu2018"].config["strength"] == 7


def test_a_strategy_without_a_published_default_has_no_preset_unless_asked_for(data: Path) -> None:
    assert "preset" not in specs(data, "l2")["l2"] and "preset" not in specs(data, "naive")["naive"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("lwf:pycli", "did you mean 'pycil'"),
        ("frozen:li2016", "has no preset 'li2016'.*it has none"),
        ("lwf:", "name the preset"),
    ],
)
def test_a_preset_that_is_not_there_is_a_mistake(data: Path, wanted: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        specs(data, wanted)


def test_one_preset_named_twice_is_a_mistake(data: Path) -> None:
    with pytest.raises(UsageError, match="named twice"):
        specs(data, "lwf:pycil", "lwf:pycil")


@pytest.mark.slow
def test_every_builtin_preset_can_be_configured_in_every_setting() -> None:
    from clbench.results.spec_building import method

    for path in builtin_folder("strategy").glob("*.py"):
        plugin = select("strategy", str(path))
        cls = load(plugin)
        for preset in cls.presets:
            made = method(plugin, cls, {}, preset)
            for setting in READINGS:
                assert made.values(setting)
            assert cls.presets[preset]["loss"] and cls.presets[preset]["source"]


def test_built_networks_have_a_head_that_can_be_either() -> None:
    network = build("mlp", (8, 8, 1), 0)
    network.head.grow(3, seed=0)
    assert network.head.classes == network.head.seen == 3
    assert builtin("lwf").config.alpha == 1


@pytest.mark.slow
@pytest.mark.parametrize("over", ["seen", "current", "all"])
def test_fine_tuning_ranges_over_the_classes_that_its_preset_says(over: str) -> None:
    batch = a_batch(Experience(1, (2, 2, 3)), 7, [2, 3, 2])
    columns = {"seen": slice(0, 4), "current": slice(2, 4), "all": slice(0, 7)}[over]
    expected = F.cross_entropy(batch.logits[:, columns], batch.y - columns.start)
    torch.testing.assert_close(builtin("naive", cross_entropy_over=over).loss(batch), expected)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["naive:mammoth", "ewc:mammoth", "lwf:vandeven2022"])
def test_a_loss_over_all_classes_runs_where_the_head_is_fixed_and_is_refused_elsewhere(
    preset: str, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "scenarios").mkdir()
    text = (builtin_folder("scenario") / "splitdigits.py").read_text().replace("Recipe(", 'Recipe(head="fixed", ', 1)
    (tmp_path / "scenarios" / "wide.py").write_text(text)
    common: dict[str, Any] = {"epochs": 1, "threads": 1, "out": tmp_path / "out", "data": data}
    (run,) = clbench.run(preset, str(tmp_path / "scenarios" / "wide.py"), **common)
    assert run.metric("new_accuracy")[0] > 0.9
    with pytest.raises(UsageError, match="fixed head"):
        clbench.run(preset, "splitdigits", **common)
