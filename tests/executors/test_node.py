"""A run is packed for another machine, executed there, and comes back complete."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clbench.base.events import Event, RunFinished, StepsTaken
from clbench.data.datasets import fetch
from clbench.errors import DataError, MachineError
from clbench.executors import node
from clbench.executors.node import Checkpoint, Node, Terms, check_node, clear_node, intact, lay_checkpoint
from clbench.executors.parcel import files_of, opened, packed
from clbench.results import environment, manifests
from clbench.runs.planned_runs import Planned, plan
from clbench.runs.request import Request


def planned(data: Path, *strategies: str, **options: Any) -> list[Planned]:
    """Runs on digits of one epoch."""
    request = Request(list(strategies), ["splitdigits"], epochs=1, device="cpu", data=data, **options)
    return plan(request, lambda event: None)


def terms(data: Path | None = None, **changes: Any) -> Terms:
    """What a command on this machine requires of others."""
    own = Terms("command", "elsewhere", environment.versions(), False, True, None if data is None else str(data))
    return dataclasses.replace(own, **changes)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The other machine's folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder


def test_a_parcel_has_the_plug_ins_that_only_this_machine_has_and_asks_for_each_file_once(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "mine.py").write_text(
        'import clbench\n\n\nclass Mine(clbench.Strategy):\n    """Mine."""\n\n'
        '    def loss(self, batch):\n        return batch.cross_entropy("seen")\n'
    )
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "own.py").write_text(
        "from torch import nn\n\n\ndef own(shape):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    first, second = planned(data, "mine", network="own", seeds=(0, 1))
    files = files_of(first, data)
    asked: list[str] = []

    def content(digest: str) -> bytes:
        asked.append(digest)
        return files[digest].read_bytes()

    there = opened(packed(first), tmp_path / "there", tmp_path / "no data", content)
    opened(packed(second), tmp_path / "there", tmp_path / "no data", content)
    assert sorted(asked) == sorted(files)
    assert there.name == first.name
    assert there.plugin.path.read_bytes() == first.plugin.path.read_bytes()
    assert there.network is not None and first.network is not None
    assert (there.network.name, there.network.read_bytes()) == ("own.py", first.network.read_bytes())


def test_avalanches_own_strategies_come_with_avalanche_and_do_not_travel(tmp_path: Path, data: Path) -> None:
    (run,) = planned(data, "avalanche:Naive")
    assert files_of(run, data) == {}

    def nothing(digest: str) -> bytes:
        raise AssertionError("nothing is to be sent")

    assert opened(packed(run), tmp_path, data, nothing).plugin.sha256 == run.plugin.sha256


@pytest.mark.slow
def test_a_node_gives_back_the_files_of_a_run_and_each_checkpoint_from_which_another_node_goes_on(
    tmp_path: Path, data: Path, temporary: Path
) -> None:
    (run,) = planned(data, "naive", track=("events",))
    files = files_of(run, data)
    events: list[Event] = []
    checkpoints: list[Checkpoint] = []
    first = Node(terms(data))

    def content(digest: str) -> bytes:
        return files[digest].read_bytes()

    done = first.do(packed(run), content, {}, events.append, checkpoints.append)
    assert (done.status, intact(done.files), len(checkpoints)) == ("finished", True, 5)
    assert json.loads(done.files["environment.json"])["executor"] == "elsewhere"
    assert not any(isinstance(event, RunFinished) for event in events)
    (folder,) = temporary.glob("clbench-*/command")
    assert folder.stat().st_mode & 0o077 == 0
    assert not list(folder.glob("results/splitdigits/naive/*"))
    first_events = len(events)
    # The last of three experiences' files, each sent once, is what a second node gets.
    resume = {name: each[name] for each in checkpoints[:3] for name in each}
    second = Node(terms(data, command="another"))
    again = second.do(packed(run), content, resume, events.append, checkpoints.append)
    first.close()
    second.close()
    assert json.loads(again.files["environment.json"])["resumed_after_experiences"] == 3
    same = ("spec.json", "result.json", "predictions.npz")
    assert [again.files[name] for name in same] == [done.files[name] for name in same]
    # What happened before comes along, and no step is there twice.
    losses = [loss for event in events[:first_events] if isinstance(event, StepsTaken) for loss in event.losses]
    for kept in (done.files["events.jsonl"], again.files["events.jsonl"]):
        told = [json.loads(line) for line in kept.splitlines()]
        assert [loss for event in told if event["event"] == "StepsTaken" for loss in event["losses"]] == losses


def test_files_that_changed_on_the_way_are_noticed() -> None:
    files = {"spec.json": b"{}", "predictions.npz": b"1234"}
    whole = {**files, "MANIFEST.json": manifests.of(files)}
    assert intact(whole)
    assert not intact({**whole, "predictions.npz": b"1235"})
    assert not intact({**whole, "more": b""})
    assert not intact({name: content for name, content in whole.items() if name != "spec.json"})
    assert not intact({})


def test_a_machine_without_the_data_is_told_what_brings_them(tmp_path: Path) -> None:
    with pytest.raises(DataError) as missing:
        check_node(terms(tmp_path), {"flowers": "0" * 64})
    assert "there is no dataset 'flowers'" in missing.value.message
    assert "clbench data import flowers PATH" in str(missing.value.hint)


def test_a_machine_with_other_images_under_the_same_name_is_refused(tmp_path: Path) -> None:
    fetch("digits", tmp_path)
    with pytest.raises(DataError, match="has other images than the one here"):
        check_node(terms(tmp_path), {"digits": "0" * 64})


def test_a_machine_without_a_built_in_dataset_fetches_it(tmp_path: Path) -> None:
    info = fetch("digits", tmp_path / "here")
    check_node(terms(tmp_path / "there"), {"digits": info.sha256})
    assert (tmp_path / "there" / "arrays" / "digits").is_dir()


def test_other_versions_are_refused_unless_they_are_accepted() -> None:
    other = {**environment.versions(), "torch": "1.0"}
    with pytest.raises(MachineError, match=r"torch .* \(not 1\.0\)") as refused:
        check_node(terms(versions=other), {})
    assert "--allow-mixed" in str(refused.value.hint)
    check_node(terms(versions=other, allow_mixed=True), {})


def test_a_folder_that_others_can_enter_is_not_used(temporary: Path) -> None:
    (temporary / f"clbench-{os.getuid()}").mkdir(mode=0o755)
    with pytest.raises(MachineError, match="is not private to this user"):
        Node(terms())


def test_only_the_workers_of_a_machine_import_torch() -> None:
    code = "import sys, clbench.executors.node; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_a_command_left_is_removed_and_what_another_is_using_is_not(temporary: Path) -> None:
    used = Node(terms(command="used"))
    ended = Node(terms(command="ended"))
    mine = Node(terms(command="mine"))
    ended.close()
    clear_node("mine")
    top = temporary / f"clbench-{os.getuid()}"
    assert [path.name for path in top.iterdir()] == ["used"]
    used.close()
    mine.close()


def test_a_folder_that_is_removed_before_it_is_held_is_made_again(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another command that ends in that moment."""
    lock, removed = fcntl.flock, []

    def after_another(file: Any, how: int) -> None:
        if how == fcntl.LOCK_SH and not removed:
            removed.append(True)
            clear_node("another")
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", after_another)
    node = Node(terms(command="mine"))
    clear_node("another")
    assert removed and (temporary / f"clbench-{os.getuid()}" / "mine" / "results").is_dir()
    node.close()


def test_the_file_that_says_how_far_a_checkpoint_is_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    real = node.replacing

    def noted(path: Path) -> Any:
        written.append(path.name)
        return real(path)

    monkeypatch.setattr(node, "replacing", noted)
    lay_checkpoint(tmp_path, {"checkpoint": b"2", "predictions-0": b"0", "predictions-1": b"1"})
    assert written[-1] == "checkpoint"
    assert (tmp_path / "checkpoint").stat().st_mode & 0o077 == 0
