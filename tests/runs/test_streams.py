"""Runs on streams of every kind, on the bundled digits: what strategies are told, what is counted, what is refused."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import clbench
from clbench.base.strategy import config_class
from clbench.comparison.grouping import compare
from clbench.data.datasets import describe
from clbench.data.feature_entries import list_features
from clbench.errors import UsageError
from clbench.plugins.discovery import builtin_folder, select
from clbench.runs.planned_runs import plan
from clbench.runs.request import Request
from clbench.runs.selection import load_class
from clbench.streams.kinds import stream_kind
from clbench.streams.stream import NetworkInput, open_stream

TOLD = '''"""Notes what it is told of the stream, in the loss alone."""
import clbench

SEEN = []

class Told(clbench.Strategy):
    def loss(self, batch):
        experience = batch.experience
        SEEN.append((experience.index, experience.classes_per_experience, batch.logits.shape[1], len(batch.y)))
        return batch.cross_entropy()
'''
DIES = '''"""Replay; the first time it is killed in the middle of the third experience."""
import os
import signal
from pathlib import Path

import clbench
from clbench import losses

class Dies(clbench.Strategy):
    memory = 50

    def start(self, model):
        self.exemplars, self.steps = clbench.ExemplarMemory(50), 0

    def loss(self, batch):
        self.steps += 1
        if self.steps == KILLED_AT and os.environ.get("DIE"):
            os.kill(os.getpid(), signal.SIGKILL)
        new = batch.cross_entropy()
        if not len(self.exemplars):
            return new
        old = self.exemplars.draw(10, batch)
        return new + losses.cross_entropy(batch.model(old.x), old.y)

    def after_step(self, batch):
        self.exemplars.reservoir(batch)
'''
PEEKS = '''"""Reads a sample of an earlier experience again, through a batch that it kept."""
import torch
import clbench

class Peeks(clbench.Strategy):
    first = None

    def loss(self, batch):
        if self.first is None:
            self.first = batch.index[:1].clone()
        if batch.experience.index == 2:
            batch.source.original(self.first)
        return batch.cross_entropy()
'''


def strategy(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(text)
    return str(folder / f"{name}.py")


def run(tmp_path: Path, data: Path, what: str | list[str], **options: Any) -> clbench.Runs:
    return clbench.run(what, "splitdigits", device="cpu", out=tmp_path / "results", data=data, **options)


def published(results: Path) -> dict[str, bytes]:
    """What does not depend on when and how a run was made: files by path."""
    apart = ("environment.json", "costs.json", "MANIFEST.json")
    files = (path for path in results.rglob("*") if path.is_file() and path.name not in apart)
    return {str(path.relative_to(results)): path.read_bytes() for path in files if ".work" not in path.parts}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stream", "sizes"),
    [
        ("online", (2, 2, 2, 2, 2)),
        ("blurry", (6, 1, 1, 1, 1)),
        ("repetition", (3, 1, 1, 1, 1, 1, 0, 1, 0, 1) + (0,) * 10),
        ("data_incremental", (10, 0, 0, 0, 0)),
        ("long_tailed", (2, 2, 2, 2, 2)),
        ("noisy_labels", (2, 2, 2, 2, 2)),
        ("permuted", (10,) * 10),
        ("rotated", (10,) * 10),
    ],
)
def test_a_run_on_each_stream_passes_the_audit_and_is_compared(
    tmp_path: Path, data: Path, stream: str, sizes: tuple[int, ...]
) -> None:
    one_epoch = {} if stream in ("online", "blurry") else {"epochs": 1}
    setting = {"setting": "domain"} if stream in ("permuted", "rotated") else {}
    fewer = {"set": {"stream.samples": 40}} if len(sizes) > 5 else {}
    runs = run(tmp_path, data, ["naive", "er", "joint"], stream=stream, **one_epoch, **setting, **fewer)
    scenario = runs[0].spec.scenario
    assert scenario.stream is not None
    assert (scenario.stream.name, scenario.classes_per_experience) == (stream, sizes)
    assert {each.result.audit.verdict for each in runs} == {"pass"}
    (comparison,) = compare(runs)
    assert {row.strategy for row in comparison.rows} == {"naive", "er", "joint"}
    assert set(clbench.load(tmp_path / "results")["run"]) == {each.run_id for each in runs}  # which checks every number
    clbench.report(tmp_path / "results", out=tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert stream in page
    assert ("forward transfer" in page) == bool(setting)


@pytest.mark.slow
def test_the_split_of_the_classes_is_the_same_run_with_and_without_its_name(tmp_path: Path, data: Path) -> None:
    plain = run(tmp_path, data, "naive", epochs=1)[0]
    assert run(tmp_path, data, "naive", epochs=1, stream="class")[0].run_id == plain.run_id
    assert plain.spec.scenario.stream is None
    assert b"stream" not in (plain.path / "spec.json").read_bytes()


@pytest.mark.slow
def test_evaluations_within_experiences_change_no_weights(tmp_path: Path, data: Path) -> None:
    often, never = (
        run(tmp_path, data, "er", stream="online", set={"stream.evaluate_every": every})[0] for every in (7, 0)
    )
    assert often.run_id != never.run_id
    assert [each.weights_sha256 for each in often.result.experiences] == [
        each.weights_sha256 for each in never.result.experiences
    ]


@pytest.mark.slow
def test_what_makes_its_classifier_after_an_experience_is_evaluated_by_the_head_within_it(
    tmp_path: Path, data: Path
) -> None:
    runs = run(tmp_path, data, ["naive", "icarl", "ncm"], epochs=1, set={"stream.evaluate_every": 3})
    naive, icarl, ncm = (each.result.curves["class_incremental"] for each in runs)
    first = naive.experiences.count(0)
    assert first == icarl.experiences.count(0) == len(ncm.steps) > 1
    assert naive.correct[:first] == ncm.correct  # which trains its trunk as naive does
    assert naive.steps[:first] == icarl.steps[:first] and set(icarl.experiences) == set(range(5))


@pytest.mark.slow
def test_a_run_has_its_evaluations_within_the_first_experience_whatever_runs_before_it(
    tmp_path: Path, data: Path
) -> None:
    # Both train the first experience by plain fine-tuning, which one of them would take from the other.
    runs = run(tmp_path, data, ["lwf", "ewc"], stream="online", set={"stream.evaluate_every": 10})
    first, second = (each.result.curves["class_incremental"] for each in runs)
    assert first.steps == second.steps
    assert first.steps[:3] == (10, 20, 40)  # the first experience has 30 gradient steps
    assert first.correct[:2] == second.correct[:2]


@pytest.mark.slow
def test_whoever_tracks_a_run_is_told_of_its_evaluations_within_experiences_in_the_order_of_the_steps(
    tmp_path: Path, data: Path
) -> None:
    (made,) = run(tmp_path, data, "er", stream="online", set={"stream.evaluate_every": 20}, track="events")
    events = [json.loads(line) for line in (made.path / "events.jsonl").read_text().splitlines()]
    steps = [each["step"] for each in events if "step" in each]
    assert steps == sorted(steps)
    within = [each for each in events if each["event"] == "EvaluatedWithin"]
    curve, total = made.result.curves["class_incremental"], made.counts().total
    assert [each["step"] for each in within] == list(curve.steps)
    for each, i, right in zip(within, curve.experiences, curve.correct, strict=True):
        assert each["metrics"]["class_incremental/accuracy_seen"] == sum(right) / sum(total[: i + 1])
        assert each["metrics"]["class_incremental/new_accuracy"] == right[i] / total[i]
        assert each["metrics"].get("class_incremental/old_accuracy") == (sum(right[:i]) / sum(total[:i]) if i else None)
    *_, last = (each["metrics"] for each in events if each["event"] == "ExperienceFinished")
    for name in ("anytime_accuracy", "minimum_accuracy", "stability_gap"):
        assert last[f"class_incremental/{name}"] == made.metric(name)


@pytest.mark.slow
def test_an_online_stream_passes_once_in_batches_of_ten_with_as_many_steps_as_the_recipe_says(
    tmp_path: Path, data: Path
) -> None:
    once, thrice = (
        run(tmp_path, data, "naive", stream="online", set={"recipe.steps_per_batch": steps})[0].result
        for steps in (1, 3)
    )
    for single, triple in zip(once.experiences, thrice.experiences, strict=True):
        assert single.gradient_steps == -(-single.samples_seen // 10) == triple.gradient_steps // 3
        assert triple.samples_seen == 3 * single.samples_seen
    info = describe("digits", data)
    assert info is not None
    assert sum(each.samples_seen for each in once.experiences) == info.train_size


@pytest.mark.slow
def test_without_boundaries_a_strategy_is_told_of_no_experience(tmp_path: Path, data: Path) -> None:
    told = strategy(tmp_path, "told", TOLD)
    run(tmp_path, data, told, stream="blurry")
    (module,) = (module for name, module in sys.modules.items() if "told" in name and hasattr(module, "SEEN"))
    assert module.SEEN[0] == (0, (6, 4), 10, 10)
    # From the first step on all classes that came are old ones, and the index stays as it is.
    assert {index for index, *_ in module.SEEN[1:]} == {1}
    assert module.SEEN[1][1] == (6, 0, 4)
    assert module.SEEN[-1][1] == (10, 0)


def test_all_strategies_are_those_that_can_learn_where_classes_return(data: Path) -> None:
    said: list[Any] = []
    asked = {"strategy": "all", "scenario": "splitdigits", "stream": "repetition", "data": data}
    planned = plan(Request.from_python(asked), said.append)
    chosen = {run.spec.strategy.name for run in planned}
    assert {"naive", "er", "slda"} <= chosen and not {"lwf", "frozen", "fetril"} & chosen
    (left_out,) = [note.text for note in said if "left out" in note.text]
    assert "lwf" in left_out and "fetril" in left_out


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        ("lwf", {"stream": "blurry"}, "lwf needs to know where an experience begins and ends, for its teacher_output"),
        ("er:hsu2018", {"stream": "blurry"}, "er:hsu2018 needs to know where an experience begins and ends"),
        ("lwf:der2020", {"stream": "online", "set": {"recipe.head": "fixed"}}, "lwf:der2020 needs several passes"),
        (
            "frozen",
            {"stream": "repetition", "set": {"frozen.head": "all_rows"}},
            "--set frozen.cross_entropy_over=seen",
        ),
        ("ncm", {"stream": "blurry"}, "ncm needs to know where an experience begins and ends"),
        ("lwf", {"stream": "repetition"}, "its cross-entropy ranges over the new classes of an experience alone"),
        (
            "lwf",
            {"stream": "online", "set": {"warmup_epochs": 1}},
            "lwf needs several passes over its training data, but the stream online gives 1",
        ),
        ("gdumb", {"stream": "online"}, "gdumb needs several passes over its training data"),
        ("frozen", {"stream": "blurry"}, "frozen needs to know where an experience begins and ends"),
        ("naive", {"stream": "online", "epochs": 2}, "--epochs has no effect on the stream online"),
        ("naive", {"stream": "online", "set": {"recipe.iterations": 9}}, "recipe.iterations has no effect"),
        ("naive", {"stream": "online", "set": {"recipe.batch_size": 9}}, "Use --set stream.batch_size=N"),
        (
            "fetril",
            {"stream": "data_incremental"},
            "fetril cannot learn on the stream data_incremental",
        ),
        ("imprint", {"stream": "data_incremental"}, "imprint adds output units"),
        ("fecam", {"stream": "repetition"}, "fecam cannot update the covariance of a class with more data"),
        ("dsal", {"stream": "repetition"}, "dsal compensates for new classes"),
        (
            "naive",
            {"stream": "permuted", "class_order": "natural"},
            "--class-order has no effect on the stream",
        ),
        (
            "naive",
            {"stream": "blurry", "set": {"recipe.schedule": "cosine"}},
            "recipe.schedule has no effect on the stream blurry: it would reveal where an experience begins",
        ),
        (
            "naive",
            {"stream": "blurry", "set": {"recipe.optimizer": "adam", "recipe.head": "growing"}},
            "recipe.head = growing has no effect on the stream blurry: it would reveal",
        ),
        ("naive", {"stream": "repetition", "split": 2}, "--split has no effect on the stream repetition"),
        (
            "naive",
            {"stream": "blurry", "setting": "task"},
            "classes return in the stream blurry, so it can only be class-incremental",
        ),
        ("naive", {"stream": "online", "set": {"stream.minor": 0.1}}, "stream has no option 'minor'"),
        ("naive", {"stream": "onlin"}, "did you mean 'online'"),
        ("lwf", {"stream": "permuted", "setting": "domain", "tune": "chf"}, "--tune chf chooses by the classes"),
        ("naive", {"stream": "repetition", "set": {"stream.experiences": 5000}}, "more than the 1442 training images"),
        ("naive", {"stream": "data_incremental", "set": {"stream.experiences": 1000}}, "(147 at most)"),
        ("naive", {"stream": "blurry", "set": {"stream.minor": 0.01}}, "has 1 for the 4 experiences besides its own"),
        ("naive", {"stream": "noisy_labels", "split": 10}, "noisy_labels changes no label here"),
        ("naive", {"set": {"stream.samples": 1}}, "stream.samples = 1 is fewer than the 2 classes of an experience"),
        (
            "naive",
            {"stream": "rotated", "set": {"stream.angles": "0,90", "stream.experiences": 10}},
            "stream.experiences has no effect, since stream.angles is given",
        ),
    ],
)
def test_what_a_stream_does_not_give_is_refused_before_training(
    tmp_path: Path, data: Path, what: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        run(tmp_path, data, what, **options)
    assert message in f"{refused.value.message}\n{refused.value.hint}"
    assert not list(tmp_path.glob("results/*/*/*"))


def test_all_means_the_strategies_that_can_learn_the_stream_and_the_others_are_named(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    notes: list[Any] = []
    planned = plan(Request(["all"], ["splitdigits"], stream="blurry", data=data), notes.append)
    assert {run.plugin.name for run in planned} == {"derpp", "er", "er_ace", "joint", "mir", "naive"}
    (note,) = [note.text for note in notes if "left out" in note.text]
    assert "cannot be run here and are left out: acil, agem, " in note
    with pytest.raises(UsageError, match="split"):  # what suits no strategy is said as it is
        plan(Request(["all"], ["splitdigits"], split="99", data=data), notes.append)


def test_angles_replace_what_a_recipe_says_of_the_drawn_ones(data: Path) -> None:
    request = Request(["naive"], ["rotatedmnist"], recipe="der2020", set={"stream.angles": "0,45"}, data=data)
    (planned,) = plan(request, lambda event: None, bring=False)
    assert planned.spec.scenario.domains == ("0°", "45°")


ROTATED = '''"""Rotated digits."""

import clbench


class Turned(clbench.Scenario):
    dataset = "digits"
    stream = "rotated"
    stream_options = {"experiences": 3}
    setting = "domain"
    recipes = {"quick": clbench.Recipe(epochs=1)}
'''


def test_a_scenario_whose_stream_takes_no_split_needs_none(tmp_path: Path, data: Path) -> None:
    (tmp_path / "turned.py").write_text(ROTATED)
    (planned,) = plan(Request(["naive"], [str(tmp_path / "turned.py")], data=data), lambda event: None)
    assert planned.spec.scenario.classes_per_experience == (10, 10, 10)


def test_an_experience_that_leaves_nothing_to_validate_on_is_named(tmp_path: Path, data: Path) -> None:
    values = {"recipe.validation": 0.1, "recipe.schedule": "plateau", "stream.samples": 2}
    with pytest.raises(clbench.RunsFailed, match="experience 0 has no sample to hold out for validation"):
        run(tmp_path, data, "naive", stream="noisy_labels", set=values, epochs=1)


@pytest.mark.parametrize("stream", ["data_incremental", "repetition"])
def test_avalanches_icarl_is_refused_where_classes_return(tmp_path: Path, data: Path, stream: str) -> None:
    with pytest.raises(UsageError, match=f"avalanche:ICaRL cannot learn on the stream {stream}, where old classes"):
        run(tmp_path, data, "avalanche:ICaRL", stream=stream, epochs=1)


@pytest.mark.parametrize("name", ["data_incremental", "repetition"])
def test_an_avalanche_benchmark_has_the_classes_that_return_and_tests_them(data: Path, name: str) -> None:
    kind, split = stream_kind(name, {"experiences": 4}), (2,) * 5
    sha256 = describe("digits", data).sha256
    sizes, place = kind.new_classes(split), ("standardized", "float32", "cpu")
    order = tuple(range(10))
    stream = open_stream("digits", sha256, data, sizes, order, "class_incremental", 0, *place, kind=kind, split=split)
    benchmark, before = stream.as_avalanche(), set[int]()
    for train, test in zip(benchmark.train_stream, benchmark.test_stream, strict=True):
        own = set(train.dataset.targets)
        assert own == set(train.classes_in_this_experience) == set(test.dataset.targets)
        assert len(test.dataset) == sum((stream.test_labels == each).sum() for each in own)
        assert set(train.previous_classes) == before and set(train.future_classes) == set(range(10)) - before - own
        before |= own
        assert set(train.classes_seen_so_far) == before
    assert sum(len(train.classes_in_this_experience) for train in benchmark.train_stream) > 10


def test_the_documentation_names_the_strategies_that_need_no_boundaries() -> None:
    paths = [path for path in builtin_folder("strategy").glob("*.py") if not path.name.startswith("_")]
    loaded = {path.stem: load_class(select("strategy", str(path))) for path in paths}
    free = {name for name, cls in loaded.items() if not cls.dialects_of and not cls.boundary_hooks(config_class(cls)())}
    page = Path(__file__).parents[2] / "docs" / "streams.md"
    (sentence,) = re.findall(r"`ewc`, are refused. (.*?) need none", page.read_text(), re.DOTALL)
    assert set(re.findall(r"`(\w+)`", sentence)) == free


@pytest.mark.slow
def test_a_sample_that_returns_may_be_read_and_one_that_does_not_may_not(tmp_path: Path, data: Path) -> None:
    peeks = strategy(tmp_path, "peeks", PEEKS)
    stays_away = run(tmp_path, data, peeks, stream="repetition", epochs=1, set={"stream.repeat": 0})[0]
    assert stays_away.result.audit.verdict == "violation(old data)"
    # With two experiences of all classes and a class's samples used up, those of the first return in the third.
    options = {"stream.experiences": 3, "stream.first": 1, "stream.repeat": 1}
    returns = run(tmp_path, data, "er", stream="repetition", epochs=1, set=options)[0]
    assert returns.result.audit.verdict == "pass"
    assert returns.result.experiences[2].reads.earlier == 0


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["online", "blurry", "repetition"])
def test_killed_within_an_experience_and_repeated_a_run_ends_as_one_that_was_not(
    tmp_path: Path, data: Path, stream: str
) -> None:
    killed_at = 80 if stream != "repetition" else 8
    dies = strategy(tmp_path, "dies", DIES.replace("KILLED_AT", str(killed_at)))
    command = [sys.executable, "-m", "clbench", "run", "-s", dies, "-S", "splitdigits", "--stream", stream]
    command += ["--device", "cpu", "--data", str(data), "--set", "stream.evaluate_every=5"]
    command += ["--epochs", "1"] if stream == "repetition" else []

    def ended(out: str, **environment: str) -> int:
        whole = {**os.environ, **environment}
        return subprocess.run([*command, "--out", out], cwd=tmp_path, env=whole, timeout=120, check=False).returncode

    assert ended("killed", DIE="1") == -signal.SIGKILL
    assert list(tmp_path.glob("killed/.work/*/checkpoint"))
    assert ended("killed") == ended("whole") == 0
    assert published(tmp_path / "killed") == published(tmp_path / "whole") != {}


def test_the_head_alone_trains_on_features_of_the_domains_of_its_seed(tmp_path: Path, data: Path) -> None:
    before = {each.path for each in list_features(data)}
    options = {"network": "cnn", "weights": "none", "set": {"network.train": "head", "stream.experiences": 2}}
    runs = run(tmp_path, data, "ncm", stream="permuted", setting="domain", seeds=2, **options)
    assert {each.result.audit.verdict for each in runs} == {"pass"}
    entries = [each.entry for each in list_features(data) if each.path not in before]
    assert len({entry.key["pixel_maps"] for entry in entries if entry}) == len(entries) == 2
    info = describe("digits", data)
    assert info is not None
    assert {entry.arrays["test"].shape[0] for entry in entries if entry} == {2 * info.test_size}


def test_the_test_images_of_a_domain_are_mapped_as_its_training_images_are(tmp_path: Path, data: Path) -> None:
    info = describe("digits", data)
    assert info is not None
    kind = stream_kind("rotated", {"angles": "0,90"})
    stream = open_stream(
        "digits",
        info.sha256,
        data,
        (10, 10),
        tuple(range(20)),
        "domain_incremental",
        0,
        "unit",
        "float32",
        "cpu",
        kind=kind,
        split=(10,),
    )
    count = info.test_size
    upright, turned = (stream.test_set.images.read(torch.arange(5) + start).numpy() for start in (0, count))
    assert (turned == np.rot90(upright, axes=(1, 2))).all()
    assert (stream.test_set.positions[count:] - stream.test_set.positions[:count] == 10).all()
    assert [len(rows) for rows in stream.rows] == [info.train_size] * 2


def test_where_a_network_enlarges_the_images_of_domains_fewer_go_through_it_at_once(data: Path) -> None:
    sha256, place = describe("digits", data).sha256, ("unit", "float32", "cpu")
    kind, order = stream_kind("rotated", {"angles": "0,90"}), tuple(range(20))
    setting, enlarged = "domain_incremental", NetworkInput(size=64)
    stream = open_stream(
        "digits", sha256, data, (10, 10), order, setting, 0, *place, expected=enlarged, kind=kind, split=(10,)
    )
    assert stream.images.inference_batch == stream.test_set.images.inference_batch == 2**20 // 64**2
