"""A study that clbench writes asks for what the command line asked for."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clbench.errors import MachineError, UsageError
from clbench.runs.option import parsed
from clbench.runs.planning import Planning
from clbench.runs.request import Request, options
from clbench.runs.saved_study import save, write_example
from clbench.runs.study import read_study
from clbench.system.toml import parse

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="=,"), min_size=1, max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["2", "0.5", "-1", "1e-05", "1e5", "007", "+3", "true", "False", "none", "1,2", "nan", "٣", '"', "2.0"]
)
ASSIGNMENTS = st.lists(
    st.tuples(st.sampled_from(["lwf", "lwf:pycil", "recipe", "network", "avalanche:Replay"]), NAMES, TEXTS),
    unique_by=lambda each: each[:2],
    max_size=4,
).map(lambda found: [f"{owner}.{name.replace('.', '_')}={value}" for owner, name, value in found])
TYPED = st.fixed_dictionaries(
    {"strategy": st.sampled_from([["lwf"], ["naive,lwf"], ["lwf:pycil", "avalanche:Replay"], ["all"]])},
    optional={
        "scenario": st.sampled_from([["splitdigits"], ["splitdigits,avalanche:SplitMNIST"]]),
        "recipe": NAMES,
        "network": st.sampled_from(["cnn", "timm:resnet18", "torchvision:resnet18"]),
        "weights": st.sampled_from(["none", "pretrained"]),
        "seeds": st.sampled_from(["1", "5", "0,3", "7,", "1,0", "0,1,2"]),
        "set": ASSIGNMENTS,
        "split": st.sampled_from(["5", "4,3,3", "50+10x5"]),
        "class_order": st.sampled_from(["seed", "natural", "3,1,2,0", "cat,dog", "3,"]),
        "epochs": st.integers(1, 9),
        "setting": st.sampled_from(["task", "domain_incremental"]),
        "tune": st.sampled_from(["chf", "grid"]),
        "device": st.sampled_from(["cpu", "auto"]),
        "threads": st.integers(1, 4),
        "keep_networks": st.sampled_from(["last", "all"]),
    },
)


@settings(max_examples=60, deadline=None)
@given(TYPED)
def test_a_saved_command_line_reads_back_as_the_same_request(typed: dict[str, Any]) -> None:
    asked = parsed(options(), {"scenario": ["splitdigits"], **typed})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.toml"
        save(file, asked)
        (section,) = read_study(file, {})
    assert section.request == Request(**asked)


def test_the_seed_by_itself_stays_one(tmp_path: Path) -> None:
    asked = parsed(options(), {"strategy": ["lwf"], "scenario": ["splitdigits"], "seed": 7})
    save(tmp_path / "a.toml", asked)
    assert parse((tmp_path / "a.toml").read_text())["seed"] == 7
    assert read_study(tmp_path / "a.toml", {})[0].request == Request(**asked)


def test_paths_are_written_from_the_folder_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Path("order.txt").touch()
    asked = parsed(
        options(),
        {
            "strategy": ["mine.py:fast,lwf"],
            "scenario": ["photos", "/data/a.npz"],
            "network": "networks/net.py",
            "weights": "base.pt",
            "class_order": "order.txt",
        },
    )
    save(Path("studies/mine.toml"), asked)
    assert parse(Path("studies/mine.toml").read_text()) == {
        "strategy": ["../mine.py:fast", "lwf"],
        "scenario": ["../photos", "/data/a.npz"],
        "network": "../networks/net.py",
        "weights": "../base.pt",
        "class_order": "../order.txt",
    }
    (request,) = [section.request for section in read_study(Path("studies/mine.toml"), {})]
    assert Path(request.scenario[0]).samefile("photos") and Path(str(request.class_order)).samefile("order.txt")
    save(Path("mine.toml"), asked)
    assert parse(Path("mine.toml").read_text())["scenario"] == ["./photos", "/data/a.npz"]


def test_what_belongs_to_the_machine_is_not_written(tmp_path: Path) -> None:
    given = {"strategy": ["lwf"], "scenario": ["splitdigits"], "jobs": "2", "out": Path("x"), "data": Path("y")}
    save(tmp_path / "a.toml", parsed(options(), {**given, "strict": True, "share": False}))
    assert (tmp_path / "a.toml").read_text() == 'strategy = "lwf"\nscenario = "splitdigits"\n'


def test_another_file_is_never_overwritten(tmp_path: Path) -> None:
    asked = parsed(options(), {"strategy": ["lwf"], "scenario": ["splitdigits"]})
    save(tmp_path / "a.toml", asked)
    save(tmp_path / "a.toml", asked)  # the same command again
    with pytest.raises(UsageError, match="exists already"):
        save(tmp_path / "a.toml", {**asked, "epochs": 3})
    with pytest.raises(UsageError, match=r"end in \.toml"):
        save(tmp_path / "a.txt", asked)
    with pytest.raises(MachineError, match="cannot write"):
        save(tmp_path / "a.toml" / "b.toml", asked)
    assert "epochs" not in (tmp_path / "a.toml").read_text()


def test_the_example_is_planned_and_explains_every_option_of_a_study(tmp_path: Path, data: Path) -> None:
    file = tmp_path / "mine.toml"
    write_example(file)
    text = file.read_text()
    explained = set(re.findall(r"(\w+)(?:\.\S+)? = ", text))
    assert explained == {name for name, each in options().items() if each.option.belongs_to != "machine"}
    assert len(Planning(read_study(file, {"data": data, "device": "cpu"}), lambda event: None).known) == 6
    with pytest.raises(UsageError, match="exists already"):
        write_example(file)


def test_every_line_of_the_example_can_be_uncommented(tmp_path: Path) -> None:
    """Each commented key alone, since some exclude each other."""
    file = tmp_path / "mine.toml"
    write_example(file)
    text = file.read_text().partition("# [[grid]]")[0]
    keys = re.findall(r"^# (\w+(?:\.\S+)? = .*)$", text, re.MULTILINE)
    assert len(keys) > 10
    for key in keys:
        file.write_text(text.replace(f"# {key}", key))
        read_study(file, {})


def test_the_grids_of_the_example_can_be_uncommented(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    write_example(file)
    head, _, grids = file.read_text().partition("# [[grid]]")
    file.write_text(head + "\n".join(line.lstrip("# ") for line in ("[[grid]]" + grids).splitlines()))
    first, second = [section.request for section in read_study(file, {})]
    assert (first.split, second.split, first.set, second.set) == ("5", "2", {"lwf.alpha": "2"}, {"lwf.alpha": "1"})
