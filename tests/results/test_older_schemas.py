"""A run of an older schema is not read; the message contains the command that reproduces it."""

import hashlib
import shlex
from pathlib import Path
from typing import Any

import pytest

from clbench.results import manifests
from clbench.results.record_model import as_json
from clbench.results.stored_run import Unreadable
from clbench.results.stored_runs import read

SOURCE = b"""
import clbench


@clbench.config
class Config:
    alpha: float = 1.0
    temperature: float = 2.0


class LwF(clbench.Strategy[Config]):
    presets = {"mine": {"set": {"alpha": 3.0}, "in_setting": {"task_incremental": {"temperature": 1.0}}}}
"""
SPEC: dict[str, Any] = {
    "schema": 1,
    "engine": 1,
    "scenario": {
        "name": "splitmnist",
        "version": 1,
        "setting": "task_incremental",
        "dataset": "mnist",
        "dataset_sha256": "0" * 64,
        "classes_per_experience": [4, 2, 2, 2],
        "class_order_from": "natural",
        "class_order": list(range(10)),
    },
    "recipe": {"name": "quick-epochs3", "model": "mlp", "lr": 0.1},
    "strategy": {"name": "lwf", "preset": "mine", "config": {"alpha": 5.0, "temperature": 1.0}},
    "seeds": {"run": 7, "class_order": 1, "model": 2, "training": 3},
    "device": "cpu",
    "threads": 2,
}


def problem(folder: Path, **changed: Any) -> str:
    spec = {**SPEC, **changed}
    spec["strategy"] = {**spec["strategy"], "sha256": hashlib.sha256(SOURCE).hexdigest()}
    result = as_json({"schema": spec["schema"], "status": "finished"})
    files = {"spec.json": as_json(spec), "result.json": result, "environment.json": b"{}", "strategy.py": SOURCE}
    for name, content in {**files, manifests.MANIFEST: manifests.of(files)}.items():
        (folder / name).write_bytes(content)
    found = read(folder)
    assert isinstance(found, Unreadable) and found.other_schema
    return found.problem


def command(text: str) -> list[str]:
    return shlex.split(text.rpartition("run it again with: ")[2])


def test_the_command_has_every_choice_of_the_old_spec(tmp_path: Path) -> None:
    said = problem(tmp_path)
    assert said.startswith(
        "it has schema 1, and this version of clbench reads schema 2; run it again with: clbench run"
    )
    assert command(said) == shlex.split(
        "clbench run -s lwf:mine -S splitmnist --recipe quick --setting task --epochs 3 --split 4+3x2 "
        "--class-order natural --seeds 7, --device cpu --threads 2 --set lwf:mine.alpha=5.0"
    )


def test_a_tuned_run_is_tuned_again(tmp_path: Path) -> None:
    candidates = [{"alpha": value, "validation_accuracy": 0.5} for value in ("5.0", "9.0")]
    words = command(problem(tmp_path, tuning={"how": "grid", "trials": 4, "candidates": candidates}))
    assert words[words.index("--tune") + 1] == "grid" and words[-1] == "lwf:mine.alpha=5.0,9.0"
    words = command(problem(tmp_path, tuning={"how": "chf", "start": 5.0}))
    assert words[words.index("--tune") + 1] == "chf" and words[-1] == "lwf:mine.alpha=5.0"


@pytest.mark.parametrize("spec", ["[]", "3", "{}", '{"schema": 1}', "nonsense"])
def test_what_is_no_spec_at_all_is_a_problem_and_no_crash(tmp_path: Path, spec: str) -> None:
    problem(tmp_path)
    (tmp_path / "spec.json").write_text(spec)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != manifests.MANIFEST}
    (tmp_path / manifests.MANIFEST).write_bytes(manifests.of(files))
    assert isinstance(read(tmp_path), Unreadable)


def test_a_newer_schema_asks_for_a_newer_clbench(tmp_path: Path) -> None:
    assert "update clbench" in problem(tmp_path, schema=3)
