"""What is refused before anything is trained, for all strategies of a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import clbench
from clbench.comparison.grouping import compare
from clbench.data.importing import import_dataset
from clbench.errors import UsageError
from clbench.runs.planned_runs import plan
from clbench.runs.request import Request

FEW = """
import clbench
class Few(clbench.Scenario):
    dataset, split, class_order = "few", "8,1,1", "natural"
    recipes = {"quick": clbench.Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=32, epochs=1)}
"""
TIRED = """
import clbench
class Tired(clbench.Strategy):
    def start(self, model):
        raise ERROR
    def loss(self, batch):
        return batch.cross_entropy()
"""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with digits of which class 9 has a single training image."""
    folder = tmp_path_factory.mktemp("few")
    bundled = load_digits()
    images, labels = (bundled.images * 15).astype(np.uint8), bundled.target
    train = np.concatenate([np.flatnonzero(labels == c)[: 1 if c == 9 else 40] for c in range(10)])
    test = np.concatenate([np.flatnonzero(labels == c)[100:120] for c in range(10)])
    arrays = {"x_train": images[train], "y_train": labels[train], "x_test": images[test], "y_test": labels[test]}
    np.savez(folder / "few.npz", **arrays)
    import_dataset("few", folder / "few.npz", folder)
    (folder / "few.py").write_text(FEW)
    return folder


def refusal(data: Path, strategies: Any = "naive", scenario: Any = "splitdigits", **given: Any) -> UsageError:
    asked = {"strategy": strategies, "scenario": scenario, "device": "cpu", "data": data, **given}
    with pytest.raises(UsageError) as raised:
        plan(Request.from_python(asked), lambda event: None)
    return raised.value


def test_a_preset_that_does_not_fit_the_recipe_is_refused_with_what_fits_and_nothing_is_trained(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError) as raised:
        clbench.run(["naive", "lwf:vandeven2022", "er"], "splitdigits", epochs=1, data=data, out=out)
    assert "lwf:vandeven2022 on splitdigits, recipe quick-epochs1" in str(raised.value)
    assert raised.value.hint and "--set recipe.head=fixed" in raised.value.hint
    assert not list(out.rglob("result.json"))
    asked = Request.from_python(
        {"strategy": "lwf:vandeven2022", "scenario": "splitdigits", "set": {"recipe.head": "fixed"}, "data": data}
    )
    assert plan(asked, lambda event: None)


def test_another_fault_of_a_strategy_at_its_start_concerns_its_own_run_only(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "tired.py"
    path.write_text(TIRED.replace("ERROR", "ValueError('no')"))
    asked = {"strategy": ["naive", path], "scenario": "splitdigits", "data": data}
    assert len(plan(Request.from_python(asked), lambda event: None)) == 2
    path.write_text(TIRED.replace("ERROR", "clbench.UsageError('needs rest')"))
    assert "tired on splitdigits, recipe quick: needs rest" in str(refusal(data, ["naive", path]))


def test_continual_tuning_is_refused_where_its_criterion_is_constant(data: Path) -> None:
    error = refusal(data, split="8,1,1", tune="chf")
    assert "always 100 %" in str(error) and "experiences 1, 2" in str(error)
    assert error.hint and "--tune grid" in error.hint


def test_validation_data_are_refused_where_no_image_can_be_held_out(few: Path) -> None:
    values = {"recipe.schedule": "plateau", "recipe.validation": 0.1}
    error = refusal(few, scenario=few / "few.py", set=values)
    assert "no image to hold out for validation in experience 2" in str(error)
    asked = {"strategy": "naive", "scenario": few / "few.py", "split": "8,2", "set": values, "data": few}
    assert plan(Request.from_python(asked), lambda event: None)


def test_validation_data_that_nothing_reads_are_refused(data: Path) -> None:
    error = refusal(data, set={"recipe.validation": 0.2})
    assert "recipe.validation = 0.2 only leaves out training data here" in str(error)
    assert error.hint == "Set recipe.validation=0, or recipe.schedule=plateau."
    asked = {"strategy": "naive", "scenario": "splitdigits", "set": {"recipe.validation": 0.2}, "data": data}
    assert plan(Request.from_python({**asked, "tune": "chf"}), lambda event: None)


def test_a_length_is_given_in_epochs_or_in_iterations(data: Path) -> None:
    error = refusal(data, epochs=1, set={"recipe.iterations": 5})
    assert "--epochs and --set recipe.iterations are both given" in str(error)


def test_a_recipes_values_for_a_strategy_that_does_not_exist_are_refused(data: Path) -> None:
    assert "there is no strategy 'lfw'; did you mean 'lwf'?" in str(refusal(data, set={"recipe.of_strategy.lfw.lr": 1}))
    asked = {"strategy": "naive", "scenario": "splitdigits", "set": {"recipe.of_strategy.lwf.lr": 1}, "data": data}
    assert plan(Request.from_python(asked), lambda event: None)


def said_before_training(strategy: str, data: Path, **given: Any) -> str:
    notes: list[Any] = []
    plan(Request.from_python({"strategy": strategy, "scenario": "splitdigits", "data": data, **given}), notes.append)
    return " ".join(note.text for note in notes)


@pytest.mark.parametrize("strategy", ["lwf", "lwf:pycil", "naive:pycil"])
def test_a_cross_entropy_over_one_class_is_announced_with_what_ranges_over_all(strategy: str, data: Path) -> None:
    """A softmax over one class is 1, and its cross-entropy 0."""
    said = said_before_training(strategy, data, split="8,1,1")
    assert "experiences 1, 2 bring one class" in said and "it is always 0" in said
    assert "-s lwf:vandeven2019" in said or "cross_entropy_over=seen" in said


@pytest.mark.parametrize(
    ("strategy", "given"),
    [("lwf", {}), ("naive", {"split": "8,1,1"}), ("lwf:vandeven2019", {"split": "8,1,1"}), ("lwf", {"split": "1,9"})],
)
def test_nothing_is_announced_where_the_cross_entropy_says_something(
    strategy: str, given: dict[str, Any], data: Path
) -> None:
    assert "one class" not in said_before_training(strategy, data, **given)


@pytest.mark.parametrize(
    ("loss", "announced"),
    [
        ("batch.cross_entropy(over='current')", True),
        ("batch.cross_entropy('current' if batch.experience.index == 1 else 'seen')", True),
        ('batch.cross_entropy("seen")  # not batch.cross_entropy("current")', False),
        ('batch.logits.sum() + batch.cross_entropy("current")', False),  # what it needs first is not there to be asked
    ],
)
def test_a_strategy_is_asked_over_which_classes_its_cross_entropy_ranges(
    loss: str, announced: bool, data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "asked.py"
    path.write_text(
        f"import clbench\n\nclass Asked(clbench.Strategy):\n    def loss(self, batch):\n        return {loss}\n"
    )
    assert ("one class" in said_before_training(str(path), data, split="8,1,1")) == announced


@pytest.mark.slow
def test_a_run_records_in_which_experiences_the_cross_entropy_was_constant(data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"split": "8,1,1", "epochs": 1, "data": data, "out": tmp_path}
    lwf, naive = clbench.run(["lwf", "naive"], "splitdigits", **options)
    assert [each.constant_cross_entropy for each in lwf.result.experiences] == [False, True, True]
    assert [each.constant_cross_entropy for each in naive.result.experiences] == [False, False, False]


@pytest.mark.slow
def test_a_loss_of_its_own_that_was_0_at_every_step_is_said_and_never_the_best(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "import clbench\nfrom torch.nn.functional import cross_entropy\n\n\nclass Own(clbench.Strategy):\n"
        "    def loss(self, batch):\n        first = batch.experience.old_classes\n"
        "        return cross_entropy(batch.logits[:, first:], batch.y - first)\n"
    )
    options: dict[str, Any] = {"split": "8,1,1", "epochs": 1, "data": data, "out": tmp_path / "runs"}
    (comparison,) = compare(clbench.run([str(path), "naive"], "splitdigits", **options))
    assert [row.standing for row in comparison.rows] == [None, None]
    assert any("The loss of own was 0 at every step of experiences 1 and 2" in text for text in comparison.warnings)


@pytest.mark.slow
def test_a_first_experience_of_one_class_is_no_fault_of_a_strategy(data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"split": "1,9", "epochs": 1, "data": data, "out": tmp_path}
    (comparison,) = compare(clbench.run(["er", "naive"], "splitdigits", **options))
    assert comparison.rows[-1].standing == "best"
    (warning,) = [text for text in comparison.warnings if "cross-entropy" in text]
    assert warning.startswith("Experience 0 has one class.")
