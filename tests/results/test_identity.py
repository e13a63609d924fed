"""A run's identity: the same for the same experiment however it is requested, another for every change that counts."""

import dataclasses
import hashlib
import json
import os
import random
from pathlib import Path
from typing import Annotated, Any

import pytest
import stored_runs
from hypothesis import example, given
from hypothesis import strategies as st

import clbench
from clbench.base.config import OMIT_DEFAULT
from clbench.base.events import Note
from clbench.base.incremental_setting import Setting
from clbench.data.dataset_info import DatasetInfo
from clbench.errors import UsageError
from clbench.plugins import discovery
from clbench.plugins.discovery import builtin_folder
from clbench.plugins.loading import load
from clbench.results import spec_building as spec
from clbench.results.protocol_building import protocol
from clbench.results.record_model import Record, to_json
from clbench.results.run_spec import RunSpec, experience_classes, folder_name, run_id
from clbench.results.spec_building import Machine
from clbench.runs.option_values import seeds_from
from clbench.runs.planned_runs import plan
from clbench.runs.request import Request

DATA = DatasetInfo(
    name="digits",
    classes=tuple("0123456789"),
    shape=(8, 8, 1),
    train_size=1,
    test_size=1,
    mean=(0.3,),
    std=(0.4,),
    sha256="0" * 64,
    source="made up",
    bytes=1,
)
STRATEGY = """
from typing import Annotated
from annotated_types import Ge
import clbench


@clbench.config
class Config:
    alpha: Annotated[float, Ge(0)] = 1.0
    steps: int = 3


class Mine(clbench.Strategy[Config]):
    pass
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(STRATEGY)
    return path


def built(
    strategy: Path,
    *,
    seed: int = 0,
    values: dict[str, Any] | None = None,
    data: DatasetInfo = DATA,
    device: str = "cpu",
    threads: int = 1,
    scenario: str = "splitdigits",
    **chosen: Any,
) -> RunSpec:
    """The spec of a run of the strategy on a built-in scenario; `chosen` goes to `protocol`."""
    plugin = discovery.select("scenario", str(builtin_folder("scenario") / f"{scenario}.py"))
    what = protocol(plugin, load(plugin), **chosen)
    own = discovery.select("strategy", str(strategy))
    how = spec.method(own, load(own), values or {})
    return spec.SpecBuilder(what, data, Machine(device, threads)).build(how, seed)


def test_names_of_classes_are_in_the_spec_unless_they_are_numbers(mine: Path) -> None:
    named = dataclasses.replace(DATA, classes=("cat", "dog", *DATA.classes[2:]))
    assert built(mine, data=DATA).scenario.class_names is None
    assert built(mine, data=named).scenario.class_names == named.classes
    assert [built(mine, data=named).scenario.class_name(each) for each in (1, 9)] == ["dog", "9"]
    assert [built(mine, data=DATA).scenario.class_name(each) for each in (1, 9)] == ["1", "9"]


def test_the_run_id_is_the_hash_of_sorted_compact_json(mine: Path) -> None:
    one = built(mine)
    text = json.dumps(to_json(one), sort_keys=True, separators=(",", ":"))
    assert run_id(one) == hashlib.sha256(text.encode()).hexdigest()


def test_the_order_of_keys_does_not_count(mine: Path) -> None:
    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        keys = list(value)
        random.Random(0).shuffle(keys)
        return {key: shuffled(value[key]) for key in keys}

    one = built(mine)
    other = shuffled(to_json(one))
    assert list(other) != list(to_json(one))
    assert run_id(RunSpec.model_validate(other)) == run_id(one)


def test_a_spec_read_back_from_its_file_is_the_same_and_has_the_same_id(mine: Path) -> None:
    one = built(mine, values={"alpha": "0.1"})
    again = RunSpec.model_validate_json(json.dumps(to_json(one), indent=1))
    assert again == one and run_id(again) == run_id(one)


def test_a_field_that_is_added_later_counts_only_when_it_is_not_at_its_default() -> None:
    @clbench.config
    class Before:
        lr: float = 0.1

    @clbench.config
    class After:
        lr: float = 0.1
        clip: Annotated[float, OMIT_DEFAULT] = 0.0
        """Added later; 0 is the earlier behaviour."""

    class Outer(Record):
        recipe: Any
        kind: Annotated[str, OMIT_DEFAULT] = "a"

    assert to_json(After()) == to_json(Before())
    assert to_json(After(clip=1.0)) == {"lr": 0.1, "clip": 1.0}
    assert to_json(Outer(recipe=After())) == {"recipe": {"lr": 0.1}}
    assert to_json(Outer(recipe=[After(clip=2)], kind="tasks")) == {
        "recipe": [{"lr": 0.1, "clip": 2.0}],
        "kind": "tasks",
    }


def test_an_option_of_a_stream_that_was_added_later_counts_only_when_it_is_not_at_its_default(data: Path) -> None:
    def recorded(**options: Any) -> dict[str, Any]:
        request = Request(["naive"], ["splitdigits"], stream="rotated", set=options, data=data)
        (planned,) = plan(request, lambda event: None)
        assert planned.spec.scenario.stream is not None
        return dict(planned.spec.scenario.stream.options)

    assert "smallest_angle" not in recorded()
    assert recorded(**{"stream.smallest_angle": "0"})["smallest_angle"] == 0


def test_a_spec_has_nothing_of_where_and_how_it_is_executed(mine: Path) -> None:
    assert set(to_json(built(mine))) == {
        "schema", "engine", "scenario", "network", "recipe", "strategy", "seeds", "device", "threads"
    }  # fmt: skip


def test_where_the_strategy_file_lies_does_not_count(mine: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "mine.py"
    copy.parent.mkdir()
    copy.write_bytes(mine.read_bytes())
    assert run_id(built(copy)) == run_id(built(mine))
    assert str(tmp_path) not in json.dumps(to_json(built(mine)))


def test_neither_paths_nor_the_number_of_jobs_nor_the_data_folder_count(
    mine: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ids(**changed: Any) -> list[str]:
        request = Request(**{"strategy": [str(mine)], "scenario": ["splitdigits"], "data": data, **CPU, **changed})
        return [run_id(run.spec) for run in plan(request, lambda event: None)]

    CPU = {"device": "cpu", "threads": 1}
    plain = ids()
    linked = tmp_path / "linked data"
    linked.symlink_to(data)
    assert ids(jobs=7, out=tmp_path / "other", data=linked) == plain
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USER", "somebody else")
    assert ids(strategy=["./mine.py"]) == plain


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"values": {"alpha": 2}},
        {"values": {"steps": 4}},
        {"threads": 2},
        {"device": "cuda"},
        {"split": "2"},
        {"split": "4,3,3"},
        {"order": "natural"},
        {"order": "9,8,7,6,5,4,3,2,1,0"},
        {"recipe": "standard"},
        {"epochs": 3},
        {"scenario": "splitmnist"},
        {"data": dataclasses.replace(DATA, sha256="1" * 64)},
        {"data": dataclasses.replace(DATA, name="other")},
    ],
    ids=str,
)
def test_what_changes_the_experiment_changes_the_id(mine: Path, change: dict[str, Any]) -> None:
    assert run_id(built(mine, **change)) != run_id(built(mine))


def test_a_change_of_the_strategys_file_changes_the_id(mine: Path) -> None:
    before = run_id(built(mine))
    mine.write_text(STRATEGY + "\n# a comment only\n")
    assert run_id(built(mine)) != before


def test_a_recipe_that_differs_in_anything_changes_the_id(mine: Path) -> None:
    one = built(mine)
    others: dict[str, Any] = {"lr": 0.7, "network": "cnn", "optimizer": "sgd", "batch_size": 7, "epochs": 77}
    others |= {"precision": "bfloat16", "augmentation": clbench.Augmentation(flip=True), "drop_last": True}
    recipes = [dataclasses.replace(one.recipe.config, **{name: value}) for name, value in others.items()]
    changed = [one.model_copy(update={"recipe": one.recipe.model_copy(update={"config": each})}) for each in recipes]
    assert len({run_id(each) for each in (one, *changed)}) == 1 + len(others)


def test_a_scenarios_version_changes_the_id(mine: Path) -> None:
    plugin = discovery.select("scenario", "splitdigits")
    scenario = load(plugin)
    own = discovery.select("strategy", str(mine))
    how = spec.method(own, load(own), {})
    ids = set()
    for version in (1, 2):
        newer = type("Newer", (scenario,), {"version": version})
        ids.add(run_id(spec.SpecBuilder(protocol(plugin, newer), DATA, Machine("cpu", 1)).build(how, 0)))
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"split": "5"}, {"split": "2,2,2,2,2"}),
        ({"split": "5"}, {}),
        ({"split": "4,3,3"}, {"split": "4+2x3"}),
        ({"split": "4,3,3"}, {"split": "4 + 2×3"}),
        ({"values": {"alpha": 1}}, {}),
        ({"values": {"alpha": "2"}}, {"values": {"alpha": 2.0}}),
        ({"values": {"alpha": "1e-1"}}, {"values": {"alpha": 0.1}}),
        ({"values": {"steps": "3"}}, {}),
        ({"recipe": "quick"}, {}),
        ({"epochs": 10}, {}),
        ({"order": "9,8,7,6,5,4,3,2,1,0"}, {"order": "9, 8, 7, 6, 5, 4, 3, 2, 1, 0"}),
        ({"order": "seed"}, {}),
    ],
    ids=str,
)
def test_one_experiment_written_two_ways_is_one_run(mine: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    assert built(mine, **one) == built(mine, **other)
    assert run_id(built(mine, **one)) == run_id(built(mine, **other))


def test_by_default_each_seed_has_a_class_order_of_its_own(mine: Path) -> None:
    orders = [tuple(built(mine, seed=seed).scenario.class_order) for seed in range(10)]
    assert len(set(orders)) == 10 and all(sorted(order) == list(range(10)) for order in orders)


def test_a_class_order_that_is_asked_for_is_that_of_every_seed(mine: Path) -> None:
    orders = {tuple(built(mine, seed=seed, order="natural").scenario.class_order) for seed in range(5)}
    assert orders == {tuple(range(10))}


def test_all_strategies_meet_the_same_classes_in_the_same_order(mine: Path) -> None:
    naive = built(builtin_folder("strategy") / "naive.py", seed=3)
    assert naive.scenario == built(mine, seed=3).scenario
    assert naive.seeds == built(mine, seed=3).seeds


def test_the_classes_of_the_experiences_are_consecutive_pieces_of_the_class_order(mine: Path) -> None:
    one = built(mine, split="5,3,2", order="9,0,8,1,7,2,6,3,5,4")
    assert experience_classes(one) == [[9, 0, 8, 1, 7], [2, 6, 3], [5, 4]]


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64])
def test_a_seed_that_is_none_is_a_usage_error(mine: Path, seed: int) -> None:
    with pytest.raises(UsageError, match="between 0 and 4294967295"):
        built(mine, seed=seed)


def test_the_largest_seed_is_one(mine: Path) -> None:
    assert built(mine, seed=2**32 - 1).seeds.run == 4294967295


def test_an_unknown_recipe_is_a_usage_error_with_the_nearest(mine: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'quick'"):
        built(mine, recipe="quik")


@pytest.mark.parametrize("epochs", [0, -1])
def test_epochs_below_one_are_a_usage_error(mine: Path, epochs: int) -> None:
    with pytest.raises(UsageError, match="epochs"):
        built(mine, epochs=epochs)


def named(scenario: str, strategy: str, recipe: str, setting: Setting = "class_incremental") -> RunSpec:
    one = stored_runs.spec_of(strategy, 0, "", {}, recipe, scenario, (2, 2), None, 1)
    return one.model_copy(update={"scenario": one.scenario.model_copy(update={"setting": setting})})


def test_a_run_lies_under_scenario_and_strategy_and_is_named_after_recipe_seed_and_id() -> None:
    one = named("splitdigits", "lwf", "quick")
    assert folder_name(one) == f"splitdigits/lwf/quick-seed0-{run_id(one)[:8]}"
    other = named("splitdigits", "lwf", "quick", "task_incremental")
    assert folder_name(other) == f"splitdigits/lwf/quick-task_incremental-seed0-{run_id(other)[:8]}"


HOSTILE = st.one_of(st.text(min_size=1), st.text("./\\~$-_a\0\n", min_size=1), st.just("x" * 300))


@pytest.mark.slow
@given(HOSTILE, HOSTILE, HOSTILE)
@example("..", "..", "..")
@example("/etc", "../../x", "a/b")
@example("é" * 300, "\x1b[31m", "con\0")
def test_no_name_leads_out_of_the_results_folder(scenario: str, strategy: str, recipe: str) -> None:
    clean = [text.encode(errors="replace").decode() for text in (scenario, strategy, recipe)]
    assert_inside(folder_name(named(*clean)))
    assert_inside(folder_name(named(*clean, setting="task_incremental")))


def test_an_empty_name_does_not_lead_out_of_the_results_folder_either() -> None:
    assert_inside(folder_name(named("", "", "")))


def assert_inside(name: str) -> None:
    place = os.path.normpath(Path("/results") / name)
    parts = Path(place).parts
    assert parts[:2] == ("/", "results") and len(parts) == 5, place
    assert all(part.isascii() and part.isprintable() and len(part) < 100 for part in parts)
    assert not any(part.startswith(".") for part in parts)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("1", (0,)),
        ("5", (0, 1, 2, 3, 4)),
        ("0,3", (0, 3)),
        ("7,", (7,)),
        ("3, 1", (3, 1)),
        ("4294967295,", (2**32 - 1,)),
    ],
)
def test_seeds_are_a_number_of_them_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert seeds_from(text) == seeds


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "10001", "a", "1.5", "1,a", ",", ",,", "1,,2", "-1,", "1 2", "²", "9" * 5000, "9" * 5000 + ","],
)
def test_what_is_neither_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        seeds_from(text)


def test_a_plan_has_every_combination_once_seeds_together_so_that_strategies_meet_the_same_data(data: Path) -> None:
    request = Request(["naive", "l2"], ["splitdigits"], seeds=(0, 3), device="cpu", threads=1, data=data)
    planned = plan(request, lambda event: None)
    assert [(run.plugin.name, run.spec.seeds.run) for run in planned] == [
        ("naive", 0),
        ("l2", 0),
        ("naive", 3),
        ("l2", 3),
    ]
    assert len({run.name for run in planned}) == 4


def test_one_strategy_named_in_two_ways_is_planned_once_or_refused(data: Path) -> None:
    path = str(builtin_folder("strategy") / "naive.py")
    request = Request(["naive", path], ["splitdigits"], device="cpu", threads=1, data=data)
    try:
        planned = plan(request, lambda event: None)
    except UsageError:
        return
    assert len(planned) == 1


@pytest.mark.slow
def test_all_means_every_strategy_that_is_not_broken_and_says_which_it_left_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "mine.py").write_text(STRATEGY)
    (tmp_path / "strategies" / "bad.py").write_text("def (:\n")
    notes: list[Any] = []
    planned = plan(Request(["all"], ["splitdigits"], device="cpu", threads=1, data=data), notes.append)
    builtins = {path.stem for path in builtin_folder("strategy").glob("*.py") if "_dialects" not in path.stem}
    assert {run.plugin.name for run in planned} == builtins | {"mine"}
    assert any(isinstance(note, Note) and "bad" in note.text for note in notes)
