"""`--tune`: what the searches choose, what they may read, what they cost, and how it is told."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import SmallRun, builtin, colours, same

import clbench
from clbench.base.config import typed
from clbench.base.continual_tuning import ContinualTuning
from clbench.base.recipe import Recipe
from clbench.comparison.how_tuned import how_tuned
from clbench.errors import UsageError
from clbench.results.run_spec import GridTuning
from clbench.results.stored_run import StoredRun
from clbench.results.stored_runs import read_all
from clbench.runs.grid_search import plan_trials
from clbench.runs.planned_runs import plan
from clbench.runs.request import Request
from clbench.training import continual_search
from clbench.training.continual_search import search

RECIPE = Recipe(network="mlp", lr=0.1, batch_size=16, epochs=1)


# -- the search, with the accuracy of each trial given ----------------------------------------------------------------


class Trial:
    """In place of an trainer: an experience whose validation accuracy follows from rate and weight."""

    def __init__(self, recipe: Recipe, strategy: Any, accuracy: Any) -> None:
        self.recipe, self.strategy, self.accuracy = recipe, strategy, accuracy
        self.costs = type("Costs", (), {"samples_seen": 10, "gradient_steps": 2})()

    def fit(self, index: int) -> bool:
        return True

    def validation_accuracy(self) -> float:
        return float(self.accuracy(self.recipe.lr, getattr(self.strategy.config, "alpha", None)))

    def release(self) -> None:
        self.__dict__.clear()


class Standing:
    """In place of the trainer that is about to train."""

    optimizer_state, model = None, "a network"

    def __init__(self) -> None:
        self.strategy = builtin("lwf")


def found(index: int, accuracy: Any, first_rate: float | None = None) -> continual_search.Search:
    def make(network: Any, strategy: Any, recipe: Recipe) -> Any:
        return Trial(recipe, strategy, accuracy)

    return search(index, Standing(), make, RECIPE, ContinualTuning(weight="alpha", start=10.0), first_rate)  # type: ignore[arg-type]


def test_the_first_experience_takes_the_rate_of_the_best_fine_tuning_and_no_weight() -> None:
    result = found(0, lambda lr, alpha: {0.5: 0.2, 0.1: 0.7, 0.05: 0.6}[round(lr, 3)])
    assert result.lr == pytest.approx(0.1) and result.weight is None
    assert [trial["lr"] for trial in result.trials] == pytest.approx([0.5, 0.1, 0.05])


def test_later_the_three_largest_rates_below_the_first_are_tried() -> None:
    result = found(2, lambda lr, alpha: lr, first_rate=0.1)
    tried = [trial["lr"] for trial in result.trials if trial["weight"] is None]
    assert tried == pytest.approx([0.05, 0.01, 0.005]) and result.lr == pytest.approx(0.05)


def test_the_weight_is_halved_until_the_accuracy_is_at_most_a_fifth_below_fine_tuning() -> None:
    # Fine-tuning reaches 0.9, so 0.72 is enough: LwF has 0.8 - alpha / 50, hence 0.6, 0.7 and, with 2.5, 0.75.
    result = found(1, lambda lr, alpha: 0.9 if alpha is None else 0.8 - alpha / 50, first_rate=0.5)
    assert result.weight == 2.5
    tried = [(trial["weight"], trial["validation_accuracy"]) for trial in result.trials if trial["weight"]]
    assert tried == [(10.0, pytest.approx(0.6)), (5.0, pytest.approx(0.7)), (2.5, pytest.approx(0.75))]
    assert (result.samples_seen, result.gradient_steps) == (60, 12)  # six trials: three rates, three weights


def test_after_seven_weights_the_search_takes_the_next_smaller_one() -> None:
    result = found(1, lambda lr, alpha: 0.9 if alpha is None else 0.0, first_rate=0.5)
    assert result.weight == 10 / 2**7
    assert sum(trial["weight"] is not None for trial in result.trials) == 7


def test_a_strategy_without_a_stability_weight_is_only_given_a_rate() -> None:
    def make(network: Any, strategy: Any, recipe: Recipe) -> Any:
        return Trial(recipe, strategy, lambda lr, alpha: lr)

    result = search(1, Standing(), make, RECIPE, ContinualTuning(), 0.5)  # type: ignore[arg-type]
    assert result.weight is None and len(result.trials) == 3


def test_trials_read_the_current_experience_only_and_leave_network_and_strategy_as_they_were() -> None:
    run = SmallRun(builtin("lwf"), RECIPE, colours(classes=6), (2, 2, 2)).learn(1)
    read: set[int] = set()

    class Watched(type(run.trainer)):  # type: ignore[misc]
        def forward(self, batch: Any) -> Any:
            read.update(batch.index.tolist())
            return super().forward(batch)

    def make(network: Any, strategy: Any, recipe: Recipe) -> Any:
        trial = SmallRun(strategy, recipe, colours(classes=6), (2, 2, 2)).trainer
        trial.__class__ = Watched
        trial.model = network
        return trial

    result = search(1, run.trainer, make, RECIPE, ContinualTuning(weight="alpha", start=10.0), 0.5)
    assert read and read <= set(run.rows(1)) and len(result.trials) >= 4
    assert same(run.trainer.model, run.models[0]) and run.trainer.strategy.config.alpha == 1.0


# -- whole runs -------------------------------------------------------------------------------------------------------


def stored(folder: Path) -> list[StoredRun]:
    runs, unreadable = read_all([folder])
    assert not unreadable
    return runs


@pytest.fixture(scope="module")
def tuned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    common: dict[str, Any] = {"epochs": 1, "threads": 1, "out": folder, "data": data}
    clbench.run(["naive", "lwf"], "splitdigits", tune="chf", **common)
    clbench.run(["naive", "lwf"], "splitdigits", tune="grid", seeds=2, **common)
    clbench.run("lwf", "splitdigits", tune="grid", set={"alpha": "0.5,4", "temperature": "1,3"}, **common)
    clbench.run(["lwf", "lwf:pycil"], "splitdigits", **common)
    clbench.run("lwf", "splitdigits", set={"alpha": 3}, **common)
    return folder


@pytest.mark.slow
def test_the_table_says_how_every_row_was_tuned(tuned: Path) -> None:
    kinds = {(run.spec.strategy.name, how_tuned(run)) for run in stored(tuned)}
    lwf = {("lwf", how) for how in ("chf", "grid (8 trials)", "default", "preset", "by hand")}
    assert kinds == {*lwf, ("naive", "chf"), ("naive", "default")}
    command = [sys.executable, "-m", "clbench", "compare", str(tuned)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    assert "tuned" in text and "grid (8" in text and "by hand" in text


@pytest.mark.slow
def test_continual_search_stands_in_the_result_with_its_cost(tuned: Path) -> None:
    (run,) = [r for r in stored(tuned) if r.spec.strategy.name == "lwf" and how_tuned(r) == "chf"]
    entries = [entry.tuning for entry in run.result.experiences]
    assert [entry.weight is None for entry in entries] == [True, False, False, False, False]
    for entry in entries:
        best = max(t.validation_accuracy or 0.0 for t in entry.trials if t.weight is None)
        chosen = [t for t in entry.trials if t.weight is None and t.lr == entry.lr]
        assert chosen[0].validation_accuracy == best
    assert run.result.totals.tuning_samples_seen == sum(entry.samples_seen for entry in entries) > 0


@pytest.mark.slow
def test_a_tuned_run_that_is_interrupted_ends_as_one_that_was_not(data: Path, tmp_path: Path) -> None:
    whole = clbench.run("lwf", "splitdigits", tune="chf", epochs=1, threads=1, out=tmp_path / "whole", data=data)[0]
    command = [sys.executable, "-m", "clbench", "run", "-s", "lwf", "-S", "splitdigits", "--tune", "chf"]
    command += ["--epochs", "1", "--threads", "1", "--out", str(tmp_path / "cut"), "--data", str(data)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "experience 1:" in line:
                process.kill()
                break
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (again,) = stored(tmp_path / "cut")
    assert (again.environment.resumed_after_experiences or 0) >= 1
    for file in ("spec.json", "result.json", "predictions.npz"):
        assert (again.path / file).read_bytes() == (whole.path / file).read_bytes(), file


@pytest.mark.slow
def test_grid_trials_run_on_other_class_orders_than_those_reported_and_on_no_test_data(tuned: Path) -> None:
    trials, finals = stored(tuned / ".tuning"), [r for r in stored(tuned) if r.spec.tuning]
    reported = {tuple(run.spec.scenario.class_order) for run in finals if isinstance(run.spec.tuning, GridTuning)}
    assert trials and reported
    for trial in trials:
        assert tuple(trial.spec.scenario.class_order) not in reported
        # 1,442 training images: what is trained on and what is judged by are both of them.
        assert trial.spec.scenario.held_out == 0.1
        judged = sum(trial.counts().total)
        assert 130 <= judged <= 160
        assert trial.result.totals.samples_seen == 1442 - judged
    assert all("held_out" not in json.loads((run.path / "spec.json").read_bytes())["scenario"] for run in finals)


@pytest.mark.slow
def test_the_best_candidate_of_the_grid_is_reported_with_all_that_was_tried(tuned: Path) -> None:
    for run in stored(tuned):
        record = run.spec.tuning
        if not isinstance(record, GridTuning):
            continue
        best = max(record.candidates, key=lambda candidate: candidate.validation_accuracy or 0.0)
        chosen = {name: float(run.spec.strategy.config[name]) for name in best.values}
        assert chosen == {name: float(value) for name, value in best.values.items()}
        tried = [r.result.totals.samples_seen for r in stored(tuned / ".tuning")]
        assert record.samples_seen == record.trials * tried[0] == run.result.totals.tuning_samples_seen
        scored = {c.validation_accuracy for c in record.candidates}
        pairs: dict[str, list[float]] = {}
        for trial in stored(tuned / ".tuning"):
            pairs.setdefault(trial.spec.strategy.model_dump_json(), []).append(trial.metric("final_accuracy"))
        means = {round(sum(values) / len(values), 12) for values in pairs.values()}
        assert {round(score, 12) for score in scored} <= means


@pytest.mark.slow
def test_lists_of_values_are_tried_in_every_combination(tuned: Path) -> None:
    grids = [run.spec.tuning.candidates for run in stored(tuned) if isinstance(run.spec.tuning, GridTuning)]
    (candidates,) = [each for each in grids if len(each) == 4 and "temperature" in each[0].values]
    tried = {(c.values["alpha"], c.values["temperature"]) for c in candidates}
    assert tried == {("0.5", "1.0"), ("0.5", "3.0"), ("4.0", "1.0"), ("4.0", "3.0")}


def test_equal_values_of_a_grid_are_the_same_runs_however_they_are_typed(data: Path, tmp_path: Path) -> None:
    def tuned_with(alpha: Any, rate: str, units: str, batch_norm: Any) -> list[StoredRun]:
        values = {
            "lwf.alpha": alpha,
            "recipe.lr": rate,
            "network.units": units,
            "network.train": "all",
            "network.batch_norm": batch_norm,
        }
        return list(clbench.run("lwf", "splitdigits", tune="grid", set=values, epochs=1, out=tmp_path, data=data))

    (one,) = tuned_with("1,2", "0.01", "8", "false")
    (other,) = tuned_with([1.0, 2.0], "0.010", "08", False)
    assert one.path == other.path
    assert isinstance(one.spec.tuning, GridTuning)
    fixed = {"recipe.lr": "0.01", "network.units": "8", "network.train": "all", "network.batch_norm": "false"}
    tried = [{"lwf.alpha": value, **fixed} for value in ("1.0", "2.0")]
    assert [dict(each.values) for each in one.spec.tuning.candidates] == [
        {name.removeprefix("lwf."): value for name, value in values.items()} for values in tried
    ]


def test_a_value_that_is_a_list_is_written_as_it_is_typed() -> None:
    recipe = clbench.Recipe(milestones=(2, 3.5))
    assert typed(recipe.milestones) == "2.0,3.5"
    assert [typed(each) for each in (None, True, 0.5, "a")] == ["none", "true", "0.5", "a"]


@pytest.mark.parametrize(
    ("stream", "options", "setting"),
    [("repetition", {"experiences": 5}, "class"), ("permuted", {"experiences": 3}, "domain")],
)
def test_the_grid_tries_on_the_stream_that_was_asked_for_in_another_order(
    stream: str, options: dict[str, int], setting: str, data: Path
) -> None:
    values = {"recipe.lr": "0.01,0.1", **{f"stream.{name}": value for name, value in options.items()}}
    request = Request(["er"], ["splitdigits"], stream=stream, setting=setting, set=values, tune="grid", data=data)
    (tuning,) = plan_trials(request, lambda event: None)
    assert tuning.candidates == ({"recipe.lr": "0.01"}, {"recipe.lr": "0.1"})
    (reported,) = plan(replace(request, tune=None, set=values | {"recipe.lr": 0.01}), lambda event: None)
    specs = [run.spec for runs in tuning.trials for run in runs]
    assert len(specs) == 4 and len({spec.seeds.class_order for spec in [*specs, reported.spec]}) == 3
    for spec in specs:
        assert spec.scenario.stream == reported.spec.scenario.stream
        assert len(spec.scenario.classes_per_experience) == options["experiences"]
    assert (
        reported.spec.scenario.in_words
        == {
            "repetition": "10 classes in 5 experiences, stream repetition",
            "permuted": "3 domains of 10 classes, stream permuted",
        }[stream]
    )


@pytest.mark.parametrize("tune", ["grid", None])
def test_a_list_of_values_of_a_stream_is_no_grid(tune: str | None, data: Path) -> None:
    request = Request(["er"], ["splitdigits"], stream="blurry", set={"stream.minor": "0.1,0.2"}, tune=tune, data=data)
    with pytest.raises(UsageError) as refused:
        plan_trials(request, lambda event: None) if tune else plan(request, lambda event: None)
    assert "stream.minor must be a valid number" in refused.value.message
    assert not refused.value.hint


def test_a_search_that_does_not_exist_is_a_mistake(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be 'chf' or 'grid'"):
        clbench.run("lwf", "splitdigits", tune="random", out=tmp_path, data=data)


def test_the_constants_of_continual_search_are_those_of_facil() -> None:
    # gridsearch.py: acc_drop_thr=0.2, hparam_decay=0.5, max_num_searches=7; gridsearch_config.py for lr 0.1.
    tuning = ContinualTuning()
    assert (tuning.tolerance, tuning.decay, tuning.searches) == (0.2, 0.5, 7)
    assert [0.1 * factor for factor in tuning.first_rates] == pytest.approx([0.5, 0.1, 0.05])
    assert [0.1 * factor for factor in tuning.rates] == pytest.approx([0.1, 0.05, 0.01, 0.005, 0.001])
    assert builtin("lwf").stability == ("alpha", 10.0) and builtin("ewc").stability == ("strength", 10_000.0)
