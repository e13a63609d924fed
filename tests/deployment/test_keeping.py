"""--keep-networks: what is kept, that nothing else is different, and what is refused before anything is trained."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import kept_runs
import numpy as np
import pytest
import torch

import clbench
from clbench.api.comparing import RunsFailed
from clbench.base.events import Event, ExperienceFinished
from clbench.data.datasets import open_dataset
from clbench.errors import MachineError, UsageError
from clbench.results import manifests
from clbench.results.network_record import NetworkRecord
from clbench.results.store import ResultsFolder
from clbench.results.stored_run import StoredRun
from clbench.runs.context import RunContext
from clbench.runs.grid_search import plan_trials
from clbench.runs.planned_runs import Planned, plan
from clbench.runs.request import Request
from clbench.runs.run import execute
from clbench.system.signals import Interrupted, Interruption

EQUAL = ("spec.json", "result.json", "predictions.npz")
SMALL = {"scenario": "splitdigits", "epochs": 1, "threads": 1, "device": "cpu"}


def record(kept: StoredRun, stem: str = "network") -> NetworkRecord:
    return NetworkRecord.model_validate_json((kept.path / f"{stem}.json").read_bytes())


def planned(strategy: str, data: Path, keep: str | None, **given: Any) -> Planned:
    asked = Request.from_python({**SMALL, "strategy": strategy, "data": data, "keep_networks": keep, **given})
    return plan(asked, lambda event: None)[0]


def answers(kept: StoredRun, data: Path) -> np.ndarray[Any, Any]:
    """The outputs that the network of a run answers its test images with."""
    network = clbench.load_network(kept.path)
    with torch.no_grad():
        x = torch.stack([network.transform(image) for image in open_dataset("digits", data).x_test])
        return np.asarray(network(x).argmax(dim=1))


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["last", "all"])
def test_a_run_is_bit_equal_whether_or_not_its_networks_are_kept(keep: Any, data: Path, tmp_path: Path) -> None:
    without = kept_runs.run("er", tmp_path / "without", data)
    kept = kept_runs.run("er", tmp_path / "kept", data, keep_networks=keep)
    assert kept.path.name == without.path.name
    for name in EQUAL:
        assert (kept.path / name).read_bytes() == (without.path / name).read_bytes()
    assert not list(without.path.glob("network*"))


@pytest.mark.slow
def test_a_network_per_experience_is_kept_and_stands_in_the_manifest(kept: StoredRun) -> None:
    stems = {"network", *(f"network-experience-{index}" for index in range(4))}
    files = {f"{stem}.{suffix}" for stem in stems for suffix in ("json", "safetensors")}
    assert {path.name for path in kept.path.glob("network*")} == files
    manifest = manifests.Manifest.model_validate_json((kept.path / manifests.MANIFEST).read_bytes())
    assert files <= set(manifest.files) and manifests.damage(kept.path) is None


@pytest.mark.slow
def test_the_record_says_what_the_network_is(kept: StoredRun) -> None:
    found, order = record(kept), kept.spec.scenario.class_order
    assert found.origin.run_id == kept.result.run_id and found.origin.experience == 4
    assert found.classes == tuple(map(str, order)) and found.experiences == (2, 2, 2, 2, 2)
    assert record(kept, "network-experience-1").classes == tuple(map(str, order[:4]))
    assert found.network == kept.spec.network and found.lineage == ()
    assert found.classifier.name == "Linear"


def test_the_record_has_the_whole_way_from_an_image_to_the_input(strangers: StoredRun) -> None:
    found = record(strangers).input
    assert (found.image.height, found.image.width, found.image.channels) == (8, 8, 1)
    assert (found.padding, found.channels, found.height, found.width) == (1, 3, 12, 12)
    assert (found.mean, found.std) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.4))
    assert found.resizing == "bilinear, antialiased"


def test_with_a_frozen_trunk_the_whole_network_is_kept(data: Path, tmp_path: Path) -> None:
    kept = kept_runs.run("naive", tmp_path, data, network="cnn", set={"network.train": "head"}, keep_networks="last")
    names = np.array(record(kept).classes).astype(int)
    assert (names[answers(kept, data)] == kept_runs.predicted(kept, 4)).all()


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "classifier"), [("ncm", "NearestMean"), ("bic", "LinearScores")])
def test_what_classifies_in_place_of_the_head_is_kept(
    strategy: str, classifier: str, data: Path, tmp_path: Path
) -> None:
    kept = kept_runs.run(strategy, tmp_path, data, keep_networks="last")
    assert record(kept).classifier.name == classifier
    names = np.array(record(kept).classes).astype(int)
    assert (names[answers(kept, data)] == kept_runs.predicted(kept, 4)).all()


def test_of_a_fixed_head_the_outputs_of_the_classes_that_have_come_are_kept(data: Path, tmp_path: Path) -> None:
    kept = kept_runs.run("naive", tmp_path, data, set={"recipe.head": "fixed"}, keep_networks="all")
    network = clbench.load_network(kept.path / "network-experience-1.json")
    assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 4) == (1, len(network.classes))


def test_domain_incrementally_an_output_is_named_by_all_its_classes(data: Path, tmp_path: Path) -> None:
    kept = kept_runs.run("naive", tmp_path, data, setting="domain", class_order="natural", keep_networks="last")
    assert record(kept).classes == ("0 | 2 | 4 | 6 | 8", "1 | 3 | 5 | 7 | 9")
    # Class 2k + j is output j of experience k.
    assert (answers(kept, data) == kept_runs.predicted(kept, 4) % 2).all()


def test_on_a_stream_of_domains_an_output_is_named_by_the_class_that_all_share(data: Path, tmp_path: Path) -> None:
    options = {"stream": "rotated", "set": {"stream.angles": "0,90"}, "epochs": 1}
    kept = kept_runs.run("naive", tmp_path, data, setting="domain", keep_networks="last", **options)
    assert record(kept).classes == tuple("0123456789")


def test_class_incrementally_each_class_of_each_domain_has_an_output_of_its_own(data: Path, tmp_path: Path) -> None:
    options = {"stream": "rotated", "set": {"stream.angles": "0,90"}, "epochs": 1}
    kept = kept_runs.run("naive", tmp_path, data, keep_networks="last", **options)
    assert record(kept).classes == tuple(f"{angle}°/{digit}" for angle in (0, 90) for digit in range(10))
    found = answers(kept, data)  # of the images as they are, which are those of the first domain
    assert (found == kept_runs.predicted(kept, 1)[: len(found)]).all()


def test_an_experience_that_was_not_trained_has_no_network_to_keep(data: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"set": {"joint.experiences": "last"}, "keep_networks": "all"}
    kept = kept_runs.run("joint", tmp_path, data, **given)
    assert {path.name for path in kept.path.glob("network*")} == {"network.json", "network.safetensors"}
    assert kept_runs.run("joint", tmp_path, data, **given).path == kept.path


@pytest.mark.slow
def test_runs_in_worker_processes_keep_theirs_too(data: Path, tmp_path: Path) -> None:
    runs = clbench.run(["naive", "er"], out=tmp_path, data=data, jobs=2, keep_networks="last", **SMALL)
    assert all((run.path / "network.json").is_file() for run in runs)


def interrupted_after(run: Planned, index: int, keep: Any, results: Path, data: Path) -> None:
    interruption = Interruption()

    def listen(event: Event) -> None:
        if isinstance(event, ExperienceFinished) and event.experience == index:
            interruption.request(signal.SIGTERM)

    with pytest.raises(Interrupted):
        execute(run.spec, run.plugin, RunContext(ResultsFolder(results), data, interruption, listen, keep=keep))


@pytest.mark.slow
def test_a_run_that_ended_before_it_was_published_has_kept_the_networks_of_all_experiences(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned("naive", data, "all")
    context = RunContext(ResultsFolder(tmp_path / "out"), data, Interruption(), lambda event: None, keep=run.keep)
    with monkeypatch.context() as patch, pytest.raises(MachineError, match="No space left"):
        patch.setattr(ResultsFolder, "publish", no_space)
        execute(run.spec, run.plugin, context)
    kept = execute(run.spec, run.plugin, context).path
    assert len(list(kept.glob("network*.safetensors"))) == 5


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.slow
def test_a_run_that_was_interrupted_has_kept_the_networks_of_all_experiences(data: Path, tmp_path: Path) -> None:
    whole = kept_runs.run("lwf", tmp_path / "whole", data, keep_networks="all")
    run = planned("lwf", data, "all")
    interrupted_after(run, 2, "all", tmp_path / "stopped", data)
    resumed = kept_runs.run("lwf", tmp_path / "stopped", data, keep_networks="all")
    for path in whole.path.glob("network*"):
        assert (resumed.path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_a_run_that_was_begun_without_keeping_each_network_says_what_can_be_done(data: Path, tmp_path: Path) -> None:
    interrupted_after(planned("lwf", data, None), 2, None, tmp_path, data)
    with pytest.raises(UsageError, match="was begun without --keep-networks all") as refused:
        kept_runs.run("lwf", tmp_path, data, keep_networks="all")
    assert "--out DIR" in str(refused.value)
    assert (kept_runs.run("lwf", tmp_path, data, keep_networks="last").path / "network.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("had", "asked"), [(None, "last"), ("last", "all")])
def test_a_finished_run_is_not_changed_to_have_its_networks(had: Any, asked: Any, data: Path, tmp_path: Path) -> None:
    before = kept_runs.run("naive", tmp_path, data, keep_networks=had)
    content = {path.name: path.read_bytes() for path in before.path.iterdir()}
    with pytest.raises(UsageError, match="is finished and has") as refused:
        kept_runs.run("naive", tmp_path, data, keep_networks=asked)
    assert "--out DIR" in str(refused.value)
    assert {path.name: path.read_bytes() for path in before.path.iterdir()} == content


OWN = """
import clbench
import torch

class Odd(torch.nn.Module):
    def forward(self, features):
        return features[:, :10]

class {name}(clbench.Strategy):
    def loss(self, batch):
        return batch.cross_entropy()

    def {hook}
"""


def test_a_strategy_that_predicts_by_its_own_code_is_refused_before_training(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN.format(name="Mine", hook="predict(self, model, x, experience):\n        return model(x)"))
    with pytest.raises(UsageError, match="the networks of mine cannot be kept: it predicts with code of the strategy"):
        planned(str(file), data, "last")
    assert planned(str(file), data, None).keep is None


def test_a_classifier_that_no_file_can_hold_ends_the_run_after_its_first_experience(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN.format(name="Mine", hook="classifier(self, model, experience):\n        return Odd()"))
    with pytest.raises(RunsFailed, match="classifies by a Odd, which cannot be stored"):
        kept_runs.run(str(file), tmp_path / "results", data, keep_networks="last")


@pytest.mark.slow
def test_every_built_in_strategy_can_be_kept(data: Path) -> None:
    asked = Request.from_python({**SMALL, "strategy": "all", "data": data, "keep_networks": "last"})
    assert {run.keep for run in plan(asked, lambda event: None)} == {"last"}


def test_networks_too_large_for_a_run_are_refused_after_the_first(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "LARGEST_RUN", 3 * 2**20)  # five networks of 0.75 MB are more
    with pytest.raises(UsageError, match=r"5 networks of 750\.3 kB are more than a run may hold"):
        kept_runs.run("naive", tmp_path, data, keep_networks="all")


@pytest.mark.slow
def test_trials_keep_no_networks(data: Path, tmp_path: Path) -> None:
    asked = {**SMALL, "strategy": "lwf", "data": data, "keep_networks": "last", "tune": "grid", "out": tmp_path}
    (tuning,) = plan_trials(Request.from_python(asked), lambda event: None)
    assert {run.keep for runs in tuning.trials for run in runs} == {None}


def test_a_word_that_is_neither_last_nor_all_is_refused(data: Path) -> None:
    with pytest.raises(UsageError, match=r"must be 'last' or 'all' .*did you mean 'last'"):
        planned("naive", data, "lats")
