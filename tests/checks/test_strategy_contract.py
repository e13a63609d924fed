"""`clbench check`: each fault is found by its check, and a correct strategy passes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clbench.checks.check import Result
from clbench.checks.check import perform as perform_check
from clbench.checks.small_scenario import Bench
from clbench.checks.strategy_contract import CHECKS, examine
from clbench.plugins.discovery import builtin_folder, describe
from clbench.testing import parametrize_with_checks

HEAD = '''"""A strategy with a fault.

    L = CE(softmax(o), y)

Source: the tests.
Variant: none.
"""

import itertools
import random

import numpy as np
import torch

import clbench

'''
BODY = "    def loss(self, batch):\n        return batch.cross_entropy()\n"

FAULTY = {
    "one_strategy_that_loads": HEAD + "class Other(clbench.Strategy):\n" + BODY,
    "docstring_names_source_equation_and_variant": HEAD.replace("Variant: none.", "")
    + "class Faulty(clbench.Strategy):\n"
    + BODY,
    "hyper_parameters_are_described_bounded_and_survive_json": HEAD
    + "@clbench.config\nclass Config:\n    alpha: float = 1.0\n    '''Weight.'''\n\n"
    + "class Faulty(clbench.Strategy[Config]):\n"
    + BODY,
    "its_hooks_are_spelled_as_the_contract_has_them": HEAD
    + "class Faulty(clbench.Strategy):\n    def after_experiance(self, model, experience):\n        pass\n\n"
    + BODY,
    "trains_in_the_first_and_in_later_experiences": HEAD
    + "class Faulty(clbench.Strategy):\n    def loss(self, batch):\n"
    + "        return -batch.cross_entropy().clamp(max=5)\n",
    "trains_on_batches_of_one": HEAD
    + "class Faulty(clbench.Strategy):\n    def loss(self, batch):\n"
    + "        return batch.cross_entropy() + 0 * batch.logits[1].sum()\n",
    "trains_on_an_experience_of_one_class": HEAD
    + "class Faulty(clbench.Strategy):\n    def loss(self, batch):\n"
    + "        new = batch.logits[:, batch.experience.old_classes :]\n"
    + "        return batch.cross_entropy() + 0 * new[:, 1].sum()\n",
    "the_same_seed_gives_the_same_weights": HEAD
    + "DRAWS = random.SystemRandom()\n\n\nclass Faulty(clbench.Strategy):\n    def loss(self, batch):\n"
    + "        return batch.cross_entropy() * DRAWS.random()\n",
    "a_killed_run_resumes_bit_identically": HEAD
    + "STEPS = itertools.count()\n\n\nclass Faulty(clbench.Strategy):\n    def start(self, model):\n"
    + "        global STEPS\n        STEPS = itertools.count()\n\n    def loss(self, batch):\n"
    + "        return batch.cross_entropy() / (1 + next(STEPS) / 100)\n",
    "leaves_global_state_alone": HEAD
    + "class Faulty(clbench.Strategy):\n    def start(self, model):\n        torch.set_default_dtype(torch.float64)\n\n"
    + "    def after_experience(self, model, experience):\n        torch.set_default_dtype(torch.float64)\n\n"
    + BODY,
    "frozen_copies_stay_unchanged": HEAD
    + "import copy\n\n\nclass Faulty(clbench.Strategy):\n"
    + "    def after_experience(self, model, experience):\n        self.teacher = copy.deepcopy(model)\n\n"
    + "    def loss(self, batch):\n        new = batch.cross_entropy()\n        if batch.experience.index == 0:\n"
    + "            return new\n        return new + 0 * self.teacher(batch.x).sum()  # which is in training mode\n",
}


def perform(name: str, bench: Bench) -> Result:
    return perform_check(next(check for check in CHECKS if check.__name__ == name), bench)


@pytest.mark.slow
@pytest.mark.parametrize("check", sorted(FAULTY))
def test_a_fault_is_found_by_its_check(check: str, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY[check])
    result = perform(check, Bench(describe("strategy", tmp_path / "faulty.py", "path")))
    assert result.status == "failed" and result.found and result.fix


REFUSES = """class Faulty(clbench.Strategy):
    @classmethod
    def check_protocol(cls, config, recipe, setting):
        if {refused}:
            raise clbench.UsageError("faulty: not with this recipe")

"""
KEEPS_WEIGHTS_IN_A_GLOBAL = """    def start(self, model):
        KEPT.clear()

    def after_experience(self, model, experience):
        KEPT.extend(weight.detach().clone() for weight in model.blocks.parameters())

    def loss(self, batch):
        pairs = zip(KEPT, batch.model.blocks.parameters())
        return batch.cross_entropy() + sum(((old - new) ** 2).sum() for old, new in pairs)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refused", "earlier"),
    [
        ("recipe.augmentation.active", "trains_on_augmented_images"),
        ("recipe.head == 'fixed'", "trains_with_a_fixed_head"),
        ("recipe.head == 'growing'", "trains_in_the_first_and_in_later_experiences"),
    ],
)
def test_the_killed_run_has_the_recipe_of_the_run_that_it_is_compared_with(
    refused: str, earlier: str, tmp_path: Path
) -> None:
    outcomes = {}
    for fault, body in (("none", BODY), ("a global", KEEPS_WEIGHTS_IN_A_GLOBAL)):
        (tmp_path / "faulty.py").write_text(HEAD + "KEPT = []\n\n\n" + REFUSES.format(refused=refused) + body)
        bench = Bench(describe("strategy", tmp_path / "faulty.py", "path"))
        perform(earlier, bench)
        outcomes[fault] = perform("a_killed_run_resumes_bit_identically", bench).status
    assert outcomes == {"none": "passed", "a global": "failed"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cheater", "check"),
    [
        ("opens_the_data_again", "reads_the_data_of_the_current_experience_only"),
        ("keeps_images_as_bytes", "keeps_no_more_than_it_declares"),
        ("learns_during_evaluation", "evaluation_changes_nothing"),
        ("balances_predictions_over_the_test_batch", "prediction_depends_on_its_own_sample_only"),
    ],
)
def test_what_the_audit_finds_fails_a_check(cheater: str, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(describe("strategy", Path(__file__).parents[1] / "cheating_strategies" / f"{cheater}.py", "path"))
    monkeypatch.setenv("CHEATER_DATA", str(bench.data))
    assert perform(check, bench).status == "failed"


@pytest.mark.slow
@parametrize_with_checks(builtin_folder("strategy") / "icarl.py")
def test_a_built_in_strategy_passes(check: Callable[[], None]) -> None:
    check()


@pytest.mark.slow
@parametrize_with_checks(
    Path(__file__).parents[1] / "cheating_strategies" / "keeps_images_as_arrays.py",
    expected_failures={
        "one_strategy_that_loads": "its class has another name",
        "docstring_names_source_equation_and_variant": "it has none",
        "keeps_no_more_than_it_declares": "it keeps images",
    },
)
def test_an_author_can_say_which_checks_are_expected_to_fail(check: Callable[[], None]) -> None:
    check()


def test_an_expected_failure_of_an_unknown_check_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown check nonsense"):
        parametrize_with_checks("lwf", expected_failures={"nonsense": "because"})


def test_every_check_says_what_it_checks() -> None:
    assert len(CHECKS) >= 15
    assert all(check.__doc__ and check.__doc__.endswith(".") for check in CHECKS)


@pytest.mark.slow
def test_the_command_prints_every_check_and_how_to_fix_what_fails(tmp_path: Path) -> None:
    path = tmp_path / "faulty.py"
    path.write_text(FAULTY["trains_on_batches_of_one"])
    command = [sys.executable, "-m", "clbench", "check", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert all(check.__name__ in done.stdout for check in CHECKS)
    assert done.stdout.count("FAIL") == 1
    assert f"faulty: {len(CHECKS) - 1} of {len(CHECKS)} checks passed, 1 failed" in done.stdout
    assert "trains_on_batches_of_one\n      in experience 0" in done.stdout


def examined(tmp_path: Path, text: str) -> list[Result]:
    (tmp_path / "faulty.py").write_text(text)
    return list(examine(describe("strategy", tmp_path / "faulty.py", "path")))


@pytest.mark.slow
def test_a_file_that_does_not_load_fails_one_check_and_skips_those_that_need_it(tmp_path: Path) -> None:
    results = examined(
        tmp_path, HEAD.replace("import numpy", "import nowhere") + "class Faulty(clbench.Strategy):\n" + BODY
    )
    failed = [result.check for result in results if result.status == "failed"]
    assert failed == ["one_strategy_that_loads"]
    skipped = [result for result in results if result.status == "skipped"]
    assert len(skipped) == len(CHECKS) - 3 and {result.found for result in skipped} == {"see one_strategy_that_loads"}


def test_a_hook_of_strategies_of_features_is_one_too(tmp_path: Path) -> None:
    text = "class Faulty(clbench.FeatureStrategy):\n    def learns(self, features, labels, experience):\n        pass\n"
    (tmp_path / "faulty.py").write_text(HEAD + text)
    bench = Bench(describe("strategy", tmp_path / "faulty.py", "path"))
    result = perform("its_hooks_are_spelled_as_the_contract_has_them", bench)
    assert (
        result.status == "failed" and "Faulty.learns" in result.found and "did you mean the hook learn?" in result.found
    )


@pytest.mark.slow
def test_a_traceback_that_many_checks_meet_is_shown_once(tmp_path: Path) -> None:
    results = examined(
        tmp_path, HEAD + "class Faulty(clbench.Strategy):\n    def loss(self, batch):\n        return lost\n"
    )
    failed = [result for result in results if result.status == "failed"]
    assert len(failed) > 3 and all("NameError: name 'lost'" in result.found for result in failed)
    assert sum("Traceback" in result.found for result in failed) == 1
    assert failed[1].found.endswith("As in trains_in_the_first_and_in_later_experiences.")


@pytest.mark.slow
def test_a_strategy_and_a_network_from_a_package_work_like_those_in_the_working_folder(tmp_path: Path) -> None:
    package = Path(__file__).parents[1] / "package"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    site = tmp_path / "site"
    subprocess.run([*install, "--target", str(site), str(package)], check=True, capture_output=True, timeout=300)

    def clbench(*arguments: str) -> subprocess.CompletedProcess[str]:
        import os

        environment = {**os.environ, "PYTHONPATH": str(site)}
        command = [sys.executable, "-m", "clbench", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment, timeout=300
        )

    listed = clbench("list", "strategies")
    assert "idea" in listed.stdout and "package clbench-idea" in listed.stdout
    assert "Source: the tests of clbench." in clbench("show", "idea").stdout
    networks = clbench("list", "networks")
    assert "wide" in networks.stdout and "package clbench-idea" in networks.stdout
    run = ["run", "-s", "naive,idea", "-S", "splitdigits", "--network", "wide", "--epochs", "1", "--jobs", "2"]
    done = clbench(*run)
    assert done.returncode == 0, done.stderr
    assert "idea" in done.stdout and "wide" in done.stdout
    assert clbench("report").returncode == 0
    assert "idea" in (tmp_path / "reports/results/index.html").read_text()
