"""Avalanche's benchmarks as scenarios: `-S avalanche:NAME`, and a scenario file whose `benchmark()` builds one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import clbench
from clbench.data.datasets import data_folder, describe, fetch, open_dataset
from clbench.errors import DataError, UsageError
from clbench.plugins import discovery
from clbench.runs.benchmark_scenario import with_dataset
from clbench.runs.selection import load_class, select_scenarios

pytestmark = pytest.mark.xdist_group("avalanche")  # one process imports it

FILE = """
from pathlib import Path

import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.benchmarks.utils import as_classification_dataset
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

import clbench


class Part(TensorDataset):
    def __init__(self, images, labels):
        super().__init__(images, labels)
        self.targets = labels.tolist()

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, int(label)


class Mine(clbench.Scenario):
    recipes = {"quick": clbench.Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=32, epochs=1)}

    @staticmethod
    def benchmark():
        with Path("built").open("a") as file:
            file.write("x")
        bundled = load_digits()
        images = torch.tensor(bundled.images * 15).byte()[:, None]
        labels = torch.tensor(bundled.target)
        part = as_classification_dataset(Part(IMAGES, labels))
        return nc_benchmark(
            part, part, n_experiences=4, task_labels=False, fixed_class_order=[3, 1, 4, 0, 5, 9, 2, 6], shuffle=False
        )
"""
KEPT = "[torch.isin(labels, torch.tensor([7, 8]), invert=True)]"  # eight classes, so that four experiences are equal


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(FILE.replace("IMAGES, labels", f"images{KEPT}, labels{KEPT}"))
    return path


def read(path: Path | str, data: Path) -> type[clbench.Scenario]:
    (plugin,) = select_scenarios([str(path)])
    return with_dataset(plugin, load_class(plugin), data, lambda text: None)


def test_a_benchmarks_classes_are_numbered_by_the_experiences_that_bring_them(file: Path, tmp_path: Path) -> None:
    scenario = read(file, tmp_path / "data")
    dataset = open_dataset(scenario.dataset, tmp_path / "data")
    assert (scenario.split, scenario.class_order) == ("4", "natural")
    assert dataset.info.classes == tuple("13045926")
    bundled = load_digits()
    for position, digit in enumerate((1, 3, 0, 4, 5, 9, 2, 6)):
        expected = (bundled.images[bundled.target == digit] * 15).astype(np.uint8)[..., None]
        np.testing.assert_array_equal(dataset.x_train[dataset.y_train == position], expected)
        np.testing.assert_array_equal(dataset.x_test[dataset.y_test == position], expected)


def test_a_benchmark_is_built_once_for_each_version_of_its_file(file: Path, tmp_path: Path) -> None:
    first = read(file, tmp_path / "data").dataset
    assert read(file, tmp_path / "data").dataset == first
    assert Path("built").read_text() == "x"
    file.write_text(file.read_text().replace("3, 1, 4, 0", "3, 4, 1, 0"))
    second = read(file, tmp_path / "data").dataset
    assert second != first and Path("built").read_text() == "xx"
    info = describe(second, tmp_path / "data")
    assert info is not None and info.classes == tuple("34015926")


@pytest.mark.slow
def test_a_benchmark_is_run_with_its_split_unless_another_is_asked_for(file: Path, tmp_path: Path) -> None:
    options = {"device": "cpu", "data": tmp_path / "data", "out": tmp_path / "out"}
    (run,) = clbench.run("naive", str(file), **options)
    assert run.spec.scenario.classes_per_experience == (2, 2, 2, 2)
    assert run.spec.scenario.class_order == tuple(range(8))
    assert run.result.experiences[0].class_names == ("1", "3")
    (run,) = clbench.run("naive", str(file), split="6+2x1", class_order="seed", **options)
    assert run.spec.scenario.classes_per_experience == (6, 1, 1)


@pytest.mark.parametrize(
    ("end", "problem"),
    [
        ("return {}", "dict has no train_stream"),
        ("raise OSError('no such disk')", "OSError: no such disk"),
        ("return benchmark_from_datasets(train=[part, part], test=[part])", "class 0 is in several experiences"),
        ("return benchmark_from_datasets(train=[part], test=[part, extra])", "class 9 has test images but no training"),
    ],
)
def test_a_benchmark_that_cannot_be_a_scenario_is_refused_and_nothing_is_kept(
    end: str, problem: str, file: Path, tmp_path: Path
) -> None:
    text = file.read_text().replace("import nc_benchmark", "import benchmark_from_datasets, nc_benchmark")
    extra = "extra = as_classification_dataset(Part(images[:1], torch.tensor([9])))"
    old = "part = as_classification_dataset(Part(images, torch.zeros(len(images)).long()))"
    start = text[: text.index("part = as_classification")]
    file.write_text(f"{start}{old}\n        {extra}\n        {end}\n")
    with pytest.raises(DataError, match=problem):
        read(file, tmp_path / "data")
    assert not list((tmp_path / "data" / "arrays").glob("[!.]*"))


def test_a_benchmark_with_transformed_images_is_refused(file: Path, tmp_path: Path) -> None:
    file.write_text(file.read_text().replace("byte()[:, None]", "float()[:, None] / 7"))
    with pytest.raises(DataError, match="not 8-bit"):
        read(file, tmp_path / "data")


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_a_benchmark_with_images_of_more_than_8_bits_is_refused(dtype: str, file: Path, tmp_path: Path) -> None:
    text = file.read_text().replace("import torch\n", "import PIL.Image\nimport torch\n", 1)
    image = f"PIL.Image.fromarray(image[0].numpy().astype('{dtype}') * 257)"
    file.write_text(text.replace("return image, int(label)", f"return {image}, int(label)"))
    with pytest.raises(DataError, match="not 8-bit"):
        read(file, tmp_path / "data")


def test_images_scaled_by_to_tensor_are_the_pixels_again(file: Path, tmp_path: Path) -> None:
    plain = describe(read(file, tmp_path / "data").dataset, tmp_path / "data")
    file.write_text(file.read_text().replace("byte()[:, None]", "byte()[:, None] / 255"))
    scaled = describe(read(file, tmp_path / "data").dataset, tmp_path / "data")
    assert plain and scaled and plain.sha256 == scaled.sha256 and plain.name != scaled.name


def test_a_name_that_avalanche_does_not_have_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'SplitMNIST'"):
        discovery.select("scenario", "avalanche:SplitMNST")


@pytest.mark.slow
def test_avalanches_split_mnist_has_the_images_of_ours(tmp_path: Path) -> None:
    files = data_folder() / "MNIST" / "raw"
    if not files.is_dir():
        pytest.skip(f"MNIST's files are not in {files}")
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "MNIST" / "raw").symlink_to(files)
    fetch("mnist", tmp_path)
    scenario = read("avalanche:SplitMNIST", tmp_path)
    assert (scenario.split, scenario.class_order, list(scenario.recipes)) == ("5", "seed", ["quick", "standard"])
    theirs, ours = open_dataset(scenario.dataset, tmp_path), open_dataset("mnist", tmp_path)
    for digit in range(10):
        for images, labels in (("x_train", "y_train"), ("x_test", "y_test")):
            of_theirs = getattr(theirs, images)[getattr(theirs, labels) == digit]
            np.testing.assert_array_equal(of_theirs, getattr(ours, images)[getattr(ours, labels) == digit])
