"""Avalanche is imported without waiting for packages that nothing uses, and these work when they are used."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from after_torch import AfterTorch


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_plugin_that_is_the_first_to_import_avalanche_does_not_wait_either(
    tmp_path: Path, after_torch: AfterTorch
) -> None:
    (tmp_path / "mine.py").write_text("from avalanche.training.plugins import GEMPlugin")
    program = f"""
import sys, pathlib
from clbench.plugins.module_loading import import_file
import_file(pathlib.Path({str(tmp_path / "mine.py")!r}))
print([name for name in sys.modules if name.startswith(("qpsolvers.", "wandb."))])
"""
    assert after_torch(program) == "[]"


def test_what_avalanche_imports_for_others_is_not_loaded_until_it_is_used(after_torch: AfterTorch) -> None:
    """GEM solves a quadratic program to keep the product with an old gradient from being negative: (1, -1) becomes
    (1, 0) with (0, 1)."""
    program = """
import sys, torch, warnings, clbench.avalanche.plugin_template
print([name for name in sys.modules if name.startswith(("qpsolvers.", "wandb."))])
warnings.simplefilter("error")  # of which some of the solvers give cause
from avalanche.training.plugins import GEMPlugin
plugin = GEMPlugin(patterns_per_experience=1, memory_strength=0.0)
plugin.G = torch.tensor([[0.0, 1.0]])
try:
    print([round(value, 2) + 0.0 for value in plugin.solve_quadprog(torch.tensor([1.0, -1.0])).tolist()])
except Exception as error:
    print(type(error).__name__)
"""
    # The solvers themselves are separate packages; if there is none, it is qpsolvers that reports it.
    solver = find_spec("quadprog") is not None
    assert after_torch(program).splitlines() == ["[]", "[1.0, 0.0]" if solver else "SolverNotFound"]


def test_a_package_that_is_missing_is_still_missing() -> None:
    program = """
import clbench.avalanche.quiet_import as own
own.PUT_OFF = ("no_such_package",)
with own.importing_avalanche():
    try:
        import no_such_package
    except ImportError as error:
        print(error)
"""
    assert python(program) == "No module named 'no_such_package'"


def test_a_package_that_does_not_load_says_why_when_it_is_used_and_when_it_is_imported_again(tmp_path: Path) -> None:
    (tmp_path / "no_good.py").write_text("int('x')")
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import clbench.avalanche.quiet_import as own
own.PUT_OFF = ("no_good",)
with own.importing_avalanche():
    import no_good
try:
    import no_good
    no_good.anything
except Exception as error:
    print(type(error).__name__, error, sep=": ")
try:
    import no_good
except ValueError as error:
    print("again", type(error).__name__)
"""
    said = python(program).splitlines()
    direct = sys.version_info >= (3, 13)  # an import statement that looks into the module raises what that raises
    about_package = "" if direct else "ImportError: no_good cannot be loaded: "
    assert said[0].startswith(f"{about_package}ValueError: invalid literal")
    assert said[1:] == ["again ValueError"]


@pytest.mark.parametrize(
    ("statement", "value"),
    [("", "late.value"), ("from late import value", "value"), ("import late.part", "late.part.value")],
)
def test_what_was_put_off_is_then_as_if_python_had_loaded_it(tmp_path: Path, statement: str, value: str) -> None:
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "__init__.py").write_text("value = 3")
    (tmp_path / "late" / "part.py").write_text("value = 3")
    program = f"""
import inspect, sys
sys.path.insert(0, {str(tmp_path)!r})
import clbench.avalanche.quiet_import as own
own.PUT_OFF = ("late",)
with own.importing_avalanche():
    import late
{statement}
print({value}, type(late).__name__, inspect.getsource(late).strip(), type(late.__loader__).__name__)
"""
    assert python(program) == "3 module value = 3 SourceFileLoader"


def test_a_run_of_our_own_strategies_does_not_import_avalanche_or_torchvision(after_torch: AfterTorch) -> None:
    program = """
import sys, clbench.runs.run
print([name for name in ("avalanche", "torchvision") if name in sys.modules])
"""
    assert after_torch(program) == "[]"
