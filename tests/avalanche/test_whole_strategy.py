"""Avalanche's own strategies, run by Avalanche's loop: they train, resume, count, and are compared with clbench's."""

from __future__ import annotations

import copy
import hashlib
import itertools
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SmallRun, builtin, configured, digits, same

import clbench
from clbench.avalanche import catalogue
from clbench.avalanche.whole_strategy import strategy_class
from clbench.base.recipe import Augmentation, Recipe
from clbench.errors import UsageError
from clbench.runs import checkpoint
from clbench.runs.checkpoint import Checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("avalanche")]

SMALL: dict[str, dict[str, Any]] = {
    "Naive": {},
    "Replay": {"mem_size": 20},
    "LwF": {"alpha": 2.0},
    "EWC": {"ewc_lambda": 10.0},
    "SynapticIntelligence": {"si_lambda": 1.0},
    "GEM": {"patterns_per_exp": 5},
    "AGEM": {"patterns_per_exp": 12, "sample_size": 12},
    "ICaRL": {"memory_size": 20},
    "DER": {"mem_size": 20, "batch_size_mem": 10},
    "GDumb": {"mem_size": 20},
    "Cumulative": {},
}
"""The strategies that are tested, with small memories."""

BUDGETS = {"Replay": 20, "GEM": 25, "AGEM": 60, "ICaRL": 20, "DER": 20, "GDumb": 20}
"""Samples that these keep at the end of five experiences of two classes."""

RECIPE = Recipe(lr=0.1, batch_size=32, epochs=2)
SIZES = (4, 3, 3)
NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name == "GEM" and find_spec("quadprog") is None,
            reason="GEM solves a quadratic programme, for which the package quadprog is not installed",
        ),
    )
    for name in SMALL
]


def small_run(name: str, recipe: Recipe = RECIPE) -> SmallRun:
    return SmallRun(configured(strategy_class(name), **SMALL[name]), recipe, digits(200), SIZES)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_was_saved_and_loaded_at_a_boundary_ends_with_the_same_weights(name: str, tmp_path: Path) -> None:
    whole = small_run(name).learn()
    for boundary in (1, 2):
        first = small_run(name).learn(boundary).trainer
        state = {key: value for key, value in vars(first.strategy).items() if key != "config"}
        checkpoint.save(tmp_path, Checkpoint(1, first.model, state, [{}], [], [], []))
        loaded = checkpoint.load(tmp_path)
        assert loaded is not None
        resumed = small_run(name)
        vars(resumed.trainer.strategy).update(loaded.strategy)
        resumed.trainer.model = loaded.model
        resumed.models = [loaded.model] * boundary
        resumed.learn()
        assert same(resumed.models[-1], whole.models[-1])


def test_all_stand_beside_ours_in_one_comparison_and_pass_the_audit(data: Path, tmp_path: Path) -> None:
    names = [name for name in SMALL if name != "GEM" or find_spec("quadprog")]
    values = {f"avalanche:{name}.{key}": value for name in names for key, value in SMALL[name].items()}
    strategies = ["naive", "lwf", *(f"avalanche:{name}" for name in names)]
    runs = clbench.run(strategies, "splitdigits", set=values, epochs=1, threads=1, out=tmp_path / "out", data=data)
    by_name = {run.spec.strategy.name: run for run in runs}
    assert len(by_name) == len(strategies)
    for name in names:
        run = by_name[f"avalanche:{name}"]
        assert run.result.audit.verdict == "pass", name
        assert run.spec.strategy.package == f"avalanche-lib {catalogue.package_version()}"
        assert run.spec.strategy.sha256 == hashlib.sha256(catalogue.source_file(name).read_bytes()).hexdigest()
        assert {key: run.spec.strategy.config[key] for key in SMALL[name]} == SMALL[name]
        kept = [experience.exemplars for experience in run.result.experiences]
        samples = sum(experience.reads.current for experience in by_name["naive"].result.experiences)
        assert kept[-1] == (samples if name == "Cumulative" else BUDGETS.get(name, 0)), name
    table = repr(runs)
    assert all(f"avalanche:{name}"[:15] in table for name in names)
    assert by_name["naive"].spec.strategy.package is None


def test_naive_is_ours_if_the_order_within_a_batch_is_all_that_differs() -> None:
    recipe = Recipe(lr=0.1, batch_size=1000, epochs=5)
    theirs = small_run("Naive", recipe).learn()
    ours = SmallRun(builtin("naive"), recipe, digits(200), SIZES).learn()
    for one, other in zip(ours.models, theirs.models, strict=True):
        for name, weight in one.weights().items():
            assert torch.allclose(weight, other.weights()[name], atol=1e-5), name


@pytest.mark.parametrize(
    "said",
    [
        "network_config={'units': 16, 'size': 6}",
        "network_config={'train': 'head'}",
        "initialization='truncated_normal'",
        "head_initialization='lecun'",
        "stream_options={'samples': 40}",
    ],
)
def test_naive_is_ours_also_on_the_network_and_the_stream_that_a_recipe_prescribes(
    said: str, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "prescribed.py").write_text(
        "import clbench\nclass Prescribed(clbench.Scenario):\n    dataset, split = 'digits', '5'\n"
        f"    recipes = {{'quick': clbench.Recipe(lr=0.1, batch_size=1000, epochs=3, {said})}}\n"
    )
    asked = {"scenario": tmp_path / "prescribed.py", "threads": 1, "out": tmp_path / "out", "data": data}
    ours, theirs = clbench.run(["naive", "avalanche:Naive"], **asked)
    assert theirs.final_predictions()[1].tolist() == ours.final_predictions()[1].tolist()
    for one, other in zip(ours.result.experiences, theirs.result.experiences, strict=True):
        assert (one.gradient_steps, one.samples_seen) == (other.gradient_steps, other.samples_seen)


def test_steps_and_samples_are_counted_also_those_of_a_memory() -> None:
    naive, gradients = small_run("Naive").learn(), small_run("AGEM").learn()
    for index, costs in enumerate(naive.experience_costs):
        samples = len(naive.rows(index))
        steps = -(-samples // 32) * 2
        assert (costs.gradient_steps, costs.samples_seen) == (steps, samples * 2)
        # A-GEM draws 12 samples in each step, equally many from each earlier experience.
        asked = 12 if index else 0
        theirs = gradients.experience_costs[index]
        assert (theirs.gradient_steps, theirs.samples_seen) == (steps, samples * 2 + asked * steps)


def test_samples_are_counted_also_if_the_head_alone_trains(data: Path, tmp_path: Path) -> None:
    asked = {"set": {"network.train": "head"}, "epochs": 2, "threads": 1, "out": tmp_path / "out", "data": data}
    ours, theirs = clbench.run(["naive", "avalanche:Naive"], "splitdigits", **asked)
    for one, other in zip(ours.result.experiences, theirs.result.experiences, strict=True):
        assert other.samples_seen == one.samples_seen > 0


def test_a_strategy_that_trains_a_copy_of_the_network_is_counted_and_the_copy_is_the_network() -> None:
    learnt = small_run("GDumb").learn()
    assert [costs.samples_seen for costs in learnt.experience_costs] == [20 * 2] * 3  # its memory, twice
    learner = learnt.trainer.strategy.learner
    assert learner.model is learnt.trainer.model
    assert not any(same(one, other) for one, other in itertools.pairwise(learnt.models))


def test_evaluation_does_not_change_training() -> None:
    plain, watched = small_run("ICaRL").learn(), small_run("ICaRL")
    trainer = watched.trainer
    for _ in SIZES:
        watched.learn(1)
        watched.test_set.predict(trainer.model, lambda model, x: trainer.strategy.predict(model, x, trainer.experience))
    assert same(plain.models[-1], watched.models[-1])


def test_a_sample_that_no_buffer_holds_is_gone_when_its_experience_has_ended() -> None:
    strategy = small_run("Replay").learn(1).trainer.strategy
    (dataset,) = strategy.datasets
    kept = copy.copy(dataset)
    assert kept.count == 20
    readable = 0
    for position in range(len(kept)):
        try:
            kept.scale = lambda images: images.float()
            kept[position]
            readable += 1
        except IndexError:
            pass
    assert readable == 20


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"augmentation": Augmentation(flip=True)}, "does not follow the recipe's augmentation"),
        ({"schedule": "cosine"}, "does not follow the recipe's schedule"),
        ({"drop_last": True}, "does not follow the recipe's drop_last"),
        ({"iterations": 10}, "does not follow the recipe's iterations"),
        ({"precision": "bfloat16"}, "does not follow the recipe's precision"),
    ],
)
def test_what_avalanches_loop_cannot_follow_is_refused(changes: dict[str, Any], said: str) -> None:
    strategy = configured(strategy_class("Replay"))
    with pytest.raises(UsageError, match=said):
        strategy.check_protocol(strategy.config, Recipe(**changes), "class_incremental")


def test_other_settings_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="avalanche:Naive runs class-incrementally only"):
        clbench.run("avalanche:Naive", "splitdigits", setting="task", out=tmp_path, data=data)


@pytest.mark.parametrize(
    ("strategy", "values", "said"),
    [
        ("avalanche:Replya", {}, "no strategy 'Replya'; did you mean 'Replay'"),
        ("avalanche:Replay", {"avalanche:Replay.mem_siz": 1}, "no hyper-parameter 'mem_siz'; did you mean 'mem_size'"),
        ("avalanche:Replay", {"avalanche.mem_size": "many"}, r"avalanche:Replay\.mem_size must be a valid integer"),
        (
            "avalanche:Replay",
            {"avalanche.mem_size": 9},
            "mem_size = 9 exemplars are fewer than the 10 classes",
        ),
        ("avalanche:MIR", {}, "avalanche:MIR needs a value for mem_size"),
    ],
)
def test_wrong_names_and_values_are_said(
    strategy: str, values: dict[str, Any], said: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        clbench.run(strategy, "splitdigits", set=values, out=tmp_path, data=data)


def test_show_has_parameters_and_defaults_and_does_not_import_avalanche() -> None:
    program = """
import sys
from clbench.plugins.description import find, print_in_full
print_in_full(find("avalanche:LwF"))
assert not [name for name in ("avalanche", "torch") if name in sys.modules]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Learning without Forgetting" in done.stdout
    assert "avalanche:LwF.temperature: float, default 2.0" in done.stdout
    assert "softmax temperature for distillation. Avalanche has no default for it" in done.stdout
