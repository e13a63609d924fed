"""`clbench new`: what it writes runs, and nothing is ever written over."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import clbench
from clbench.cli.app import application
from clbench.errors import MachineError, UsageError
from clbench.plugins import scaffold
from clbench.plugins.discovery import select
from clbench.plugins.loading import load
from clbench.plugins.scaffold import new_scenario, new_strategy


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("original", [None, "lwf", "er", "slda"])
def test_a_new_strategy_runs_as_it_is(original: str | None, here: Path, data: Path) -> None:
    path = new_strategy("my_idea", original)
    assert path == Path("strategies/my_idea.py")
    plugin = select("strategy", "my_idea")
    assert plugin.class_name == "MyIdea" and plugin.source == "working folder"
    assert "Source:" in plugin.doc and "Variant:" in plugin.doc
    (run,) = clbench.run("my_idea", "splitdigits", epochs=1, threads=1, data=data)
    assert run.result.audit.verdict == "pass"


def test_a_full_disk_leaves_no_half_of_a_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(scaffold, "replace_file", full)
        with pytest.raises(MachineError, match=r"cannot write strategies/mine\.py: No space left on device"):
            new_strategy("mine")
    assert new_strategy("mine").is_file()


def test_a_file_in_the_place_of_the_folder_is_named(here: Path) -> None:
    Path("strategies").touch()
    with pytest.raises(MachineError, match=r"cannot write strategies/mine\.py: File exists"):
        new_strategy("mine")


@pytest.mark.slow
def test_the_skeleton_is_lwf(here: Path, data: Path) -> None:
    new_strategy("mine")
    mine, lwf = (
        clbench.run(name, "splitdigits", epochs=1, threads=1, data=data, set=values)[0]
        for name, values in (("mine", {}), ("lwf:pycil", {"alpha": 1, "lambda_r": 0}))
    )
    assert [entry.weights_sha256 for entry in mine.result.experiences] == [
        entry.weights_sha256 for entry in lwf.result.experiences
    ]


def test_nothing_is_written_over(here: Path) -> None:
    path = new_strategy("mine")
    path.write_text("my work")
    with pytest.raises(UsageError, match="already exists"):
        new_strategy("mine")
    assert path.read_text() == "my work"


@pytest.mark.parametrize("name", ["lwf", "../x", "a-b", "1st", "class", "test_it", "", "x" * 100])
def test_a_name_that_cannot_be_is_refused(name: str, here: Path) -> None:
    with pytest.raises(UsageError):
        new_strategy(name)
    assert not list(here.rglob("*.py"))


def test_a_new_scenario_has_the_dataset_and_the_split(here: Path) -> None:
    new_scenario("flowers", "petals", "3+425x2", (32, 32, 3))
    scenario = load(select("scenario", "flowers"))
    assert (scenario.dataset, scenario.split) == ("petals", "3+425x2")


@pytest.mark.parametrize(
    ("shape", "quick", "standard"),
    [
        ((7, 60, 1), "mlp", "mlp"),
        ((8, 8, 1), "cnn", "resnet18"),
        ((32, 32, 3), "cnn", "resnet18"),
        ((64, 64, 3), "cnn", "torchvision:resnet18"),
        ((224, 224, 3), "cnn", "torchvision:resnet18"),
    ],
)
def test_a_new_scenarios_networks_suit_the_size_of_the_images(
    shape: tuple[int, int, int], quick: str, standard: str, here: Path
) -> None:
    new_scenario("flowers", "petals", "2", shape)
    recipes = load(select("scenario", "flowers")).recipes
    assert {name: recipe.network for name, recipe in recipes.items()} == {"quick": quick, "standard": standard}


def test_a_new_scenario_from_a_file_of_images_runs(here: Path, data: Path) -> None:
    draw = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 20)
    x = (draw.integers(0, 60, (80, 8, 8, 3)) + 40 * y[:, None, None, None]).astype(np.uint8)
    np.savez("flowers.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    done = CliRunner().invoke(application(), ["new", "scenario", "flowers", "flowers.npz", "--data", str(data)])
    assert done.exit_code == 0 and "clbench run -s naive,lwf -S flowers" in done.output
    (run,) = clbench.run("naive", "flowers", threads=1, data=data)
    assert run.spec.scenario.classes_per_experience == (2, 2)


def test_a_dataset_that_cannot_be_read_leaves_no_scenario(here: Path, data: Path) -> None:
    Path("broken.npz").write_bytes(b"nothing")
    done = CliRunner().invoke(application(), ["new", "scenario", "flowers", "broken.npz", "--data", str(data)])
    assert done.exit_code != 0 and not list(here.glob("scenarios/*.py"))
