"""The examples, and the strategy that the documentation shows, run as they stand there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import clbench
from clbench.plugins.discovery import builtin_folder

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "strategies"


def test_the_strategy_of_the_documentation_is_the_example() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "own-strategy.md").read_text(), re.DOTALL)
    assert (EXAMPLES / "fading.py").read_text() in blocks


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_an_example_runs_beside_the_built_in_strategies_and_passes_the_audit(
    name: str, data: Path, tmp_path: Path
) -> None:
    if name == "gem" and not importlib.util.find_spec("quadprog"):
        pytest.skip("GEM solves a quadratic programme, for which the package quadprog is not installed")
    text = (builtin_folder("scenario") / "splitdigits.py").read_text().replace("Recipe(", 'Recipe(head="fixed", ', 1)
    (tmp_path / "wide.py").write_text(text)
    strategies = ["naive", str(EXAMPLES / f"{name}.py")]
    runs = clbench.run(strategies, str(tmp_path / "wide.py"), epochs=2, threads=1, out=tmp_path / "out", data=data)
    assert runs[1].result.audit.verdict == "pass"
    assert name in repr(runs)


@pytest.mark.slow
def test_a_network_of_plain_pytorch_learns_a_class_and_answers_by_onnxruntime(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    spec = importlib.util.spec_from_file_location("extend_a_network", ROOT / "examples" / "extend_a_network.py")
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    assert example.main(tmp_path / "work") > 0.5
    assert (tmp_path / "work" / "extended" / "report.html").is_file()
