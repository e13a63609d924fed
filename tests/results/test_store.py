"""Published runs: whole or not there, never altered, and every change to one found."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clbench.errors import MachineError
from clbench.results import manifests, store
from clbench.results.record_model import as_json
from clbench.results.store import ResultsFolder

RUN = "scenario/strategy/quick-seed0-0123abcd"
FILES = {"spec.json": b"{}\n", "result.json": b'{"a": 1}\n', "predictions.npz": b"\0" * 1000}


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder(tmp_path / "results")


def test_a_published_run_has_its_files_a_manifest_and_nothing_else(results: ResultsFolder) -> None:
    run = results.publish(RUN, "id", FILES)
    assert run == results.path / RUN
    assert {path.name for path in run.iterdir()} == {*FILES, manifests.MANIFEST}
    assert all((run / name).read_bytes() == content for name, content in FILES.items())
    assert manifests.damage(run) is None


def test_every_folder_that_a_run_is_found_by_is_on_the_disk_when_it_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, sync = set(), os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    results = ResultsFolder(tmp_path / "new" / "results")
    results.keep_source(b"source")
    run = results.publish(RUN, "id", FILES)
    found_by = [folder for folder in run.parents if folder.is_relative_to(tmp_path)]
    assert len(found_by) == 5 and synced.issuperset(folder.stat().st_ino for folder in found_by)


def test_publishing_leaves_nothing_in_the_work_folder(results: ResultsFolder) -> None:
    with results.lock("id"):
        (results.work("id") / "checkpoint").write_bytes(b"state")
        results.publish(RUN, "id", FILES)
    assert list((results.path / store.WORK).iterdir()) == []


def test_a_second_publisher_steps_back_and_the_first_run_stays_as_it_was(results: ResultsFolder) -> None:
    first = results.publish(RUN, "id", FILES)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in first.iterdir()}
    again = results.publish(RUN, "id", {**FILES, "result.json": b'{"a": 2}\n'})
    assert again == first
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in first.iterdir()} == before


def flip_a_byte(run: Path) -> None:
    content = bytearray((run / "predictions.npz").read_bytes())
    content[500] ^= 1
    (run / "predictions.npz").write_bytes(content)


DAMAGES = {
    "one byte flipped": flip_a_byte,
    "truncated": lambda run: os.truncate(run / "result.json", 3),
    "emptied": lambda run: os.truncate(run / "result.json", 0),
    "file missing": lambda run: (run / "spec.json").unlink(),
    "file added": lambda run: (run / "more.json").write_text("{}"),
    "manifest missing": lambda run: (run / manifests.MANIFEST).unlink(),
    "manifest emptied": lambda run: os.truncate(run / manifests.MANIFEST, 0),
    "manifest of another shape": lambda run: (run / manifests.MANIFEST).write_text("[1]"),
    "manifest that is no text": lambda run: (run / manifests.MANIFEST).write_bytes(b"\xff\xfe\0"),
}


@pytest.mark.parametrize("harm", DAMAGES.values(), ids=DAMAGES)
def test_a_changed_run_is_found_and_moved_aside_not_thrown_away(results: ResultsFolder, harm) -> None:
    run = results.publish(RUN, "id", FILES)
    assert results.published(RUN, print) == run
    harm(run)
    assert manifests.damage(run) is not None
    left = {path.name for path in run.iterdir()}
    told: list[str] = []
    assert results.published(RUN, told.append) is None
    (aside,) = (results.path / store.DAMAGED / "scenario" / "strategy").iterdir()
    (said,) = told
    assert said.startswith(f"{run} was damaged (") and said.endswith(f", and is now in {aside}")
    assert {path.name for path in aside.iterdir()} == left
    assert results.publish(RUN, "id", FILES) == run and manifests.damage(run) is None


def test_a_half_written_run_is_never_published(results: ResultsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(path: Path, content: bytes) -> None:
        if path.name == "result.json":
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(content)

    monkeypatch.setattr(store, "write_synced", full_disk)
    with pytest.raises(OSError, match="No space left"):
        results.publish(RUN, "id", FILES)
    assert list(store.published_runs(results.path)) == []
    monkeypatch.undo()
    assert manifests.damage(results.publish(RUN, "id", FILES)) is None


def test_runs_in_progress_failed_and_damaged_are_not_among_the_published(results: ResultsFolder) -> None:
    published = results.publish(RUN, "id", FILES)
    results.keep_failure("scenario/strategy/other", "other", FILES)
    (results.work("third") / "built").mkdir()
    (results.work("third") / "built" / "spec.json").write_text("{}")
    assert list(store.published_runs(results.path)) == [published]


def test_a_new_failure_takes_the_place_of_the_last_and_success_removes_it(results: ResultsFolder) -> None:
    results.keep_failure(RUN, "id", {"traceback.txt": b"first"})
    kept = results.keep_failure(RUN, "id", {"traceback.txt": b"second"})
    assert (kept / "traceback.txt").read_bytes() == b"second"
    results.publish(RUN, "id", FILES)
    assert not kept.exists()


def test_results_that_are_a_file_or_a_foreign_folder_are_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(MachineError, match="is a file"):
        ResultsFolder(file)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    with pytest.raises(MachineError, match="not clbench runs"):
        ResultsFolder(foreign)
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]


def test_a_folder_with_runs_of_someone_else_may_be_added_to(results: ResultsFolder, tmp_path: Path) -> None:
    results.publish(RUN, "id", FILES)
    (results.path / store.WORK).rmdir()  # as in a clone, where the work folder is not tracked
    assert ResultsFolder(results.path).published(RUN, print) is not None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_results_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MachineError, match="cannot write"):
        ResultsFolder(tmp_path / "results")


def test_a_source_is_kept_once_under_its_hash_and_written_again_if_it_was_changed(results: ResultsFolder) -> None:
    for _ in range(2):
        results.keep_source(b"x = 1\n")
    (path,) = (results.path / store.SOURCES).iterdir()
    assert path.stem == hashlib.sha256(b"x = 1\n").hexdigest() and path.read_bytes() == b"x = 1\n"
    path.write_bytes(b"x = 2\n")
    results.keep_source(b"x = 1\n")
    assert path.read_bytes() == b"x = 1\n"


def test_a_folder_with_runs_and_their_sources_is_one_of_ours_and_sources_are_no_runs(results: ResultsFolder) -> None:
    results.keep_source(b"x = 1\n")
    run = results.publish(RUN, "id", FILES)
    (results.path / store.WORK).rmdir()
    assert ResultsFolder(results.path).published(RUN, print) == run
    assert list(store.published_runs(results.path)) == [run]


def test_no_number_that_is_not_one_is_stored() -> None:
    with pytest.raises(ValueError, match="JSON"):
        as_json({"accuracy": float("nan")})
    assert json.loads(as_json({"accuracy": None})) == {"accuracy": None}


WRITER = """
import sys
from pathlib import Path
from clbench.system.files import replace_file
path, naive = Path(sys.argv[1]), sys.argv[2] == "naive"
print("ready", flush=True)
for number in range(10**9):
    content = bytes([number % 251]) * 4_000_000
    path.write_bytes(content) if naive else replace_file(path, content)
"""


def torn_after_kills(path: Path, writer: str, kills: int) -> int:
    """Kill a process that keeps rewriting a file, again and again; return how often the file was not whole."""
    torn = 0
    for seed in range(kills):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path), writer], stdout=subprocess.PIPE)
        assert process.stdout and process.stdout.readline() == b"ready\n"
        time.sleep(random.Random(seed).uniform(0.02, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        content = path.read_bytes() if path.exists() else bytes(4_000_000)
        torn += len(content) != 4_000_000 or len(set(content)) != 1
    return torn


@pytest.mark.slow
def test_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    assert torn_after_kills(tmp_path / "file", "ours", 12) == 0


@pytest.mark.slow
def test_the_same_kills_tear_the_file_of_a_naive_writer(tmp_path: Path) -> None:
    assert torn_after_kills(tmp_path / "file", "naive", 40) > 0
