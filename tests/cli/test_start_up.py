"""What `clbench run` imports before its first gradient step; benchmarks/speed/costs.py measures how long that takes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stored_runs import publish

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
AT_THE_FIRST_SIGN_OF_LIFE = """
import io, json, os, signal, sys
from clbench.cli.program import program

class Screen(io.StringIO):
    def isatty(self):
        return True

    def fileno(self):
        return 2

    def write(self, text):
        if text.strip() and not text.startswith("\\033[?"):  # which hides the cursor
            print(json.dumps([text, *sorted(sys.modules)]), file=sys.__stdout__, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return len(text)

sys.stderr = Screen()
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "run -s lwf -S splitdigits",
        "run -s lwf -S splitdigits --dry-run",
        "reproduce hsu2018",
        "profile -s lwf -S splitdigits",
        "train --images . --network cnn --out model",
        "extend . --images . --out model",
        "export . --to onnx",
        "predict . .",
        "report .",
        "compare .",
        "check lwf",
        "doctor",
    ],
)
def test_a_command_that_takes_long_shows_that_it_has_begun_before_it_imports_what_is_large(
    line: str, tmp_path: Path
) -> None:
    publish(tmp_path, "naive", 0)
    command = [sys.executable, "-c", AT_THE_FIRST_SIGN_OF_LIFE, *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    text, *imported = json.loads(done.stdout.splitlines()[-1])
    assert "Starting …" in text or "checking" in text or "reading runs" in text
    assert not (NOT_NEEDED | {"torch"}) & set(imported)
