"""Runs through submitit: its local executor everywhere, and a real Slurm if there is one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import clbench
from clbench.data.datasets import fetch
from clbench.errors import MachineError, UsageError

pytest.importorskip("submitit")
from submitit.slurm.slurm import _make_sbatch_string

from clbench.executors import on_slurm


@pytest.fixture(scope="session")
def slurm() -> None:
    """A Slurm on this machine whose controller runs and that has a node for a job; skips where there is none."""
    states = ""
    if shutil.which("sbatch") is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            states = subprocess.run(["sinfo", "-h", "-o", "%t"], capture_output=True, text=True, timeout=10).stdout
    if not {"idle", "mix", "alloc"} & set(states.split()):
        pytest.skip("no Slurm runs on this machine")


needs_slurm = pytest.mark.usefixtures("slurm")

SLOW = '''"""Naive fine-tuning that takes its time."""
import time
import clbench

class Slow(clbench.Strategy):
    def before_experience(self, model, experience):
        time.sleep(1.5)

    def loss(self, batch):
        return batch.cross_entropy("seen")
'''


def published(results: Path) -> dict[str, bytes]:
    """What does not depend on where and when runs were executed: files by path."""
    apart = ("environment.json", "costs.json", "MANIFEST.json")
    files = (path for path in results.rglob("*") if path.is_file() and path.name not in apart)
    return {str(path.relative_to(results)): path.read_bytes() for path in files if ".work" not in path.parts}


def started(place: Path, *words: str) -> subprocess.Popen[str]:
    """Start a command in a folder with the strategy `slow`."""
    (place / "strategies").mkdir(parents=True, exist_ok=True)
    (place / "strategies" / "slow.py").write_text(SLOW)
    fetch("digits", place / "data")
    command = [sys.executable, "-m", "clbench", "run", "-S", "splitdigits", "--epochs", "1", "--device", "cpu", *words]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, "--data", "data"], cwd=place, start_new_session=True, **pipes)


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for the end of a command."""
    out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def found(folder: Path, pattern: str, process: subprocess.Popen[str]) -> Path:
    """Return a file that appears in a folder while a command runs."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if paths := sorted(folder.glob(pattern)):
            return paths[0]
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"no {pattern} in {folder}: {process.communicate(timeout=60)}")


@pytest.mark.slow
def test_runs_through_submitit_are_byte_for_byte_those_of_jobs_2_and_a_failure_is_one(tmp_path: Path) -> None:
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "broken.py").write_text(SLOW.replace("time.sleep(1.5)", "1 / 0"))
    study = ["-s", "naive,lwf,broken"]
    done = ended(started(tmp_path, *study, "--on", "slurm:cluster=local", "--out", "slurm"))
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert len(list(tmp_path.glob("slurm/.failed/splitdigits/broken/*/traceback.txt"))) == 1
    ended(started(tmp_path, *study, "--jobs", "2", "--out", "local"))
    apart = {name: content for name, content in published(tmp_path / "slurm").items() if not name.startswith(".failed")}
    local = {name: content for name, content in published(tmp_path / "local").items() if not name.startswith(".failed")}
    assert apart == local
    assert len(list(tmp_path.glob("slurm/splitdigits/*/*/MANIFEST.json"))) == 2
    made = [json.loads(path.read_text()) for path in tmp_path.glob("slurm/splitdigits/*/*/environment.json")]
    assert {each["executor"] for each in made} == {"slurm"}
    assert not (tmp_path / "slurm" / ".work" / "slurm").exists()


@pytest.mark.slow
def test_jobs_do_not_import_from_the_working_folder(tmp_path: Path, data: Path) -> None:
    working = tmp_path / "working"
    (working / "clbench").mkdir(parents=True)
    (working / "clbench" / "__init__.py").write_text("raise ImportError('the wrong module')\n")
    installed = tmp_path / "installed.py"  # an installed command has the working folder nowhere in its path
    installed.write_text("from clbench.cli.program import program\nprogram()\n")
    what = ["run", "-s", "naive", "-S", "splitdigits", "--epochs", "1", "--device", "cpu", "--data", str(data)]
    command = [sys.executable, str(installed), *what, "--on", "slurm:cluster=local"]
    done = subprocess.run(command, cwd=working, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.mark.waits
@pytest.mark.slow
@needs_slurm
def test_jobs_outlive_the_command_and_the_same_command_waits_for_them(tmp_path: Path) -> None:
    process = started(tmp_path, "-s", "slow", "--seeds", "2", "--on", "slurm")
    found(tmp_path, "results/.work/*/checkpoint", process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    done = ended(started(tmp_path, "-s", "slow", "--seeds", "2", "--on", "slurm"))
    assert done.returncode == 0, done.stderr
    assert "2 runs are queued or under way from an earlier command" in done.stderr
    assert "submitted" not in done.stderr
    ended(started(tmp_path, "-s", "slow", "--seeds", "2", "--jobs", "2", "--out", "local"))
    assert published(tmp_path / "results") == published(tmp_path / "local")
    resumed = [json.loads(path.read_text()) for path in tmp_path.glob("results/*/*/*/environment.json")]
    assert [each["resumed_after_experiences"] for each in resumed] == [0, 0]


@pytest.mark.waits
@pytest.mark.slow
def test_ctrl_c_in_a_terminal_ends_local_jobs_without_a_traceback_and_the_same_command_goes_on(tmp_path: Path) -> None:
    process = started(tmp_path, "-s", "slow", "--on", "slurm:cluster=local")
    found(tmp_path, "results/.work/*/checkpoint", process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all processes that it started
    stopped = ended(process)
    assert stopped.returncode == 130
    assert "Traceback" not in stopped.stderr and "Finished work is kept" in stopped.stderr
    done = ended(started(tmp_path, "-s", "slow", "--on", "slurm:cluster=local"))
    assert done.returncode == 0, done.stderr
    assert "resuming after experience" in done.stderr


@pytest.mark.slow
@needs_slurm
def test_ctrl_c_cancels_the_jobs_and_the_same_command_goes_on_from_the_last_experience(tmp_path: Path) -> None:
    process = started(tmp_path, "-s", "slow", "--on", "slurm")
    found(tmp_path, "results/.work/*/checkpoint", process)
    process.send_signal(signal.SIGINT)
    assert ended(process).returncode == 130
    done = ended(started(tmp_path, "-s", "slow", "--on", "slurm"))  # while they are still ending
    assert done.returncode == 0, done.stderr
    assert "resuming after experience" in done.stderr


@pytest.mark.slow
@needs_slurm
def test_a_job_near_its_time_limit_is_queued_again_and_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    process = started(tmp_path, "-s", "slow", "--on", "slurm:time=5")
    found(tmp_path, "results/.work/*/checkpoint", process)
    job = json.loads(found(tmp_path, "results/.work/slurm/*/jobs.json", process).read_text())[0]["job"]
    # What Slurm sends 90 seconds before the limit.
    subprocess.run(["scancel", job, "--signal=USR2"], check=True)
    done = ended(process)
    assert done.returncode == 0, done.stderr
    (made,) = tmp_path.glob("results/*/*/*/environment.json")
    assert json.loads(made.read_text())["resumed_after_experiences"] > 0
    ended(started(tmp_path, "-s", "slow", "--out", "local"))
    assert published(tmp_path / "results") == published(tmp_path / "local")


@pytest.mark.slow
@needs_slurm
def test_a_preempted_job_is_queued_again_and_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    process = started(tmp_path, "-s", "slow", "--on", "slurm")
    found(tmp_path, "results/.work/*/checkpoint", process)
    job = json.loads(found(tmp_path, "results/.work/slurm/*/jobs.json", process).read_text())[0]["job"]
    # What Slurm sends at the beginning of a grace time, and then what it does.
    subprocess.run(["scancel", job, "--signal=TERM"], check=True)
    subprocess.run(["scontrol", "requeue", job], check=True)
    done = ended(process)
    assert done.returncode == 0, done.stderr
    (made,) = tmp_path.glob("results/*/*/*/environment.json")
    assert json.loads(made.read_text())["resumed_after_experiences"] > 0
    ended(started(tmp_path, "-s", "slow", "--out", "local"))
    assert published(tmp_path / "results") == published(tmp_path / "local")


@pytest.mark.slow
@needs_slurm
def test_a_job_that_somebody_cancels_is_a_failed_run_and_the_others_go_on(tmp_path: Path) -> None:
    process = started(tmp_path, "-s", "slow,naive", "--on", "slurm")
    found(tmp_path, "results/.work/*/checkpoint", process)
    record = json.loads(found(tmp_path, "results/.work/slurm/*/jobs.json", process).read_text())
    (job,) = (each["job"] for each in record if "/slow/" in each["runs"][0])
    subprocess.run(["scancel", job], check=True)
    done = ended(process)
    assert done.returncode == 1
    assert f"Slurm job {job} ended without a result (cancelled)" in done.stderr
    assert len(list(tmp_path.glob("results/splitdigits/naive/*/MANIFEST.json"))) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("slurm:partition", "options have the form KEY=VALUE"),
        ("slurm:time=x,cluster=local", "time must be an integer above 0 (got x)"),
        ("slurm:time=1,time=2", "time is given twice"),
        ("slurm:cluster=other", "it must be slurm or local"),
        ("slurm:cluster=local,partition=gpu", "cluster=local does not take partition"),
        ("slrm", "there is no executor 'slrm'; did you mean 'slurm'?"),
        ("local:2", "--on local takes no options"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, data: Path, options: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        clbench.run("naive", "splitdigits", on=options, out=tmp_path / "results", data=data, epochs=1)
    assert message in refused.value.message


def test_options_are_given_to_submitit_as_it_takes_them() -> None:
    given = {"nodes": "1", "ntasks_per_node": "1", "use_srun": "false", "setup": "module load cuda", "qos": "high"}
    typed = {key: on_slurm._typed(key, value) for key, value in given.items()}
    made = {"nodes": 1, "ntasks_per_node": 1, "use_srun": False, "setup": ["module load cuda"], "qos": "high"}
    assert typed == made
    script = _make_sbatch_string("true", Path("jobs"), **typed)
    assert "#SBATCH --nodes=1" in script and "srun" not in script and "module load cuda" in script.splitlines()


def test_the_jobs_of_others_keep_what_they_need_when_a_run_that_both_wanted_has_ended(tmp_path: Path) -> None:
    record = [{"job": "7_0", "log": "0.jsonl", "runs": ["a", "b"]}, {"job": "7_1", "log": "1.jsonl", "runs": ["c"]}]
    (tmp_path / on_slurm.RECORD).write_text(json.dumps(record))
    assert on_slurm._has_others(tmp_path, {"a", "b"}) and not on_slurm._has_others(tmp_path, {"a", "b", "c"})
    assert not on_slurm._has_others(tmp_path / "local", {"a"})


def test_without_slurm_it_is_said_where_to_go(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(MachineError, match="there is no Slurm here: the command sbatch is missing"):
        clbench.run("naive", "splitdigits", on="slurm", out=tmp_path / "results", data=data, epochs=1)
