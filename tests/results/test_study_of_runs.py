"""The study of stored runs requests exactly the same runs again: real ones, requested in every possible way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Once
from stored_runs import in_memory, publish

import clbench
from clbench.plugins.discovery import builtin_folder
from clbench.results.asked_for import asked_for
from clbench.results.command import command_line
from clbench.results.run_spec import StreamSpec, run_id
from clbench.results.stored_run import StoredRun
from clbench.results.stored_runs import read_all
from clbench.results.study_of_runs import study_of_runs
from clbench.runs.option import accepted
from clbench.runs.planning import Planning
from clbench.runs.request import options
from clbench.runs.study import read_study
from clbench.system.toml import parse

ASKED: dict[str, dict[str, Any]] = {
    "presets, values and two scenarios": {
        "strategy": ["naive", "lwf", "lwf:pycil", "ewc:hsu2018"],
        "scenario": ["splitdigits", "other"],
        "seeds": 2,
        "set": {"lwf.alpha": 2, "lwf:pycil.temperature": "3", "recipe.lr": 0.05},
    },
    "other seeds": {"strategy": "lwf", "seeds": [3, 5], "set": {"alpha": 2}},
    "a recipe's own exceptions overridden": {
        "strategy": "naive",
        "recipe": "standard",
        "set": {"recipe.schedule": "milestones", "recipe.milestones": "1,2", "recipe.augmentation.flip": True},
    },
    "a network": {"strategy": "naive", "network": "mlp", "set": {"network.units": 16, "network.layers": 1}},
    "no weights": {"strategy": "naive", "network": "cnn", "weights": "none", "set": {"network.train": "head"}},
    "a list of classes": {"strategy": "l2", "class_order": "9,8,7,6,5,4,3,2,1,0", "split": "4,6"},
    "natural order": {"strategy": "l2", "class_order": "natural", "split": "5"},
    "task": {"strategy": ["naive", "ewc:vandeven2019"], "setting": "task"},
    "domain": {"strategy": "naive", "setting": "domain", "set": {"recipe.head": "fixed"}},
    "tuned in each experience": {"strategy": ["naive", "lwf", "ewc"], "tune": "chf"},
    "tuned from a value": {"strategy": "lwf", "tune": "chf", "set": {"alpha": "3"}},
    "threads": {"strategy": "naive", "threads": 2},
    "a stream": {"strategy": ["naive", "er"], "stream": "long_tailed", "set": {"stream.order": "ordered"}},
    "domains": {
        "strategy": "naive",
        "setting": "domain",
        "stream": "rotated",
        "split": None,
        "set": {"stream.angles": "0,90"},
    },
}
SEARCHED: dict[str, dict[str, Any]] = {
    "a grid": {"set": {"lwf.alpha": "1,2.0", "lwf.temperature": "2", "recipe.lr": "0.1,0.05"}},
    "the declared ladder": {},
    "a grid on a stream": {"stream": "long_tailed", "set": {"stream.imbalance": 0.1, "recipe.lr": "0.1,0.05"}},
}


def make(folder: Path, data: Path) -> None:
    """Make runs in `folder`, those of each entry of ASKED in a results folder of its number."""
    text = (builtin_folder("scenario") / "splitdigits.py").read_text()
    (folder / "scenarios").mkdir()
    (folder / "scenarios" / "other.py").write_text(text.replace("# ", "#  ") + "\n# another file\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, asked in enumerate((*ASKED.values(), *SEARCHED.values())):
            small = {"scenario": "splitdigits", "split": "2", "device": "cpu", "epochs": 1, **asked}
            if "grid" in asked.get("tune", "") or asked in SEARCHED.values():
                small |= {"strategy": "lwf", "tune": "grid"}
            clbench.run(out=f"results{number}", data=data, **small)


@pytest.fixture
def made(once: Once, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the runs of ASKED and SEARCHED, in which the test works."""
    folder = once("runs-asked-for", lambda folder: make(folder, data))
    monkeypatch.chdir(folder)
    return folder


def planned(text: str, study: Path, data: Path, out: Path) -> set[str]:
    """The ids of the runs that a study plans; its trials must be there already."""
    study.write_text(text)
    planning = Planning(read_study(study, {"data": accepted(options(), "data", data), "out": out}), lambda event: None)
    assert all((out / ".tuning" / run.name).is_dir() for run in planning.trials)
    return {run_id(run.spec) for run in planning.runs()}


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(ASKED) + len(SEARCHED)), ids=[*ASKED, *SEARCHED])
def test_the_study_of_runs_plans_the_same_runs(made: Path, data: Path, tmp_path: Path, number: int) -> None:
    out = made / f"results{number}"
    runs, _ = read_all([out])
    assert runs and planned(study_of_runs(runs), tmp_path / "again.toml", data, out) == {r.result.run_id for r in runs}


@pytest.mark.slow
def test_the_study_of_all_of_them_together_plans_them_all(made: Path, data: Path, tmp_path: Path) -> None:
    runs, _ = read_all([made / f"results{number}" for number in range(len(ASKED))])
    text = study_of_runs(runs)
    assert planned(text, tmp_path / "again.toml", data, made / "results0") == {run.result.run_id for run in runs}
    assert "To do" not in text


@pytest.mark.slow
def test_what_is_asked_for_alike_stands_together(made: Path) -> None:
    runs, _ = read_all([made / "results0"])
    found = parse(study_of_runs(runs))
    assert "grid" not in found
    assert found["strategy"] == ["ewc:hsu2018", "lwf:li2016", "lwf:pycil", "naive"]
    assert (found["scenario"], found["seeds"], found["epochs"]) == (["other", "splitdigits"], 2, 1)
    assert found["set"] == {
        "lwf:li2016": {"alpha": 2.0},
        "lwf:pycil": {"alpha": 2.0, "temperature": 3.0},
        "recipe": {"lr": 0.05},
    }


def test_runs_of_a_grid_search_are_searched_for_again(made: Path) -> None:
    runs, _ = read_all([made / f"results{len(ASKED)}"])
    found = parse(study_of_runs(runs))
    assert found["tune"] == "grid"
    assert found["set"] == {
        "lwf:li2016": {"temperature": "2.0", "alpha": ["1.0", "2.0"]},
        "recipe": {"lr": ["0.1", "0.05"]},
    }


def test_the_command_of_tuned_runs_tunes_them(made: Path) -> None:
    for name, how in (("tuned from a value", "chf"), ("a grid", "grid")):
        runs, _ = read_all([made / f"results{[*ASKED, *SEARCHED].index(name)}"])
        (section,) = asked_for(runs).sections
        assert f" --tune {how} " in command_line(section)


@pytest.mark.parametrize("name", ["a stream", "domains", "no weights", "task", "tuned from a value"])
def test_the_command_says_whatever_the_study_says(made: Path, name: str) -> None:
    runs, _ = read_all([made / f"results{[*ASKED, *SEARCHED].index(name)}"])
    (section,) = asked_for(runs).sections
    words = command_line(section).split()
    values = {f"{key}={value}" for key, value in section["set"].items() if not isinstance(value, list)}
    options = {f"--{key.replace('_', '-')}" for key in section} - {"--strategy", "--scenario", "--set"}
    assert values | options <= set(words)


def test_a_strategy_in_two_configurations_takes_two_grids(tmp_path: Path) -> None:
    runs = [publish(tmp_path, "mine", config={"alpha": alpha}) for alpha in (1.0, 4.0)]
    asked = asked_for(runs)
    assert [section["set"] for section in asked.sections] == [{"mine.alpha": 1.0}, {"mine.alpha": 4.0}]
    assert len(parse(study_of_runs(runs))["grid"]) == 2


MINE = """
import clbench


@clbench.config
class Config:
    alpha: float = 1.0


class Mine(clbench.Strategy[Config]):
    presets = {"fast": {"source": "a paper", "set": {"alpha": 3.0}}}

    def loss(self, batch):
        return self.config.alpha * batch.cross_entropy("seen")
"""


@pytest.mark.slow
def test_a_value_of_a_strategy_is_not_given_to_its_preset(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("strategies").mkdir()
    Path("strategies/mine.py").write_text(MINE)
    for selector, values in (("mine", {"alpha": 2}), ("mine:fast", {})):
        clbench.run(selector, "splitdigits", split="2", epochs=1, device="cpu", data=data, set=values)
    runs, _ = read_all(["results"])
    assert planned(study_of_runs(runs), Path("a.toml"), data, Path("results")) == {run.result.run_id for run in runs}


def test_it_says_which_files_made_the_runs_and_which_are_gone(tmp_path: Path) -> None:
    runs = [publish(tmp_path, name, text=f'"""{name}"""') for name in ("kept", "gone")]
    hashes = {run.spec.strategy.name: run.spec.strategy.sha256 for run in runs}
    (tmp_path / "sources" / f"{hashes['gone']}.py").unlink()
    text = study_of_runs(runs, {hashes["kept"]: "methods/kept.py"})
    assert f"#   kept: SHA-256 {hashes['kept']}, here methods/kept.py\n" in text
    assert f"#   gone: SHA-256 {hashes['gone']}, which their results folder does not have\n" in text


def test_what_images_of_ones_own_are_called_is_not_taken_for_their_path(tmp_path: Path) -> None:
    run = publish(tmp_path, "mine", scenario="photos-1a2b3c4d")
    stream = run.spec.scenario.model_copy(update={"dataset": "photos-1a2b3c4d"})
    own = run.spec.model_copy(update={"scenario": stream})
    text = study_of_runs([in_memory("mine", own, run.result, run.costs)])
    assert "# To do: photos-1a2b3c4d was made from a folder of images or a file whose path is not known" in text


def test_what_cannot_be_said_is_said_in_a_comment(tmp_path: Path) -> None:
    run: StoredRun = publish(tmp_path, "mine", config={"alpha": 1.0, "bound": None, "table": {"a": 1}})
    text = study_of_runs([run])
    assert "# To do: mine.bound = null cannot be written in a study.\n" in text
    assert '# To do: mine.table = {"a": 1} cannot be written in a study.\n' in text
    assert parse(text)["set"] == {"mine": {"alpha": 1.0}}


def test_a_stream_of_a_later_clbench_is_named_in_a_comment(tmp_path: Path) -> None:
    run = publish(tmp_path, "mine")
    stream = StreamSpec(name="spiral\n", options={}, split=(2, 2))
    later = run.spec.model_copy(update={"scenario": run.spec.scenario.model_copy(update={"stream": stream})})
    text = study_of_runs([in_memory("mine", later, run.result, run.costs)])
    assert '# To do: tiny: this clbench has no stream "spiral\\n".\n' in text
    assert parse(text)["split"] == 2
