"""A command that is killed, or whose disk is full, loses nothing: the same command again ends as if it had not been."""

from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import killed_extensions
import pytest
from filelock import FileLock
from killed_extensions import content

import clbench
from clbench.deployment import exporting
from clbench.errors import MachineError, PluginError, UsageError
from clbench.extension import folder as folders
from clbench.system.signals import Interrupted


@pytest.mark.slow
def test_killed_at_every_write_it_ends_as_if_it_had_not_been(model, photos, tmp_path):
    script = Path(killed_extensions.__file__)
    words = [sys.executable, str(script), str(model), str(photos.one), str(photos.base_test), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 10


def command(model: Path, photos, out: Path) -> clbench.Extended:
    return killed_extensions.command(model, photos.one, photos.base_test, out)


@pytest.mark.slow
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


def test_a_first_network_that_could_not_be_exported_is_not_trained_again(photos, tmp_path, monkeypatch, capsys):
    def failing(*arguments):
        raise PluginError("the network cannot be exported")

    def trained(**values) -> clbench.Extended:
        given = {"network": "mlp", "size": 8, "epochs": 1, "threads": 1}
        return clbench.train(photos.base, out=tmp_path / "out", **given, **values)

    with monkeypatch.context() as patched:
        patched.setattr(exporting, "export", failing)
        with pytest.raises(PluginError):
            trained(export="torchscript")
    capsys.readouterr()
    trained(export="safetensors")
    assert "taken from where the command was stopped" in capsys.readouterr().err
    trained(export="safetensors")
    assert "finished already; nothing was done" in capsys.readouterr().err
    with pytest.raises(UsageError, match="exists, and is not replaced"):
        trained()


@pytest.mark.slow
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
    assert "rerun the same command" in failed.value.hint
    assert ("is kept in" in failed.value.message) == (tmp_path / ".out.work").exists()
    assert not (tmp_path / "out").exists()
    assert command(model, photos, tmp_path / "out").result.command == "extend"


@pytest.mark.slow
def test_a_disk_that_the_exported_file_fills_is_said_with_what_is_kept(model, photos, tmp_path, monkeypatch):
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(exporting, "write_synced", full)
    with pytest.raises(MachineError, match="No space left on device") as failed:
        clbench.extend(model, photos.one, export="torchscript", out=tmp_path / "out", threads=1)
    assert f"What was finished is kept in {tmp_path / '.out.work'}" in failed.value.message
    assert "rerun the same command" in failed.value.hint


@pytest.mark.slow
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


@pytest.mark.slow
def test_killed_while_images_are_read_the_same_command_goes_on_and_nothing_is_left(model, photos, tmp_path):
    script = """
import sys
from pathlib import Path
import killed_extensions
from clbench.data import image_decoding
from clbench.extension import image_sets

image_sets._IN_MEMORY = 0  # images are kept in a file
if sys.argv[1] == "killed":
    image_decoding._write_header = lambda file, shape: (file.write(b"half"), file.flush(), __import__("os").kill(0, 9))
killed_extensions.command(*map(Path, sys.argv[2:]))
"""
    words = [model, photos.one, photos.base_test, tmp_path / "out"]

    def call(how: str) -> int:
        command = [sys.executable, "-c", script, how, *map(str, words)]
        folder = Path(killed_extensions.__file__).parent
        return subprocess.run(command, cwd=folder, timeout=120, check=False, start_new_session=True).returncode

    assert call("killed") == -9
    assert list((tmp_path / ".out.work").glob("*.npy"))
    assert call("again") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_processes_do_not_write_one_folder(model, photos, tmp_path):
    output = folders.OutputFolder(tmp_path / "out")
    with output.claimed(), pytest.raises(MachineError, match="another process is writing"):
        command(model, photos, tmp_path / "out")


def test_a_folder_that_is_taken_as_soon_as_it_is_released_is_not_taken_twice(tmp_path, monkeypatch):
    waiting = [FileLock(tmp_path / ".out.lock")]

    class Released(FileLock):
        def release(self, force: bool = False) -> None:
            super().release(force)
            while waiting:
                waiting.pop().acquire(timeout=0)

    monkeypatch.setattr(folders, "FileLock", Released)
    next_holder, output = waiting[0], folders.OutputFolder(tmp_path / "out")
    with output.claimed():
        pass
    assert next_holder.is_locked
    with pytest.raises(MachineError, match="another process is writing"), output.claimed():
        pass


def test_the_lock_of_a_command_that_has_ended_is_of_no_use_to_who_opened_it_before(tmp_path, monkeypatch):
    first, second = (folders.OutputFolder(tmp_path / "out").claimed() for _ in range(2))
    first.__enter__()
    real = fcntl.flock

    def ended_meanwhile(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        first.__exit__(None, None, None)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", ended_meanwhile)
    with pytest.raises(MachineError, match="another process is writing"), second:
        pass


def test_a_folder_that_cannot_be_written_is_said(model, photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError):
        command(model, photos, tmp_path / "file" / "out")


@pytest.mark.parametrize("kept", [False, True])
def test_when_stopped_it_says_that_work_is_kept_only_if_it_is(tmp_path, kept):
    output = folders.OutputFolder(tmp_path / "out")
    with pytest.raises(Interrupted) as stopped, output.claimed():
        if kept:
            output.keep("0" * 64, {"candidate.json": b"{}"})
        raise Interrupted(2)
    assert stopped.value.kept is kept


@pytest.mark.slow
def test_ctrl_c_is_a_keyboard_interrupt_in_python(model, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(folders.OutputFolder, "publish", lambda *arguments: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        command(model, photos, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        clbench.train(photos.one.parent / "base", network="mlp", epochs=1, out=tmp_path / "first")
