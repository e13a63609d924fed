"""A command that is killed, or whose disk is full, loses nothing: the same command again ends as if it had not been."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

import pytest

import clbench
from clbench.api import extending
from clbench.errors import MachineError
from clbench.extension import folder as folders

MOST_BOUNDARIES = 60


def command(model: Path, photos, out: Path) -> clbench.Extended:
    return clbench.extend(
        model,
        photos.one,
        strategy="naive,ncm",
        set={"network.train": "head"},
        epochs=1,
        old_test=photos.base_test,
        out=out,
        threads=1,
    )


def content(out: Path) -> dict[str, bytes]:
    """What a finished folder holds, without times."""
    files = {
        path.name: path.read_bytes() for path in out.iterdir() if path.name not in ("MANIFEST.json", "report.html")
    }
    result = json.loads(files["result.json"])
    for each in result["candidates"]:
        each.pop("seconds")
    return {**files, "result.json": json.dumps(result).encode()}


def in_a_child(work) -> int:
    """Do `work` in a process of its own; return its exit status."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


@pytest.mark.slow
def test_killed_at_every_write_it_ends_as_if_it_had_not_been(model, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(extending, "_page", lambda *_: "")  # drawing it takes most of the time
    reference = content(command(model, photos, tmp_path / "reference").folder)
    for boundary in range(MOST_BOUNDARIES):
        out = tmp_path / f"out{boundary}"

        def killed(boundary: int = boundary, out: Path = out) -> None:
            calls = iter(range(MOST_BOUNDARIES))
            write, sync = folders.write_synced, folders.sync_folder

            def until(function):
                def called(*arguments):
                    if next(calls) == boundary:
                        os.kill(os.getpid(), signal.SIGKILL)
                    function(*arguments)

                return called

            monkeypatch.setattr(folders, "write_synced", until(write))
            monkeypatch.setattr(folders, "sync_folder", until(sync))
            command(model, photos, out)

        status = in_a_child(killed)
        if status == 0:  # it has fewer writes than that
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        if out.exists():  # only whole
            assert content(out) == reference
        assert content(command(model, photos, out).folder) == reference
        assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(f".out{boundary}")) == []
    else:
        pytest.fail("the command never came to its end")
    assert boundary > 10


def test_what_a_strategy_has_made_is_not_made_again(model, photos, tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(folders.OutputFolder, "publish", full)
        with pytest.raises(MachineError, match="No space left on device"):
            command(model, photos, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    command(model, photos, tmp_path / "out")
    assert capsys.readouterr().err.count("taken from where the command was stopped") == 2


@pytest.mark.parametrize("file", ["network.safetensors", "result.json"])
def test_a_full_disk_is_said_and_nothing_is_half_written(model, photos, tmp_path, monkeypatch, file):
    write = folders.write_synced

    def full(path: Path, data: bytes) -> None:
        if path.name == file:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(folders, "write_synced", full)
        with pytest.raises(MachineError, match="No space left on device") as failed:
            command(model, photos, tmp_path / "out")
    assert "rerun the same command to resume" in failed.value.hint
    assert not (tmp_path / "out").exists()
    assert command(model, photos, tmp_path / "out").result.command == "extend"


def test_damaged_work_is_made_again(model, photos, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    reference = content(command(model, photos, tmp_path / "reference").folder)
    with monkeypatch.context() as patched:
        patched.setattr(folders.OutputFolder, "publish", full)
        with pytest.raises(MachineError):
            command(model, photos, tmp_path / "out")
    for made in (tmp_path / ".out.work").glob("*/network.safetensors"):
        made.write_bytes(made.read_bytes()[:-1] + b"\x00")
    assert content(command(model, photos, tmp_path / "out").folder) == reference


def test_two_processes_do_not_write_one_folder(model, photos, tmp_path):
    output = folders.OutputFolder(tmp_path / "out")
    with output.claimed(), pytest.raises(MachineError, match="another process is writing"):
        command(model, photos, tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_said(model, photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError):
        command(model, photos, tmp_path / "file" / "out")
