"""Real processes killed, interrupted, doubled and starved of disk: what is finished stays, what goes on is the same."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clbench.plugins.discovery import discover, without_dialects
from clbench.results import manifests, store
from clbench.results.record_model import as_json

pytestmark = pytest.mark.slow

# l2 carries state from experience to experience; a resume that lost or changed it would end in other weights.
RUN = ["-s", "l2", "-S", "splitdigits", "--threads", "1"]
NAME = "splitdigits/l2"


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "clbench", *map(str, arguments)]


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def none_outlives_its_test() -> Iterator[None]:
    """A process that a failed test would leave running is killed."""
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.communicate(timeout=60)


def start(out: Path, data: Path, *more: str, epochs: int = 40) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command("run", *RUN, "--epochs", str(epochs), "--out", out, "--data", data, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=out.parent,
    )
    STARTED.append(process)
    return process


def finish(out: Path, data: Path, *more: str) -> tuple[int, str]:
    process = start(out, data, *more)
    errors = process.communicate(timeout=300)[1]
    return process.returncode, errors


def stored(out: Path, name: str = NAME) -> tuple[list[str], dict[str, np.ndarray]]:
    """The weights' hashes after every experience and the predictions, of the only run of `name`."""
    (run,) = (out / name).iterdir()
    assert manifests.damage(run) is None
    hashes = [entry["weights_sha256"] for entry in json.loads((run / "result.json").read_text())["experiences"]]
    with np.load(run / "predictions.npz") as arrays:
        return hashes, {key: arrays[key] for key in arrays.files}


def assert_bit_identical(a: Path, b: Path) -> None:
    (hashes_a, predictions_a), (hashes_b, predictions_b) = stored(a), stored(b)
    assert hashes_a == hashes_b
    assert predictions_a.keys() == predictions_b.keys()
    assert all((predictions_a[key] == predictions_b[key]).all() for key in predictions_a)
    (one,), (other,) = (list((out / NAME).iterdir()) for out in (a, b))
    for file in ("spec.json", "result.json", "predictions.npz"):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


def read_until(process: subprocess.Popen[str], pattern: str) -> None:
    assert process.stderr
    for line in process.stderr:
        if re.search(pattern, line):
            return
    pytest.fail(f"ended with {process.wait()} before it said {pattern}")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "results"
    code, errors = finish(out, data)
    assert code == 0, errors
    return out


def test_killed_at_random_moments_and_repeated_a_run_ends_bit_identical(
    uninterrupted: Path, tmp_path: Path, data: Path
) -> None:
    out, chance = tmp_path / "results", random.Random(1)
    for experience in (0, 1, 3):  # the last one that it is seen to finish
        process = start(out, data)
        with contextlib.suppress(AssertionError):
            read_until(process, rf"experience {experience}:|resuming after experience [{experience}-9]")
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.communicate(timeout=300)
        assert list(store.published_runs(out)) == []
    code, errors = finish(out, data)
    assert code == 0 and "resuming after experience" in errors
    assert_bit_identical(out, uninterrupted)
    assert list((out / store.WORK).iterdir()) == []


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_the_next_batch_with_its_exit_code_and_the_run_goes_on(
    uninterrupted: Path, tmp_path: Path, data: Path, signum: int, code: int
) -> None:
    out = tmp_path / "results"
    process = start(out, data)
    read_until(process, "experience 1:")
    process.send_signal(signum)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert "rerun the same command to resume" in errors and "Traceback" not in errors
    assert finish(out, data)[0] == 0
    assert_bit_identical(out, uninterrupted)


def test_a_checkpoint_that_was_changed_is_not_used_and_the_run_starts_over(
    uninterrupted: Path, tmp_path: Path, data: Path
) -> None:
    out = tmp_path / "results"
    process = start(out, data)
    read_until(process, "experience 2:")
    process.kill()
    process.communicate(timeout=300)
    (checkpoint,) = (out / store.WORK).glob("*/checkpoint")
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    code, errors = finish(out, data)
    assert code == 0 and "resuming" not in errors
    assert_bit_identical(out, uninterrupted)


def test_two_processes_on_one_run_do_it_once(uninterrupted: Path, tmp_path: Path, data: Path) -> None:
    out = tmp_path / "results"
    both = [start(out, data), start(out, data)]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert sorted("already done, skipped" in text for text in errors) == [False, True]
    assert_bit_identical(out, uninterrupted)


def test_a_lock_dies_with_its_holder(tmp_path: Path, data: Path) -> None:
    holder = start(tmp_path / "results", data, epochs=300)
    read_until(holder, "experience 0:")
    waiting = start(tmp_path / "results", data, epochs=300)
    read_until(waiting, "another process, waiting")
    holder.kill()
    holder.communicate(timeout=300)
    read_until(waiting, "resuming after experience")
    waiting.kill()
    waiting.communicate(timeout=300)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for half a run."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False, timeout=300).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True, timeout=300)


def test_a_full_disk_ends_with_exit_4_and_the_run_goes_on_once_there_is_room(
    uninterrupted: Path, small_disk: Path, data: Path
) -> None:
    out = small_disk / "results"
    code, errors = finish(out, data)
    assert code == 4, errors
    assert "No space left" in errors and "same command" in errors and "Traceback" not in errors
    assert list(store.published_runs(out)) == []
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True, timeout=300)
    assert finish(out, data)[0] == 0
    assert_bit_identical(out, uninterrupted)


def test_runs_at_once_give_what_runs_in_turn_give(tmp_path: Path, data: Path) -> None:
    grid = ["-s", "all", "-S", "splitdigits", "--split", "2", "--epochs", "1", "--threads", "1", "--data", data]
    for jobs in ("1", "2"):
        done = subprocess.run(
            command("run", *grid, "--jobs", jobs, "--out", tmp_path / jobs),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    in_turn = sorted(path.relative_to(tmp_path / "1") for path in store.published_runs(tmp_path / "1"))
    assert len(in_turn) == len(without_dialects(discover("strategy")))
    for jobs in ("1", "2"):
        costs = [json.loads((tmp_path / jobs / run / "costs.json").read_bytes()) for run in in_turn]
        assert sum(one["experiences"][0]["shared"] for one in costs) > len(in_turn) // 2
    for run in in_turn:
        for file in ("spec.json", "result.json", "predictions.npz"):
            one, other = ((tmp_path / jobs / run / file).read_bytes() for jobs in ("1", "2"))
            assert one == other, run / file


CRASHING = '''
"""Kills its process in experience 1."""
import os, signal
import clbench
from clbench import losses

class Crashing(clbench.Strategy):
    def loss(self, batch):
        if batch.experience.index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return losses.cross_entropy(batch.logits, batch.y)
'''


def test_a_worker_that_dies_fails_its_run_and_no_other(tmp_path: Path, data: Path) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING)
    done = subprocess.run(
        command(
            *("run", "-s", f"{tmp_path}/crashing.py,naive,joint", "-S", "splitdigits", "--epochs", "1"),
            *("--jobs", "2", "--threads", "1", "--out", tmp_path / "results", "--data", data),
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    assert "ended with signal SIGKILL" in done.stderr
    names = [path.parent.name for path in store.published_runs(tmp_path / "results")]
    assert names == ["joint", "naive"]


def test_an_interrupted_grid_of_several_jobs_leaves_no_process_behind(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "results"
    process = start(out, data, "--jobs", "2", "--seeds", "4")
    read_until(process, "experience 1:")
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in errors
    left = subprocess.run(
        ["pgrep", "-f", f"clbench.executors.worker {data}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert left.stdout == ""


def test_workers_stop_when_the_process_that_started_them_is_killed(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "results"
    process = start(out, data, "--jobs", "2", "--seeds", "4", epochs=150)
    read_until(process, "experience 0:")
    process.kill()
    process.communicate(timeout=300)
    deadline = time.monotonic() + 30
    while (
        subprocess.run(
            ["pgrep", "-f", f"clbench.executors.worker {data}"], capture_output=True, check=False, timeout=300
        ).returncode
        == 0
    ):
        assert time.monotonic() < deadline, "a worker goes on without its parent"
        time.sleep(0.2)


# -- stored runs that somebody changed --------------------------------------------------------------------------------


def republish(run: Path, name: str, content: bytes) -> None:
    """Change a file of a run and make the manifest agree with it, as a forger would."""
    (run / name).write_bytes(content)
    files = {path.name: path.read_bytes() for path in run.iterdir() if path.name != manifests.MANIFEST}
    (run / manifests.MANIFEST).write_bytes(manifests.of(files))


@pytest.fixture
def copy(uninterrupted: Path, tmp_path: Path) -> Path:
    shutil.copytree(uninterrupted, tmp_path / "copy")
    (run,) = (tmp_path / "copy" / NAME).iterdir()
    return run


def problem(run: Path) -> str:
    from clbench.results.stored_run import Unreadable
    from clbench.results.stored_runs import read

    answer = read(run)
    assert isinstance(answer, Unreadable)
    return answer.problem


def test_a_metric_that_does_not_follow_from_the_counts_is_found(copy: Path) -> None:
    result = json.loads((copy / "result.json").read_text())
    result["metrics"]["class_incremental"]["final_accuracy"] += 0.01
    republish(copy, "result.json", as_json(result))
    assert "metrics do not follow" in problem(copy)


def test_a_run_from_before_a_metric_was_added_has_it_all_the_same(copy: Path) -> None:
    from clbench.results.stored_run import StoredRun
    from clbench.results.stored_runs import read

    result = json.loads((copy / "result.json").read_text())
    macro = result["metrics"]["class_incremental"].pop("final_accuracy_macro")
    republish(copy, "result.json", as_json(result))
    run = read(copy)
    assert isinstance(run, StoredRun)
    assert run.metric("final_accuracy_macro") == macro


def test_counts_that_are_not_those_of_the_predictions_are_found(copy: Path) -> None:
    with np.load(copy / "predictions.npz") as arrays:
        changed = {name: arrays[name].copy() for name in arrays.files}
    right = changed["class_incremental"][-1] == changed["labels"]
    changed["class_incremental"][-1][~right] = changed["labels"][~right]  # every answer right
    with (copy / "forged.npz").open("wb") as file:
        np.savez_compressed(file, **changed)
    forged = (copy / "forged.npz").read_bytes()
    (copy / "forged.npz").unlink()
    republish(copy, "predictions.npz", forged)
    assert "counts do not follow from its predictions" in problem(copy)


def test_a_result_of_another_spec_is_found(copy: Path) -> None:
    spec = json.loads((copy / "spec.json").read_text())
    spec["strategy"]["config"]["strength"] = 1000.0
    republish(copy, "spec.json", as_json(spec))
    assert "another spec" in problem(copy)


def test_a_source_that_was_changed_or_is_missing_is_not_shown_and_the_run_stays_readable(
    copy: Path,
) -> None:
    from clbench.results.stored_run import StoredRun
    from clbench.results.stored_runs import read

    run = read(copy)
    assert isinstance(run, StoredRun) and run.source is not None
    (file,) = (copy.parents[2] / store.SOURCES).iterdir()
    file.write_bytes(run.source + b"# and more")
    assert run.source is None
    file.unlink()
    assert run.source is None and isinstance(read(copy), StoredRun)


def test_reading_somebody_elses_predictions_never_unpickles(copy: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "executed"),))

    with (tmp_path / "trap.npz").open("wb") as file:
        np.savez(file, labels=np.array([Trap()], dtype=object))
    republish(copy, "predictions.npz", (tmp_path / "trap.npz").read_bytes())
    assert "allow_pickle" in problem(copy)
    assert not (tmp_path / "executed").exists()


def test_a_damaged_run_is_named_left_out_and_done_again(copy: Path, uninterrupted: Path, data: Path) -> None:
    out = copy.parents[2]
    os.truncate(copy / "predictions.npz", 100)
    compared = subprocess.run(command("compare", out), capture_output=True, text=True, check=False, timeout=300)
    assert compared.returncode == 2 and "predictions.npz does not match MANIFEST.json" in compared.stderr
    code, _ = finish(out, data)
    assert code == 0
    assert_bit_identical(out, uninterrupted)
    assert [path.name for path in (out / store.DAMAGED).glob("*/*/*/predictions.npz")] == ["predictions.npz"]
