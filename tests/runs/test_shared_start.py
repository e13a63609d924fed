"""A first experience that several strategies learn alike is trained once: same numbers, its time reported by each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import clbench
from clbench.results.store import WORK, ResultsFolder
from clbench.runs import shared_start
from clbench.runs.checkpoint import keep

ALIKE = ("naive", "l2", "ewc", "frozen", "lwf", "joint", "agem", "bic")
OWN_WAY = ("si", "er")


SCENARIO = """
import clbench


class FewDigits(clbench.Scenario):
    dataset = "digits"
    split = "4,3,3"
    recipes = {
        "plain": clbench.Recipe(network="cnn", optimizer="adam", lr=2e-3, batch_size=40, epochs=1),
        "budgets": clbench.Recipe(epochs=1, of_strategy={"l2": clbench.Overrides(epochs=2)}),
        "fixed": clbench.Recipe(network="mlp", optimizer="adam", optimizer_state="carried", lr=1e-3, head="fixed"),
    }
"""

Run = Callable[..., dict[tuple[str, int], Any]]


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Do runs and return them by strategy and seed."""
    scenario = tmp_path_factory.mktemp("scenario") / "fewdigits.py"
    scenario.write_text(SCENARIO)

    def runs(folder: Path, strategy: Any = (*ALIKE, *OWN_WAY), **options: Any) -> dict[tuple[str, int], Any]:
        options = {"seeds": 2, "threads": 1, "device": "cpu", "out": folder, "data": data, **options}
        done = clbench.run(strategy, str(scenario), **options)
        return {(one.spec.strategy.name, one.spec.seeds.run): one for one in done}

    return runs


def numbers(one: Any) -> list[bytes]:
    """The files of a run in which equal runs are equal."""
    return [(one.path / name).read_bytes() for name in ("spec.json", "result.json", "predictions.npz")]


@pytest.fixture(scope="module")
def apart(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs that share nothing."""
    return run(tmp_path_factory.mktemp("apart"), share=False)


@pytest.fixture(scope="module")
def shared(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same runs, one at a time, in which a first experience is trained once for all that learn it alike."""
    return run(tmp_path_factory.mktemp("shared"), jobs=1)


@pytest.mark.slow
def test_runs_that_share_are_to_the_byte_those_that_do_not(apart: Any, shared: Any, run: Run, tmp_path: Path) -> None:
    for runs in (shared, run(tmp_path / "results", jobs=2)):
        assert runs.keys() == apart.keys()
        for key, one in runs.items():
            assert numbers(one) == numbers(apart[key]), key


@pytest.mark.slow
def test_each_seed_is_trained_once_for_all_that_start_plainly(apart: Any, shared: Any) -> None:
    for seed in (0, 1):
        taken = [shared[name, seed].costs.experiences[0].shared for name in ALIKE]
        assert taken == [False] + [True] * (len(ALIKE) - 1)
        assert not any(shared[name, seed].costs.experiences[0].shared for name in OWN_WAY)
    assert not any(one.costs.experiences[0].shared for one in apart.values())
    assert not any(entry.shared for one in shared.values() for entry in one.costs.experiences[1:])


@pytest.mark.slow
def test_a_run_that_shares_reports_what_the_training_took(shared: Any) -> None:
    naive, l2 = shared["naive", 0], shared["l2", 0]
    for cost in ("samples_seen", "gradient_steps", "reads"):
        assert getattr(l2.result.experiences[0], cost) == getattr(naive.result.experiences[0], cost)
    trained, taken = naive.costs.experiences[0], l2.costs.experiences[0]
    assert taken.training_seconds == trained.training_seconds > 0
    for phase in ("forward", "backward"):
        assert taken.phases[phase] == trained.phases[phase] > 0
    assert taken.seconds >= trained.training_seconds
    assert taken.seconds == pytest.approx(sum(taken.phases.values()))


@pytest.mark.slow
def test_other_budgets_and_other_softmaxes_are_trained_by_themselves(run: Run, tmp_path: Path) -> None:
    budgets = run(tmp_path / "results", ["naive", "l2", "frozen"], recipe="budgets", seeds=1)
    assert [one.costs.experiences[0].shared for one in budgets.values()] == [False, False, True]
    softmaxes = run(
        tmp_path / "results", ["naive", "ewc", "l2"], recipe="fixed", set={"naive.cross_entropy_over": "all"}, seeds=1
    )
    assert [one.costs.experiences[0].shared for one in softmaxes.values()] == [False, False, True]


@pytest.mark.slow
def test_what_was_kept_is_gone_when_the_command_has_ended(shared: Any) -> None:
    results = shared["naive", 0].path.parents[2]
    assert list((results / WORK).iterdir()) == []


@pytest.mark.slow
def test_damage_to_what_was_kept_is_noticed_and_it_is_trained_again(
    apart: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep_damaged(path: Path, values: dict[str, Any]) -> None:
        keep(path, values)
        path.write_bytes(path.read_bytes()[:-1] + b"?")

    monkeypatch.setattr(shared_start, "keep", keep_damaged)
    shared = run(tmp_path / "results", ["naive", "ewc", "frozen"])
    assert not any(one.costs.experiences[0].shared for one in shared.values())
    assert all(numbers(one) == numbers(apart[key]) for key, one in shared.items())


@pytest.mark.slow
def test_a_first_experience_that_was_not_tracked_is_trained_again_for_a_run_that_is(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ResultsFolder, "discard_first_experiences", lambda *_: None)  # as if the command was stopped
    run(tmp_path / "results", ["naive"], seeds=1)
    (tracked,) = run(tmp_path / "results", ["l2"], seeds=1, track="events").values()
    steps = [json.loads(line) for line in (tracked.path / "events.jsonl").read_text().splitlines()]
    losses = [loss for event in steps if event["event"] == "StepsTaken" for loss in event["losses"]]
    assert len(losses) == tracked.result.totals.gradient_steps


@pytest.mark.slow
def test_tuning_trains_every_first_experience_with_the_rate_that_it_chose(run: Run, tmp_path: Path) -> None:
    tuned = run(tmp_path / "results", strategy=["naive", "l2"], seeds=1, tune="chf")
    assert not any(one.costs.experiences[0].shared for one in tuned.values())


def test_a_first_loss_and_a_loop_of_its_own_do_not_go_together(run: Run, tmp_path: Path) -> None:
    strategy = tmp_path / "both.py"
    strategy.write_text(
        "import clbench\n\n\n"
        "class Both(clbench.Strategy):\n"
        "    def first_loss(self):\n        return 'seen'\n\n"
        "    def train(self, training):\n        pass\n\n"
        "    def loss(self, batch):\n        return batch.cross_entropy()\n"
    )
    with pytest.raises(clbench.ClbenchError, match="Both has both a first_loss and a training loop of its own"):
        run(tmp_path / "results", strategy=str(strategy), seeds=1)


@pytest.mark.slow
def test_a_first_experience_that_cannot_be_kept_does_no_harm(
    apart: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, values: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shared_start, "keep", full)
    shared = run(tmp_path / "results", strategy=["naive", "l2"], seeds=1)
    assert not any(one.costs.experiences[0].shared for one in shared.values())
    assert all(numbers(one) == numbers(apart[key]) for key, one in shared.items())
