"""What `clbench run` imports before its first gradient step; benchmarks/speed/costs.py measures how long that takes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

UNTIL_THE_FIRST_STEP = """
import json, os, signal, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
from clbench.cli.program import program

def stop(*_):
    print(json.dumps(sorted(sys.modules)), file=sys.__stdout__, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

register_optimizer_step_post_hook(stop)
program()
"""
# Each takes between a tenth of a second and three seconds.
NOT_NEEDED = {
    "IPython",
    "avalanche",
    "jinja2",
    "matplotlib",
    "pandas",
    "scipy",
    "seaborn",
    "sklearn",
    "sympy",
    "torch._dynamo.convert_frame",
    "torch._inductor",
    "torchvision",
}


@pytest.mark.slow
def test_until_its_first_step_a_run_imports_nothing_large_but_torch(tmp_path: Path, data: Path) -> None:
    where = ["--threads", "1", "--device", "cpu", "--data", str(data), "--out", str(tmp_path)]
    command = [sys.executable, "-c", UNTIL_THE_FIRST_STEP, "run", "-s", "lwf", "-S", "splitdigits", *where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert {"torch", "clbench.training.optimizers"} <= imported
    assert not NOT_NEEDED & imported
