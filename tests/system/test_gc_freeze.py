"""A command leaves its imports out of garbage collection, but not what its runs create."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from after_torch import AfterTorch

from clbench.results import stored_runs

# A strategy may leave a file open. Functions and module refer to each other, so only the garbage collector closes it.
WRITES_A_LOG = '''"""Fine-tuning that writes a line for each step."""

import atexit
import gc
import os

import clbench

LOG = open(f"steps-{os.getpid()}.log", "a")
atexit.register(lambda: open(f"frozen-{os.getpid()}", "w").write(f"{gc.get_freeze_count()} {gc.get_threshold()[0]}"))


class Mine(clbench.Strategy):
    def loss(self, batch):
        LOG.write("step\\n")
        return batch.cross_entropy("seen")
'''


@pytest.mark.slow
@pytest.mark.parametrize(("jobs", "processes"), [("1", 1), ("2", 3)])
def test_imports_are_frozen_in_each_process_and_an_open_file_is_still_flushed(
    jobs: str, processes: int, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(WRITES_A_LOG)
    threshold = [sys.executable, "-c", "import gc; print(gc.get_threshold()[0])"]
    usual = subprocess.run(threshold, capture_output=True, check=True, text=True, timeout=60).stdout.strip()
    command = [sys.executable, "-m", "clbench", "run", "-s", "mine.py", "-S", "splitdigits", "--seeds", "2"]
    command += ["--epochs", "1", "--threads", "1", "--device", "cpu", "--jobs", jobs, "--json"]
    environment = {**os.environ, "CLBENCH_DATA": str(data), "PYTHONSAFEPATH": ""}  # so that it starts as always
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    steps = sum(run.result.totals.gradient_steps for run in stored_runs.read_all([tmp_path / "results"])[0])
    assert "".join(log.read_text() for log in tmp_path.glob("steps-*.log")) == "step\n" * steps
    at_the_end = [path.read_text().split() for path in tmp_path.glob("frozen-*")]
    assert len(at_the_end) == processes and min(int(frozen) for frozen, _ in at_the_end) > 100_000
    assert {threshold for _, threshold in at_the_end} == {usual}  # collected as usual again


def test_nothing_is_frozen_when_called_from_python(after_torch: AfterTorch, data: Path, tmp_path: Path) -> None:
    program = f"""
import gc
before = gc.get_freeze_count()  # not 0 in Python 3.12
import clbench
clbench.run("naive", "splitdigits", epochs=1, threads=1, device="cpu", data={str(data)!r}, out={str(tmp_path)!r})
print(gc.get_freeze_count() - before)
"""
    assert after_torch(program) == "0"
