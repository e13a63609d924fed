"""The layers of packages that pyproject.toml declares hold, and an import against them is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="needs import-linter: pip install -e '.[test]'")
ROOT = Path(__file__).parents[1]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """`lint-imports` on the package in `folder`."""
    program = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "clbench", tmp_path / "clbench", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line", "says"),
    [
        ("base/recipe.py", "import clbench.runs.planned_runs", "clbench.base is not allowed to import clbench.runs"),
        ("losses.py", "def f(): import clbench.api", "clbench.losses is not allowed to import clbench.api"),
        ("room/__init__.py", "", "clbench.room"),
    ],
)
def test_an_import_that_is_turned_round_and_a_package_without_a_place_are_found(
    copy: Path, module: str, line: str, says: str
) -> None:
    kept = lint(copy)
    assert kept.returncode == 0, kept.stdout + kept.stderr
    (copy / "clbench" / module).parent.mkdir(exist_ok=True)
    with (copy / "clbench" / module).open("a") as file:
        file.write(f"\n{line}\n")
    broken = lint(copy)
    assert broken.returncode == 1 and says in broken.stdout
