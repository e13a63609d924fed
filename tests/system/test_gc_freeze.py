"""A command ends without looking through what its imports made, and loses nothing of what its runs made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clbench.results import stored_runs

# What a strategy opens it may leave to Python to close; functions and module refer to each other, so that only a search
# for garbage finds the file.
WRITES_A_LOG = '''"""Fine-tuning that writes a line for each step."""

import atexit
import gc
import os

import clbench

LOG = open(f"steps-{os.getpid()}.log", "a")
atexit.register(lambda: open(f"frozen-{os.getpid()}", "w").write(str(gc.get_freeze_count())))


class Mine(clbench.Strategy):
    def loss(self, batch):
        LOG.write("step\\n")
        return batch.cross_entropy("seen")
'''


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_imports_are_left_out_and_an_open_file_is_written_to_its_end(jobs: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WRITES_A_LOG)
    command = [sys.executable, "-m", "clbench", "run", "-s", "mine.py", "-S", "splitdigits", "--seeds", "2"]
    command += ["--epochs", "1", "--threads", "1", "--device", "cpu", "--jobs", jobs, "--json"]
    environment = {**os.environ, "CLBENCH_DATA": str(data)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    steps = sum(run.result.totals.gradient_steps for run in stored_runs.read_all([tmp_path / "results"])[0])
    assert "".join(log.read_text() for log in tmp_path.glob("steps-*.log")) == "step\n" * steps
    frozen = [int(path.read_text()) for path in tmp_path.glob("frozen-*")]
    assert sum(count > 100_000 for count in frozen) == int(jobs)


def test_from_python_nothing_is_left_out_of_the_search_for_garbage(data: Path, tmp_path: Path) -> None:
    program = f"""
import gc, clbench
clbench.run("naive", "splitdigits", epochs=1, threads=1, device="cpu", data={str(data)!r}, out={str(tmp_path)!r})
print(gc.get_freeze_count())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.stdout == "0\n", done.stderr
