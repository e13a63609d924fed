"""A folder of images, or an .npz, as a scenario of `clbench run -S`."""

from __future__ import annotations

import shutil
import struct
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
from clbench.data.importing import import_dataset
from clbench.errors import DataError, UsageError
from clbench.runs.planned_runs import Planned, plan
from clbench.runs.request import Request


def photos(root: Path, classes: int = 4, images: int = 10, size: tuple[int, int] = (16, 16)) -> Path:
    """JPEGs of noise around a colour of each class's own."""
    random = np.random.default_rng(0)
    for label in range(classes):
        (root / f"class {label}").mkdir(parents=True)
        for number in range(images):
            pixels = random.integers(0, 60, (*size, 3)) + 40 * label
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(root / f"class {label}" / f"{number}.jpg")
    return root


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., list[Planned]]:
    def call(scenario: Any, said: list[str] | None = None, bring: bool = True, **given: Any) -> list[Planned]:
        def notify(event: Event) -> None:
            if said is not None and isinstance(event, Note):
                said.append(event.text)

        asked = {"strategy": "naive", "scenario": scenario, "device": "cpu", "data": tmp_path / "data", **given}
        return plan(Request.from_python(asked), notify, bring)

    return call


def test_a_folder_of_photos_runs(tmp_path: Path) -> None:
    root = photos(tmp_path / "My Photos")
    (run,) = clbench.run("naive", root, epochs=3, threads=1, data=tmp_path / "data", out=tmp_path / "out")
    assert run.spec.scenario.name.startswith("my-photos-")
    assert run.spec.scenario.classes_per_experience == (2, 2)
    assert run.spec.scenario.class_name(0) == "class 0"
    assert list(tmp_path.glob("scenarios")) == []


def test_the_same_images_are_found_again_wherever_they_lie_and_others_are_not(
    planned: Callable[..., list[Planned]], tmp_path: Path
) -> None:
    root = photos(tmp_path / "photos")
    (first,) = planned(root)
    shutil.copytree(root, tmp_path / "elsewhere" / "photos")
    said: list[str] = []
    (again,) = planned(tmp_path / "elsewhere" / "photos", said)
    assert again.spec == first.spec and not any("importing" in each for each in said)
    (root / "class 0" / "0.jpg").unlink()
    (changed,) = planned(root)
    assert changed.spec.scenario.dataset_sha256 != first.spec.scenario.dataset_sha256
    assert changed.spec.scenario.dataset != first.spec.scenario.dataset


def test_the_split_can_be_chosen(planned: Callable[..., list[Planned]], tmp_path: Path) -> None:
    (one,) = planned(photos(tmp_path / "photos", classes=5), split="2+3x1")
    assert one.spec.scenario.classes_per_experience == (2, 1, 1, 1)


def test_large_images_are_made_smaller_and_small_ones_stay(
    planned: Callable[..., list[Planned]], tmp_path: Path
) -> None:
    said: list[str] = []
    (small,) = planned(photos(tmp_path / "small", images=3, size=(20, 30)))
    (large,) = planned(photos(tmp_path / "large", images=3, size=(400, 300)), said)
    assert shape_of(small, tmp_path) == (20, 30, 3) and shape_of(large, tmp_path) == (128, 128, 3)
    assert any("128×128 pixels" in each and "--size" in each for each in said)


def shape_of(planned: Planned, tmp_path: Path) -> tuple[int, int, int]:
    from clbench.data.datasets import describe

    info = describe(planned.spec.scenario.dataset, tmp_path / "data")
    assert info is not None
    return info.shape


def test_a_file_of_arrays_is_a_scenario_too(planned: Callable[..., list[Planned]], tmp_path: Path) -> None:
    x = np.zeros((40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "9 lives.npz", x=x, y=np.repeat(list("abcd"), 10))
    (one,) = planned(tmp_path / "9 lives.npz")
    assert one.spec.scenario.name.startswith("9-lives-")
    assert planned(tmp_path / "9 lives.npz")[0].spec == one.spec


def test_a_folder_of_mnists_idx_files_is_a_scenario_too(planned: Callable[..., list[Planned]], tmp_path: Path) -> None:
    def write(name: str, values: Any) -> None:
        header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
        (tmp_path / "raw" / name).write_bytes(header + values.astype(np.uint8).tobytes())

    (tmp_path / "raw").mkdir()
    for part in ("train", "t10k"):
        write(f"{part}-images-idx3-ubyte", np.zeros((8, 6, 5)))
        write(f"{part}-labels-idx1-ubyte", np.arange(8) % 4)
    (one,) = planned(tmp_path / "raw")
    assert one.spec.scenario.name.startswith("raw-") and shape_of(one, tmp_path) == (6, 5, 1)
    assert planned(tmp_path / "raw")[0].spec == one.spec
    write("t10k-images-idx3-ubyte", np.ones((8, 6, 5)))
    assert planned(tmp_path / "raw")[0].spec.scenario.name != one.spec.scenario.name


def test_a_folder_of_parquet_files_is_a_scenario_too(planned: Callable[..., list[Planned]], tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    (tmp_path / "flowers").mkdir()
    for part, size in (("train", (400, 300)), ("test", (500, 300))):
        files = sorted(photos(tmp_path / part, images=2, size=size).glob("*/*.jpg"))
        rows = [{"image": {"bytes": file.read_bytes()}, "label": int(file.parent.name[-1])} for file in files]
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "flowers" / f"{part}-0.parquet")
    said: list[str] = []
    (one,) = planned(tmp_path / "flowers", said)
    assert one.spec.scenario.name.startswith("flowers-") and shape_of(one, tmp_path) == (128, 128, 3)
    assert any("128×128 pixels" in each and "--size" in each for each in said)
    assert planned(tmp_path / "flowers")[0].spec == one.spec


def test_nothing_is_imported_to_list_the_runs(planned: Callable[..., list[Planned]], tmp_path: Path) -> None:
    said: list[str] = []
    assert planned(photos(tmp_path / "photos"), said, bring=False) == []
    assert any("imported when it is first run" in each for each in said) and not (tmp_path / "data").exists()


def test_a_folder_without_images_is_refused(planned: Callable[..., list[Planned]], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no images"):
        planned(tmp_path / "empty")


def test_a_scenario_of_that_name_comes_before_a_folder(
    planned: Callable[..., list[Planned]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "splitdigits")
    photos(tmp_path / "mine")
    assert planned("splitdigits")[0].spec.scenario.name == "splitdigits"
    assert planned("mine")[0].spec.scenario.name.startswith("mine-")


def test_an_experience_of_classes_without_test_images_is_refused_and_one_with_some_runs(
    planned: Callable[..., list[Planned]], tmp_path: Path
) -> None:
    root = photos(tmp_path / "photos")
    for image in list((root / "class 2").iterdir())[1:]:
        image.unlink()
    with pytest.raises(UsageError, match=r"no class of experience 2 has test images \(class 2\)") as raised:
        planned(root, split="4", class_order="natural")
    assert "--split" in str(raised.value.hint)
    (run,) = clbench.run("naive", root, epochs=1, threads=1, data=tmp_path / "data", out=tmp_path / "out")
    per_class = run.metric("per_class_accuracy")[-1]
    order = list(run.spec.scenario.class_order)
    assert per_class[order.index(2)] is None and all(
        each is not None for each in per_class if each is not per_class[order.index(2)]
    )
    assert run.metric("final_accuracy") is not None
    shown = CliRunner().invoke(application(), ["compare", str(tmp_path / "out")])
    assert "1 class has no test samples (class 2)" in " ".join(shown.output.split())


@pytest.mark.slow
def test_a_network_is_asked_with_the_fit_of_its_images(tmp_path: Path) -> None:
    for fit in ("crop", "pad", "stretch"):
        import_dataset("photos", photos(tmp_path / fit / "photos"), tmp_path / fit, size=8, fit=fit)  # type: ignore[arg-type]
        (tmp_path / fit / "mine.py").write_text(
            "import clbench\n"
            "class Mine(clbench.Scenario):\n"
            "    dataset, split = 'photos', '2'\n"
            "    recipes = {'quick': clbench.Recipe(network='mlp', epochs=1)}\n"
        )
        (run,) = clbench.run(
            "naive",
            tmp_path / fit / "mine.py",
            threads=1,
            data=tmp_path / fit,
            out=tmp_path / fit / "out",
            keep_networks="last",
        )
        network = clbench.load_network(run.path)
        assert network.record.input.image.fit == fit
        wide = PIL.Image.new("L", (24, 8), 255).convert("RGB")
        seen = network.transform(wide)
        assert (seen[:, 0] != seen[:, 4]).any() == (fit == "pad")
