"""CORe50 and CLEAR on small files in their layout: clbench's runs have the images that Avalanche's loaders return."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import clbench
from clbench.data.datasets import Dataset, open_dataset
from clbench.errors import DataError
from clbench.runs.benchmark_scenario import with_dataset
from clbench.runs.planned_runs import plan
from clbench.runs.request import Request
from clbench.runs.selection import load_class, select_scenarios

pytestmark = pytest.mark.xdist_group("avalanche")

NC = ((4, 7), (0,), (9,), (1,), (8,), (2,), (3,), (5,), (6,))
"""Objects of each of CORe50-NC's nine experiences."""


def write_image(path: Path, level: int, size: tuple[int, int] = (32, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size, (level, 2 * level % 256, 7)).save(path)


def write_core50(root: Path) -> None:
    """Ten objects, each with a picture in eight sessions for training and nine pictures of another for testing."""

    def write_list(path: Path, lines: Iterable[tuple[str, int]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{image} {label}\n" for image, label in lines))

    train = {(session, label): f"s{session}/o{label}/C.png" for session in range(8) for label in range(10)}
    test = [(f"s9/o{label}/C{at}.png", label) for label in range(10) for at in range(9)]
    for (session, label), image in train.items():
        write_image(root / "core50_32x32" / image, 10 * session + label)
    for at, (image, _) in enumerate(test):
        write_image(root / "core50_32x32" / image, 100 + at)
    lists = root / "batches_filelists"
    for at, labels in enumerate(NC):
        lines = [(train[session, label], label) for label in labels for session in range(8)]
        write_list(lists / "NC_inc" / "run0" / f"train_batch_{at:02}_filelist.txt", lines)
    for session in range(8):
        lines = [(train[session, label], label) for label in range(10)]
        write_list(lists / "NI_inc" / "run0" / f"train_batch_{session:02}_filelist.txt", lines)
    for kind in ("NC_inc", "NI_inc"):
        write_list(lists / kind / "run0" / "test_filelist.txt", test)
    (root / "NIC_v2_79_cat").mkdir()  # otherwise Avalanche writes lists of categories
    nothing: list[list[int]] = [[]] * 9
    for name, content in (("paths", []), ("labels", {"ni": [nothing]}), ("LUP", {"ni": [nothing]})):
        (root / f"{name}.pkl").write_bytes(pickle.dumps(content))
    (root / "labels2names.pkl").write_bytes(pickle.dumps({}))


def write_clear(root: Path) -> None:
    """Three spans of time with two classes, and images of all sizes."""
    for part, images in (("train", 4), ("test", 2)):
        index: dict[str, dict[str, str]] = {}
        for bucket in range(3):
            for label, name in enumerate(("BACKGROUND", "bus")):
                entries = {}
                for at in range(images):
                    image = f"labeled_images/{bucket}/{name}/{at}.png"
                    level = 100 * (part == "test") + 30 * bucket + 10 * label + at
                    write_image(root / part / image, level, (80 + at, 70))
                    entries[str(at)] = {"IMG_PATH": image}
                metadata = f"labeled_metadata/{bucket}/{name}.json"
                (root / part / metadata).parent.mkdir(parents=True, exist_ok=True)
                (root / part / metadata).write_text(json.dumps(entries))
                index.setdefault(str(bucket), {})[name] = metadata
        (root / part / "labeled_metadata.json").write_text(json.dumps(index))
        (root / part / "class_names.txt").write_text("BACKGROUND\nbus")


def ours(name: str, data: Path) -> Dataset:
    (plugin,) = select_scenarios([name])
    scenario = with_dataset(plugin, load_class(plugin), data, lambda text: None)
    assert scenario is not None
    return open_dataset(scenario.dataset, data)


def theirs(name: str, data: Path) -> tuple[list[list[tuple[np.ndarray, int]]], ...]:
    """The images and targets of each experience of Avalanche's benchmark, for training and for testing."""
    (plugin,) = select_scenarios([name])
    benchmark: Any = load_class(plugin).benchmark(data)
    streams = (benchmark.train_stream, benchmark.test_stream)
    return tuple(
        [[(np.asarray(sample[0]), int(sample[1])) for sample in experience.dataset] for experience in stream]
        for stream in streams
    )


def same(found: np.ndarray, wanted: list[np.ndarray]) -> bool:
    return sorted(image.tobytes() for image in found) == sorted(image.tobytes() for image in wanted)


def test_core50_brings_avalanches_objects_in_its_order(tmp_path: Path) -> None:
    write_core50(tmp_path / "core50")
    data, (train, test) = ours("core50", tmp_path), theirs("core50", tmp_path)
    assert data.info.classes == tuple("4709182356") and data.info.split == "2+8x1" and data.info.domains is None
    for position, label in enumerate(map(int, data.info.classes)):
        for x, y, stream in ((data.x_train, data.y_train, train), (data.x_test, data.y_test, test)):
            wanted = [image for experience in stream for image, target in experience if target == label]
            assert len(wanted) > 7 and same(x[y == position], wanted)


def test_core50ni_brings_avalanches_sessions_and_deals_the_test_set_out(tmp_path: Path) -> None:
    write_core50(tmp_path / "core50")
    data, (train, test) = ours("core50ni", tmp_path), theirs("core50ni", tmp_path)
    assert data.info.domains == tuple("12345678") and data.info.classes[9:11] == ("1/9", "2/0")
    for session, experience in enumerate(train):
        for label in range(10):
            wanted = [image for image, target in experience if target == label]
            assert same(data.x_train[data.y_train == 10 * session + label], wanted)
    assert len(test) == 1 and same(data.x_test, [image for image, _ in test[0]])
    # Nine test images of each object: the first session has the first and the ninth of them, the others one each.
    own = [data.x_test[data.y_test == 10 * session + 3] for session in range(8)]
    assert [len(each) for each in own] == [2, 1, 1, 1, 1, 1, 1, 1]
    of_object_3 = [image for image, target in test[0] if target == 3]
    assert same(own[0], [of_object_3[0], of_object_3[8]]) and same(own[4], of_object_3[4:5])


def test_clear_brings_spans_of_time_with_test_images_of_their_own(tmp_path: Path) -> None:
    write_clear(tmp_path / "clear10")
    data, (train, test) = ours("clear", tmp_path), theirs("clear", tmp_path)
    assert data.info.domains == ("1", "2", "3") and data.info.shape == (64, 64, 3)
    for bucket in range(3):
        for label in range(2):
            level = 30 * bucket + 10 * label  # as written
            own = data.x_train[data.y_train == 2 * bucket + label]
            assert sorted(own[:, 0, 0, 0].tolist()) == [level, level + 1, level + 2, level + 3]
            assert same(own, [image for image, target in train[bucket] if target == label])
            own = data.x_test[data.y_test == 2 * bucket + label]
            assert sorted(own[:, 0, 0, 0].tolist()) == [100 + level, 101 + level]
            assert same(own, [image for image, target in test[bucket] if target == label])


def test_avalanches_own_clear_still_gives_every_image_to_every_experience(tmp_path: Path) -> None:
    """If this fails, Avalanche distinguishes the spans of time, and the scenario need not."""
    from avalanche.benchmarks.classic import CLEAR

    write_clear(tmp_path)
    benchmark = CLEAR(data_name="clear10", evaluation_protocol="iid", seed=0, dataset_root=tmp_path)
    assert [len(experience.dataset) for experience in benchmark.train_stream] == [24, 24, 24]


@pytest.mark.parametrize(("name", "sizes"), [("core50ni", (10,) * 8), ("clear", (2,) * 3)])
def test_they_run_domain_incrementally_in_avalanches_order(name: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    write_core50(tmp_path / "core50")
    write_clear(tmp_path / "clear10")
    asked = {"strategy": "naive", "scenario": name, "device": "cpu", "data": tmp_path}
    (run,) = plan(Request.from_python(asked), lambda event: None)
    assert run.spec.scenario.setting == "domain_incremental"
    assert run.spec.scenario.classes_per_experience == sizes
    assert run.spec.scenario.domains == tuple(str(at + 1) for at in range(len(sizes)))


def test_a_benchmark_whose_experiences_have_different_classes_has_no_domains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_core50(tmp_path / "core50")
    monkeypatch.chdir(tmp_path)
    (plugin,) = select_scenarios(["core50"])
    file = tmp_path / "wrong.py"
    file.write_text(plugin.path.read_text().replace("    recipes = {", '    setting = "domain"\n    recipes = {'))
    with pytest.raises(DataError, match="not domains of the same classes"):
        clbench.run("naive", str(file), device="cpu", data=tmp_path, out=tmp_path / "out")
