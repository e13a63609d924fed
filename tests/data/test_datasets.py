"""The cache of datasets: prepared once, checked when opened, damaged never used; and the built-ins' sources."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import json
import os
import pickle
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench.data import builtin_datasets, datasets
from clbench.errors import DataError, MachineError, UsageError
from clbench.system import machine

ROOT = Path(__file__).resolve().parents[2]


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


class Bomb:
    """Whoever unpickles it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A data folder with digits in its cache."""
    datasets.fetch("digits", tmp_path)
    return tmp_path


# Names and folders


def test_importing_the_modules_imports_no_slow_library() -> None:
    slow = ("torch", "torchvision", "sklearn", "scipy", "pandas", "avalanche")
    code = f"import sys, clbench.data.datasets, clbench.data.importing; print([m for m in {slow} if m in sys.modules])"
    assert run_python(code).communicate(timeout=300)[0].strip() == "[]"


def test_data_folder_is_the_explicit_one_then_the_environments_then_the_platforms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLBENCH_DATA", str(tmp_path / "environment"))
    assert datasets.data_folder(tmp_path / "explicit") == tmp_path / "explicit"
    assert datasets.data_folder() == tmp_path / "environment"
    monkeypatch.delenv("CLBENCH_DATA")
    assert datasets.data_folder().name == "clbench"


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc", "Digits", "-x", "a" * 65, "digits\n", "a\x00", "é"])
def test_an_invalid_name_is_a_usage_error_wherever_it_is_given(name: str, tmp_path: Path) -> None:
    for use in (datasets.describe, datasets.fetch, datasets.open_dataset):
        with pytest.raises(UsageError):
            use(name, tmp_path)
    with pytest.raises(UsageError):
        datasets.verify(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_is_refused_with_the_nearest_one_and_the_command_that_imports_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'mnist'"):
        datasets.fetch("mnst", tmp_path)
    with pytest.raises(DataError, match="clbench data import mnst PATH"):
        datasets.open_dataset("mnst", tmp_path)
    with pytest.raises(DataError, match="clbench data fetch mnist"):
        datasets.verify(tmp_path, "mnist")


# Digits


def test_every_fifth_digit_of_a_class_is_a_test_image_and_grey_levels_are_scaled_to_255(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    bundled = load_digits()
    train, test, seen = [], [], dict.fromkeys(range(10), 0)
    for image, label in zip(bundled.images, bundled.target, strict=True):
        pixels = [[round(level * 255 / 16) for level in row] for row in image]
        (test if seen[label] % 5 == 4 else train).append((pixels, label))
        seen[label] += 1
    opened = datasets.open_dataset("digits", tmp_path)
    assert opened.x_train[..., 0].tolist() == [pixels for pixels, _ in train]
    assert opened.y_train.tolist() == [label for _, label in train]
    assert opened.x_test[..., 0].tolist() == [pixels for pixels, _ in test]
    assert opened.y_test.tolist() == [label for _, label in test]
    assert opened.info.classes == tuple("0123456789")


# The cache


def test_what_is_known_of_a_dataset_agrees_with_its_arrays(digits: Path) -> None:
    opened = datasets.open_dataset("digits", digits)
    info = opened.info
    assert datasets.describe("digits", digits) == info
    assert (info.name, info.shape, info.train_size, info.test_size) == ("digits", (8, 8, 1), 1442, 355)
    assert info.mean == pytest.approx([(opened.x_train / 255).mean()], rel=1e-12)
    assert info.std == pytest.approx([(opened.x_train / 255).std()], rel=1e-12)
    assert info.bytes == 1797 * 64 + 1797 * 8
    digest = hashlib.sha256()
    for array in ("x_train", "y_train", "x_test", "y_test"):
        values = getattr(opened, array)
        digest.update(f"{array} {values.dtype.str} {values.shape}\n".encode() + values.tobytes())
    assert info.sha256 == digest.hexdigest()
    assert "scikit-learn" in info.source


def test_the_arrays_are_mapped_from_disk_and_what_is_written_to_them_never_reaches_it(digits: Path) -> None:
    opened = datasets.open_dataset("digits", digits)
    for array, dtype in (("x_train", "uint8"), ("y_train", "int64"), ("x_test", "uint8"), ("y_test", "int64")):
        values = getattr(opened, array)
        assert isinstance(values, np.memmap)
        assert values.dtype == dtype
        values[0] = 99
        again = getattr(datasets.open_dataset("digits", digits), array)
        assert not (again[0] == 99).any()


def test_a_prepared_dataset_is_not_prepared_again(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("loaded again")

    monkeypatch.setattr(builtin_datasets, "load", never)
    sentences: list[str] = []
    datasets.open_dataset("digits", digits, sentences.append)
    datasets.fetch("digits", digits, sentences.append)
    assert sentences == []


def test_a_list_shows_built_ins_first_whether_prepared_or_not_then_imported_ones(digits: Path) -> None:
    place = digits / "arrays" / "apples"
    place.mkdir()
    for file in (digits / "arrays" / "digits").iterdir():
        (place / file.name).write_bytes(file.read_bytes().replace(b'"name": "digits"', b'"name": "apples"'))
    listed = datasets.list_datasets(digits)
    assert [(each.name, each.builtin, each.info is not None) for each in listed] == [
        ("digits", True, True),
        ("mnist", True, False),
        ("fashion", True, False),
        ("cifar10", True, False),
        ("cifar100", True, False),
        ("apples", False, True),
    ]
    assert all(each.problem is None for each in listed)


def test_nothing_is_listed_or_described_without_a_folder(tmp_path: Path) -> None:
    assert [each.info for each in datasets.list_datasets(tmp_path / "none")] == [None] * 5
    assert datasets.describe("digits", tmp_path / "none") is None
    assert datasets.verify(tmp_path / "none") == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def change_type(path: Path) -> None:
    np.save(path, np.load(path).astype(np.int16))


def reshape(path: Path) -> None:
    np.save(path, np.load(path)[::-1][:-1])


def transpose(path: Path) -> None:
    np.save(path, np.asfortranarray(np.load(path)))


def write_nonsense_header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:10] + b"(" * 118 + content[128:])


def remove(path: Path) -> None:
    path.unlink()


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGES = {
    "truncated": ("x_train.npy", truncate),
    "longer": ("y_test.npy", lengthen),
    "empty": ("x_test.npy", empty),
    "other dtype": ("y_train.npy", change_type),
    "other shape": ("x_test.npy", reshape),
    "other order": ("x_train.npy", transpose),
    "nonsense header": ("x_train.npy", write_nonsense_header),
    "missing array": ("y_train.npy", remove),
    "missing json": ("dataset.json", remove),
    "empty json": ("dataset.json", empty),
    "truncated json": ("dataset.json", truncate),
    "json is a list": ("dataset.json", lambda path: path.write_text("[]")),
    "json is binary": ("dataset.json", lambda path: path.write_bytes(b"\xff\xfe")),
    "json of another format": ("dataset.json", lambda path: edit(path, format=2)),
    "json with a foreign field": ("dataset.json", lambda path: edit(path, colour="red")),
    "json with a wrong type": ("dataset.json", lambda path: edit(path, mean=["a"])),
    "json with a wrong shape": ("dataset.json", lambda path: edit(path, shape=8)),
    "json of another name": ("dataset.json", lambda path: edit(path, name="mnist")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_never_used_and_the_commands_that_repair_it_are_named(damage: str, digits: Path) -> None:
    file, injure = DAMAGES[damage]
    injure(digits / "arrays" / "digits" / file)
    for use in (datasets.open_dataset, datasets.fetch):
        with pytest.raises(DataError) as caught:
            use("digits", digits)
        assert caught.value.exit_code == 3
        assert str(digits / "arrays" / "digits" / file) in caught.value.message
        for command in ("clbench data verify", "clbench data fetch digits", f"delete {digits / 'arrays' / 'digits'}"):
            assert command in str(caught.value)
    assert datasets.list_datasets(digits)[0].problem == str(caught.value)
    assert datasets.verify(digits) == [("digits", str(caught.value))]


def test_a_size_edited_in_dataset_json_is_found_by_the_arrays_headers(digits: Path) -> None:
    edit(digits / "arrays" / "digits" / "dataset.json", train_size=1441)
    with pytest.raises(DataError, match=r"x_train\.npy is damaged"):
        datasets.open_dataset("digits", digits)


def test_an_object_array_in_the_cache_is_not_unpickled(digits: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    np.save(digits / "arrays" / "digits" / "y_test.npy", np.array([Bomb(marker)], dtype=object), allow_pickle=True)
    with pytest.raises(DataError):
        datasets.open_dataset("digits", digits)
    assert datasets.verify(digits)[0][1] is not None
    assert not marker.exists()


def test_verify_finds_a_flipped_bit_that_opening_does_not_see(digits: Path) -> None:
    assert datasets.verify(digits) == [("digits", None)]
    path = digits / "arrays" / "digits" / "x_test.npy"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    datasets.open_dataset("digits", digits)
    [(name, problem)] = datasets.verify(digits, "digits")
    assert name == "digits"
    assert problem is not None and "its sha256 is" in problem and "clbench data fetch digits" in problem


@pytest.mark.parametrize(("label", "said"), [(10, "label 10"), (-1, "label -1"), (0, "no image of class 3")])
def test_verify_finds_labels_out_of_range_and_classes_without_images(digits: Path, label: int, said: str) -> None:
    path = digits / "arrays" / "digits" / "y_train.npy"
    labels = np.load(path)
    labels[labels == 3] = label
    np.save(path, labels)
    problem = datasets.verify(digits)[0][1]
    assert problem is not None and said in problem


def test_verify_finds_a_mean_that_differs_from_that_of_the_pixels(digits: Path) -> None:
    edit(digits / "arrays" / "digits" / "dataset.json", mean=[0.5])
    problem = datasets.verify(digits)[0][1]
    assert problem is not None and "its mean is" in problem


def test_a_damaged_dataset_does_not_hide_the_others(digits: Path) -> None:
    (digits / "arrays" / "broken").mkdir()
    problems = dict(datasets.verify(digits))
    assert problems["digits"] is None
    assert problems["broken"] is not None and "clbench data import broken PATH" in problems["broken"]
    assert datasets.open_dataset("digits", digits).info.train_size == 1442


# Processes and disks

SLOW_LOAD = """
import os, sys, time, pathlib
from clbench.data import builtin_datasets, datasets
from clbench.system import machine
folder, log = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
load = builtin_datasets.load
def slow(*arguments):
    with log.open("a") as file:
        file.write("loaded\\n")
    while len(list(folder.glob("started-*"))) < 2:
        time.sleep(0.01)
    time.sleep(0.5)
    return load(*arguments)
builtin_datasets.load = slow
(folder / f"started-{os.getpid()}").touch()
print(datasets.open_dataset("digits", folder, print).info.sha256)
"""


@pytest.mark.slow
def test_two_processes_that_need_the_same_dataset_prepare_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    both = [run_python(SLOW_LOAD, tmp_path, log) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].splitlines() for process in both]
    assert log.read_text() == "loaded\n"
    assert outputs[0][-1] == outputs[1][-1] == datasets.open_dataset("digits", tmp_path).info.sha256
    assert sorted(lines[:-1] for lines in outputs) == [[], ["waiting for another process that is preparing digits"]]


KILLED_LOAD = """
import os, signal, sys, pathlib
from clbench.data import builtin_datasets, datasets
datasets.publish = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
datasets.fetch("digits", pathlib.Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_leftovers_of_a_killed_process_are_not_read_and_the_same_command_starts_over(tmp_path: Path) -> None:
    process = run_python(KILLED_LOAD, tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    left = [path.name for path in (tmp_path / "arrays").iterdir()]
    assert left == [".digits.building"]
    assert datasets.describe("digits", tmp_path) is None
    assert datasets.verify(tmp_path) == []
    assert datasets.open_dataset("digits", tmp_path).info.train_size == 1442
    assert [path.name for path in (tmp_path / "arrays").iterdir()] == ["digits"]


def test_a_write_that_fails_is_a_machine_error_and_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))  # x_train has 92 kB
    try:
        with pytest.raises(MachineError, match="Free disk space, or choose") as caught:
            datasets.fetch("digits", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.exit_code == 4
    assert list((tmp_path / "arrays").iterdir()) == []
    assert datasets.fetch("digits", tmp_path).train_size == 1442


def test_a_data_folder_that_is_a_file_is_a_machine_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"File exists|Not a directory"):
        datasets.fetch("digits", tmp_path / "file")


# torchvision


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def shrink(monkeypatch: pytest.MonkeyPatch, name: str, train_size: int, test_size: int) -> None:
    small = dataclasses.replace(datasets.BUILTIN[name], train_size=train_size, test_size=test_size)
    monkeypatch.setitem(datasets.BUILTIN, name, small)


def write_cifar(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> dict[str, np.ndarray]:
    """Small files in CIFAR's official layout, whose checksums torchvision is told; returns their images by file."""
    import torchvision.datasets

    cifar = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    key, classes = ("labels", 10) if name == "cifar10" else ("fine_labels", 100)
    place = folder / cifar.base_folder
    place.mkdir(parents=True)
    random = np.random.default_rng(0)
    written = {}
    for file, _ in [*cifar.train_list, *cifar.test_list]:
        written[file] = random.integers(0, 256, (classes, 3, 32, 32), dtype=np.uint8)
        (place / file).write_bytes(
            pickle.dumps({"data": written[file].reshape(classes, 3072), key: list(range(classes))})
        )
    names = [f"class {label}" for label in range(classes)]
    (place / cifar.meta["filename"]).write_bytes(pickle.dumps({cifar.meta["key"]: names}))
    for files in ("train_list", "test_list"):
        monkeypatch.setattr(cifar, files, [[file, md5(place / file)] for file, _ in getattr(cifar, files)])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": md5(place / cifar.meta["filename"])})
    shrink(monkeypatch, name, classes * len(cifar.train_list), classes)
    return written


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_files_in_torchvisions_layout_are_prepared_without_a_download(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    written = write_cifar(monkeypatch, tmp_path, name)
    sentences: list[str] = []
    opened = datasets.open_dataset(name, tmp_path, sentences.append)
    *train, test = written.values()
    assert np.array_equal(opened.x_train, np.concatenate(train).transpose(0, 2, 3, 1))
    assert np.array_equal(opened.x_test, test.transpose(0, 2, 3, 1))
    classes = len(test)
    assert opened.y_train.tolist() == list(range(classes)) * len(train)
    assert opened.info.classes == tuple(f"class {label}" for label in range(classes))
    assert len(sentences) == 1 and name in sentences[0]


def test_a_cifar_file_with_another_checksum_is_named_and_neither_unpickled_nor_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    write_cifar(monkeypatch, tmp_path, "cifar10")
    bad, marker = tmp_path / "cifar-10-batches-py" / "data_batch_3", tmp_path / "executed"
    bad.write_bytes(pickle.dumps(Bomb(marker)))
    content = bad.read_bytes()
    with pytest.raises(DataError, match="data_batch_3 is not the published file"):
        datasets.open_dataset("cifar10", tmp_path)
    assert not marker.exists()
    assert bad.read_bytes() == content
    assert list((tmp_path / "arrays").iterdir()) == []


def test_a_built_in_of_another_size_than_the_published_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar(monkeypatch, tmp_path, "cifar10")
    shrink(monkeypatch, "cifar10", 50_000, 10_000)
    with pytest.raises(DataError, match=r"50000 \+ 10000"):
        datasets.open_dataset("cifar10", tmp_path)
    assert list((tmp_path / "arrays").iterdir()) == []


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(length.to_bytes(4, "big") for length in values.shape)
    path.write_bytes(header + values.tobytes())


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    written = {}
    for part, size in (("train", 30), ("t10k", 10)):
        written[f"{part}-images-idx3-ubyte"] = random.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        written[f"{part}-labels-idx1-ubyte"] = np.arange(size, dtype=np.uint8) % 10
    for file, values in written.items():
        write_idx(raw / file, values)
    checksums = {"mnist": {file: md5(raw / file) for file in written}}
    monkeypatch.setattr(builtin_datasets, "MNIST_CHECKSUMS", checksums)
    shrink(monkeypatch, "mnist", 30, 10)
    return written


def test_mnist_files_in_torchvisions_layout_are_prepared_without_a_download(
    tmp_path: Path, small_mnist: dict[str, np.ndarray], no_network: None
) -> None:
    opened = datasets.open_dataset("mnist", tmp_path)
    assert np.array_equal(opened.x_train[..., 0], small_mnist["train-images-idx3-ubyte"])
    assert np.array_equal(opened.y_test, small_mnist["t10k-labels-idx1-ubyte"])
    assert opened.info.classes == tuple("0123456789")


def test_a_truncated_mnist_file_is_named_and_left_for_inspection(
    tmp_path: Path, small_mnist: dict[str, np.ndarray], no_network: None
) -> None:
    bad = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    truncate(bad)
    size = bad.stat().st_size
    with pytest.raises(DataError, match="train-images-idx3-ubyte is not the published file"):
        datasets.open_dataset("mnist", tmp_path)
    assert bad.stat().st_size == size


@pytest.mark.slow
def test_real_mnist_is_read_as_published(tmp_path: Path) -> None:
    raw = datasets.data_folder() / "MNIST" / "raw"
    if not (raw / "train-images-idx3-ubyte").is_file():
        pytest.skip(f"MNIST's files are not in {raw}")
    (tmp_path / "MNIST").symlink_to(raw.parent)
    opened = datasets.open_dataset("mnist", tmp_path)
    assert opened.x_train.shape == (60_000, 28, 28, 1)
    assert opened.y_train[:5].tolist() == [5, 0, 4, 1, 9]  # LeCun's page shows them
    assert opened.info.mean + opened.info.std == pytest.approx((0.1307, 0.3081), abs=5e-5)
    assert datasets.verify(tmp_path) == [("mnist", None)]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)


@pytest.mark.parametrize("name", ["mnist", "fashion", "cifar10", "cifar100"])
def test_offline_the_folder_and_both_ways_to_get_the_data_are_named(
    name: str, tmp_path: Path, no_network: None, capfd: pytest.CaptureFixture[str]
) -> None:
    sentences: list[str] = []
    with pytest.raises(DataError) as caught:
        datasets.open_dataset(name, tmp_path, sentences.append)
    layout = datasets.BUILTIN[name].layout
    assert caught.value.exit_code == 3
    assert str(tmp_path / layout) in caught.value.message and "Name or service not known" in caught.value.message
    assert f"clbench data fetch {name}" in str(caught.value)
    assert f"clbench data import {name} {name}.npz" in str(caught.value)
    assert len(sentences) == 1 and "downloading" in sentences[0]
    assert list((tmp_path / "arrays").iterdir()) == []
    assert capfd.readouterr().out == ""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(its address, the folder it serves)"""
    served = tmp_path / "served"
    served.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(served))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}", served
        web.shutdown()
        thread.join()


def test_a_download_is_prepared_and_leaves_neither_archive_nor_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: tuple[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    import torchvision.datasets

    address, served = server
    written = write_cifar(monkeypatch, tmp_path / "elsewhere", "cifar10")
    with tarfile.open(served / "cifar.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "elsewhere" / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{address}/cifar.tar.gz")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5(served / "cifar.tar.gz"))
    download = torchvision.datasets.CIFAR10.download

    def chatty(self: Any) -> None:  # as torchvision up to 0.20 was
        print("Downloading")
        download(self)

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", chatty)
    data = tmp_path / "data"
    opened = datasets.open_dataset("cifar10", data)
    assert np.array_equal(opened.x_test, written["test_batch"].transpose(0, 2, 3, 1))
    assert [path.name for path in data.iterdir() if not path.name.startswith(".")] == ["arrays"]
    assert [path.name for path in (data / "arrays").iterdir()] == ["cifar10"]
    assert capfd.readouterr().out == ""


def test_a_download_with_another_checksum_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: tuple[str, Path]
) -> None:
    import torchvision.datasets

    address, served = server
    (served / "cifar.tar.gz").write_bytes(b"<html>please log in</html>")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{address}/cifar.tar.gz")
    with pytest.raises(DataError, match="corrupted"):
        datasets.open_dataset("cifar10", tmp_path / "data")
    assert list((tmp_path / "data" / "arrays").iterdir()) == []


def test_a_download_that_stalls_fails_instead_of_waiting_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.datasets

    monkeypatch.setattr(builtin_datasets, "STALL_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"http://127.0.0.1:{deaf.getsockname()[1]}/x")
        with pytest.raises(DataError, match="timed out"):
            datasets.open_dataset("cifar10", tmp_path)
    assert socket.getdefaulttimeout() is None


def read_at_random(path: Path) -> bool:
    """Whether this process has told the system that it reads a mapped file in no order."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    places = [number for number, line in enumerate(lines) if line.endswith(str(path))]
    flags = [next(line for line in lines[place:] if line.startswith("VmFlags:")) for place in places]
    return any("rr" in line.split() for line in flags)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="what was told of a mapping is seen on Linux only")
@pytest.mark.parametrize(("memory", "expected"), [(10**9, False), (1000, True)])
def test_data_that_do_not_fit_into_memory_are_read_without_their_neighbours(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, expected: bool
) -> None:
    shutil.copytree(data, tmp_path / "data")  # a file of its own, which no other test has mapped
    monkeypatch.setattr(datasets, "available_memory", lambda: memory)
    opened = datasets.open_dataset("digits", tmp_path / "data")
    assert read_at_random(tmp_path / "data" / "arrays" / "digits" / "x_train.npy") is expected
    assert np.array_equal(opened.x_train, datasets.open_dataset("digits", data).x_train)


def test_available_memory_is_the_smallest_limit_of_the_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").write_text("max\n")
    (tmp_path / "some").write_text("123456\n")
    files = [tmp_path / "none", tmp_path / "absent"]
    monkeypatch.setattr(machine, "_memory_limits", lambda: iter(files))
    assert machine.available_memory() > 10**8
    files.append(tmp_path / "some")
    assert machine.available_memory() == 123456
