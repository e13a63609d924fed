"""From `clbench run` to a process that has neither torch nor clbench, and answers as well as the run says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clbench.data.datasets import open_dataset

WITHOUT_TORCH = """
import json, sys
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("digits.onnx")
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
(scores,) = session.run(None, {"images": np.load("images.npy")})
correct = [classes[best] == str(label) for best, label in zip(scores.argmax(axis=1), np.load("labels.npy"))]
assert not {"torch", "clbench"} & set(sys.modules)
print(sum(correct) / len(correct))
"""


def clbench(*arguments: str, here: Path, data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clbench", *arguments],
        cwd=here,
        env={**os.environ, "CLBENCH_DATA": str(data)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_a_network_goes_from_a_run_to_a_process_without_torch_and_is_as_accurate(data: Path, tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name}, of the extra `export`, is missing")
    trained = clbench(
        *("run", "-s", "er", "-S", "splitdigits", "--network", "cnn", "--epochs", "2", "--keep-networks", "last"),
        here=tmp_path,
        data=data,
    )
    assert trained.returncode == 0, trained.stderr
    (run,) = (tmp_path / "results").glob("splitdigits/er/*")
    exported = clbench("export", str(run), "--to", "onnx", "--out", "digits.onnx", here=tmp_path, data=data)
    assert (exported.returncode, exported.stderr) == (0, "")
    assert "Compared on 64 test images of digits" in exported.stdout
    assert "64 of 64 predictions are the same" in exported.stdout

    digits = open_dataset("digits", data)
    np.save(tmp_path / "images.npy", digits.x_test)
    np.save(tmp_path / "labels.npy", digits.y_test)
    elsewhere = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_TORCH],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert elsewhere.returncode == 0, elsewhere.stderr
    result = json.loads((run / "result.json").read_text())
    assert float(elsewhere.stdout) == result["metrics"]["class_incremental"]["final_accuracy"]

    again = clbench("export", str(run), "--to", "onnx", "--out", "digits.onnx", here=tmp_path, data=data)
    assert again.returncode == 2 and "digits.onnx exists, and is not replaced" in again.stderr
