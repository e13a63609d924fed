"""Checkpoints: what a boundary writes, and what is read of it."""

from __future__ import annotations

import hashlib
import io
import os
import re
import resource
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import clbench
from clbench.errors import MachineError, PluginError
from clbench.plugins.networks import build
from clbench.results import environment
from clbench.results.store import ResultsFolder
from clbench.results.stored_run import StoredRun
from clbench.runs import checkpoint
from clbench.runs.checkpoint import Checkpoint, OfAnotherVersion


def at_boundary(finished: int, **strategy: Any) -> Checkpoint:
    """A checkpoint after some experiences, each with other predictions; the second was not evaluated."""
    predictions = [
        None if index == 1 else {"class_incremental": np.full(1000, index, dtype=np.int16)} for index in range(finished)
    ]
    return Checkpoint(finished, build("mlp", (2, 2, 1), 0), strategy, predictions, [], [], [])


def test_what_was_saved_boundary_by_boundary_is_loaded_whole(tmp_path: Path) -> None:
    for finished in (1, 2, 3):
        checkpoint.save(tmp_path, at_boundary(finished, value=finished))
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert (found.finished, found.strategy) == (3, {"value": 3})
    assert found.predictions[1] is None
    assert [found.predictions[index]["class_incremental"][0] for index in (0, 2)] == [0, 2]


def test_a_boundary_writes_as_much_however_many_lie_behind_it(tmp_path: Path) -> None:
    written = []
    for finished in range(1, 21):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        checkpoint.save(tmp_path, at_boundary(finished))
        changed = [path for path in tmp_path.iterdir() if before.get(path) != path.stat().st_mtime_ns]
        written.append(sum(path.stat().st_size for path in changed))
    # What is said of each experience is a few numbers; its thousand predictions are not written again.
    assert written[19] - written[2] < 1000


@pytest.mark.parametrize("file", ["checkpoint", "predictions-0", "predictions-1"])
@pytest.mark.parametrize("harm", ["changed", "emptied", "removed"])
def test_a_checkpoint_of_which_anything_is_damaged_is_none(tmp_path: Path, file: str, harm: str) -> None:
    for finished in (1, 2):
        checkpoint.save(tmp_path, at_boundary(finished))
    path = tmp_path / file
    if harm == "removed" and file != "checkpoint":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content if harm == "changed" else b"")
    assert checkpoint.load(tmp_path) is None


def test_a_checkpoint_of_another_torch_is_not_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = environment.versions()
    with monkeypatch.context() as patch:
        patch.setattr(environment, "versions", lambda: {**here, "torch": "1.0"})
        checkpoint.save(tmp_path, at_boundary(1))
    with pytest.raises(OfAnotherVersion, match=re.escape(f"torch 1.0, and this is {here['torch']}")):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("change", [{"more": 1}, {"more": 1, "less": "notes"}, {"less": "notes"}], ids=str)
def test_a_checkpoint_with_other_fields_is_of_another_version(tmp_path: Path, change: dict[str, Any]) -> None:
    checkpoint.save(tmp_path, at_boundary(1))
    values = vars(at_boundary(1)) | {"brand_new": 1}
    for name in ("predictions", change.get("less"), None if "more" in change else "brand_new"):
        values.pop(name, None)
    checkpoint.keep(tmp_path / "checkpoint", values)
    with pytest.raises(OfAnotherVersion, match="another version of clbench"):
        checkpoint.load(tmp_path)


def test_a_checkpoint_that_does_not_say_which_versions_made_it_is_of_an_earlier_one(tmp_path: Path) -> None:
    content = io.BytesIO()
    torch.save({}, content)
    path = tmp_path / "checkpoint"
    path.write_bytes(hashlib.sha256(content.getvalue()).digest() + content.getvalue())
    path.chmod(0o600)
    with pytest.raises(OfAnotherVersion, match="an earlier version of clbench"):
        checkpoint.load(tmp_path)


def test_a_class_that_only_another_clbench_has_is_no_error_of_the_strategy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = environment.versions()
    with monkeypatch.context() as patch:
        patch.setattr(environment, "versions", lambda: {**here, "clbench": "0.0.1"})
        patch.setattr(checkpoint, "Gone", type("Gone", (), {"__module__": checkpoint.__name__}), raising=False)
        checkpoint.save(tmp_path, at_boundary(1, gone=checkpoint.Gone()))  # type: ignore[attr-defined]
    with pytest.raises(OfAnotherVersion, match=r"clbench 0\.0\.1"):
        checkpoint.load(tmp_path)


def test_a_run_with_a_checkpoint_of_another_version_starts_over_and_says_so(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(out: str) -> StoredRun:
        small = {"split": "2", "epochs": 1, "threads": 1, "device": "cpu", "data": data}
        return clbench.run("naive", "splitdigits", out=tmp_path / out, **small)[0]  # type: ignore[arg-type]

    def stop(work: Path, at: Checkpoint) -> None:
        save(work, at)
        raise KeyboardInterrupt

    whole, save, here = run("whole"), checkpoint.save, environment.versions()
    with monkeypatch.context() as patch:
        patch.setattr(environment, "versions", lambda: {**here, "torch": "1.0"})
        patch.setattr(checkpoint, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            run("again")
    again = run("again")
    assert f"starts over: its checkpoint is from torch 1.0, and this is {here['torch']}" in capsys.readouterr().err
    for name in ("result.json", "predictions.npz"):
        assert (again.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_without_a_checkpoint_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A run's folder in a work folder, with the checkpoint of one experience."""
    work: Path = ResultsFolder(tmp_path / "results").work("run")
    checkpoint.save(work, at_boundary(1))
    return work


PARTS = ["..", ".", "checkpoint", "predictions-0"]


@pytest.mark.parametrize("part", PARTS)
def test_a_checkpoint_that_others_could_have_written_is_refused_until_that_is_put_right(work: Path, part: str) -> None:
    exposed = (work / part).resolve()
    exposed.chmod(exposed.stat().st_mode | stat.S_IWGRP)
    with pytest.raises(MachineError, match=f"{exposed} can be written by other users") as refused:
        checkpoint.load(work)
    fix = f"chmod go-w {exposed}"
    assert refused.value.hint is not None and fix in refused.value.hint
    subprocess.run(fix.split(), check=True)
    assert checkpoint.load(work) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to give files away")
@pytest.mark.parametrize("part", PARTS)
def test_a_checkpoint_that_belongs_to_another_user_is_refused(work: Path, part: str) -> None:
    os.chown(work / part, 12345, -1)
    with pytest.raises(MachineError, match=r"belongs to another user \(id 12345\)"):
        checkpoint.load(work)


@pytest.mark.parametrize("put", ["symlink", "fifo"])
def test_only_plain_files_are_read_as_checkpoints(work: Path, put: str) -> None:
    elsewhere = (work / "checkpoint").rename(work / "elsewhere")
    if put == "symlink":
        (work / "checkpoint").symlink_to(elsewhere)
    else:
        os.mkfifo(work / "checkpoint", 0o600)
    with pytest.raises(MachineError, match="checkpoint is not a plain file or folder"):
        checkpoint.load(work)


def test_what_a_checkpoint_is_written_to_is_its_users_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        work = ResultsFolder(tmp_path / "results").work("run")
        checkpoint.save(work, at_boundary(1))
    finally:
        os.umask(before)
    assert [(work / part).stat().st_mode & 0o777 for part in PARTS] == [0o700, 0o700, 0o600, 0o600]
    assert checkpoint.load(work) is not None


def test_state_that_cannot_be_pickled_is_the_strategys_fault(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="cannot be saved between experiences"):
        checkpoint.save(tmp_path, at_boundary(1, function=lambda: None))


def test_a_full_disk_is_an_os_error_and_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, at_boundary(1))
    before = (tmp_path / "checkpoint").read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.save(tmp_path, at_boundary(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, previous)
    assert (tmp_path / "checkpoint").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "predictions-0", "predictions-1"]
