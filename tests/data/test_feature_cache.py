"""The cache of a frozen network's features: extracted once, checked when opened, damaged never used, bounded."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clbench.base.events import Event, FeaturesProgress, Note
from clbench.data import feature_cache, feature_entries
from clbench.data.batches import MappedImages
from clbench.data.feature_cache import open_features
from clbench.data.feature_entries import clean_features, entry_folder, list_features, verify_features
from clbench.data.feature_extraction import Extraction
from clbench.errors import MachineError, PluginError, UsageError
from clbench.system.signals import Interrupted, Interruption

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
KEY = {"network": "linear", "size": 4, "dataset": "noise", "weights": "0" * 64, "torch": "2"}
SHAPE = (4, 4, 3)
WEIGHT = np.random.default_rng(1).integers(-3, 4, (5, 48)).astype(np.float32)


def make_images(train: int = 40, test: int = 10) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        part: random.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
        for part, count in (("train", train), ("test", test))
    }


class Linear(nn.Module):
    """Five fixed combinations of the 48 values of an image, which are integers, so every order of sums is exact."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(WEIGHT))
        self.register_buffer("unused", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1) @ self.weight.T


def prepare(images: Tensor) -> Tensor:
    return images.float().permute(0, 3, 1, 2)


def expected(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float64).transpose(0, 3, 1, 2).reshape(len(images), -1) @ WEIGHT.astype(np.float64).T


def extract(folder: Path, key: dict[str, Any] = KEY, trunk: nn.Module | None = None, **options: Any) -> Any:
    options = {"images": make_images(), "notify": lambda event: None, "interruption": Interruption(), **options}
    return open_features(
        key, options["images"], trunk or Linear(), prepare, CPU, folder, options["notify"], options["interruption"]
    )


class Fails(nn.Module):
    """Raises if it is called."""

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("extracted again")


def left(folder: Path) -> list[str]:
    """What lies in the folder of features, but the lock."""
    return sorted(path.name for path in (folder / "features").iterdir() if path.name != ".lock")


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clbench.data.feature_extraction._BATCH_VALUES", {"cpu": 7 * 48})


# What is stored


def test_the_features_are_those_that_numpy_computes_and_in_the_order_of_the_images(tmp_path: Path) -> None:
    stored = extract(tmp_path)
    for part, images in make_images().items():
        assert stored[part].dtype == np.float32
        np.testing.assert_array_equal(stored[part], expected(images))


def test_the_features_of_domains_are_those_of_the_images_as_they_are_in_each(tmp_path: Path) -> None:
    images = make_images()
    maps = torch.stack([torch.arange(16), torch.arange(16).flip(0)])  # as they are, and upside down
    stored = extract(tmp_path, images={part: MappedImages(own, CPU, maps) for part, own in images.items()})
    for part, own in images.items():
        upside_down = own.reshape(len(own), 16, 3)[:, ::-1].reshape(own.shape)
        np.testing.assert_array_equal(stored[part], expected(np.concatenate([own, upside_down])))


def test_features_that_do_not_lie_one_after_another_in_memory_are_stored_so(tmp_path: Path) -> None:
    stored = extract(tmp_path, trunk=Returns(lambda x: x.flatten(1).T.contiguous().T))
    images = make_images()["train"]
    np.testing.assert_array_equal(stored["train"], images.transpose(0, 3, 1, 2).reshape(len(images), -1))


def test_the_arrays_are_mapped_and_what_is_written_to_them_never_reaches_the_file(tmp_path: Path) -> None:
    stored = extract(tmp_path)
    assert isinstance(stored["train"], np.memmap)
    stored["train"][:] = 7
    np.testing.assert_array_equal(extract(tmp_path)["train"], expected(make_images()["train"]))


def test_stored_features_are_opened_without_the_network(tmp_path: Path) -> None:
    extract(tmp_path)
    np.testing.assert_array_equal(extract(tmp_path, trunk=Fails())["test"], expected(make_images()["test"]))


@pytest.mark.parametrize("field", KEY)
def test_another_value_of_any_field_of_the_key_is_another_entry(field: str, tmp_path: Path) -> None:
    extract(tmp_path)
    with pytest.raises(PluginError, match="extracted again"):
        extract(tmp_path, {**KEY, field: "other"}, Fails())


def test_the_order_of_the_fields_of_a_key_does_not_matter(tmp_path: Path) -> None:
    assert entry_folder(dict(reversed(KEY.items())), tmp_path) == entry_folder(KEY, tmp_path)


def test_the_network_is_neither_changed_nor_left_in_another_mode_and_threads_are_restored(tmp_path: Path) -> None:
    trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten()).train()
    before, strides = {name: value.clone() for name, value in trunk.state_dict().items()}, trunk[0].weight.stride()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        extract(tmp_path, trunk=trunk)
        with ThreadPoolExecutor(1) as pool:  # what a thread sets holds for threads that come later
            assert torch.get_num_threads() == pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(threads)
    assert trunk.training and trunk[0].weight.stride() == strides
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())


class KeepsWhatItComputes(nn.Module):
    """Passes its activations on through an attribute, which threads that share it would overwrite."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(32, 32, 3)
        )
        self.layers[1].running_mean.normal_()

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.layers(x)
        self.kept = self.kept.relu()
        return self.kept.mean((2, 3))


def test_the_bits_are_the_same_with_one_thread_and_with_several() -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), dtype=np.uint8)
    trunk, found = KeepsWhatItComputes(), []
    for workers in (1, 2, 3):
        with Extraction(trunk, prepare, CPU, workers) as extraction:
            found.append(np.concatenate(list(extraction.batches(images))))
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
    with torch.no_grad():
        np.testing.assert_allclose(found[0], trunk.eval()(prepare(torch.from_numpy(images))), rtol=1e-4, atol=1e-4)


# Networks that fail


class Returns(nn.Module):
    """Returns what a function makes of the batch."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def with_nan(x: Tensor) -> Tensor:
    return x.flatten(1).where(x.flatten(1) != 17, torch.nan)


def fail(x: Tensor) -> Tensor:
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (with_nan, "NaN or infinite"),
        (lambda x: x.flatten(1) / 0, "NaN or infinite"),
        (lambda x: x, r"float32 \(7, 3, 4, 4\) for 7 images"),
        (lambda x: x.flatten(1)[:-1], r"float32 \(6, 48\) for 7 images"),
        (lambda x: x.flatten(1).long(), r"int64 \(7, 48\)"),
        (lambda x: x.flatten(1)[:, :0], r"float32 \(7, 0\)"),
        (lambda x: x.flatten(1)[:, : len(x)], "7 features, and then 5"),
        (lambda x: (x, x), "tuple instead of a tensor"),
        (fail, "RuntimeError: mat1 and mat2 shapes"),
    ],
)
def test_a_network_without_finite_features_is_a_plugin_error_and_nothing_is_written(
    function: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(PluginError, match=said) as caught:
        extract(tmp_path, trunk=Returns(function))
    assert caught.value.exit_code == 5
    assert left(tmp_path) == []


def short_of_memory(x: Tensor) -> Tensor:
    return torch.empty(2**60)


def test_too_little_memory_is_a_machine_error_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="memory is short"):
        extract(tmp_path, trunk=Returns(short_of_memory))
    assert left(tmp_path) == []


# Damage


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def reshape(path: Path) -> None:
    np.save(path, np.load(path).reshape(-1, 1))


DAMAGES = {
    "truncated": ("train.npy", truncate),
    "longer": ("test.npy", lengthen),
    "empty": ("test.npy", lambda path: path.write_bytes(b"")),
    "other shape": ("train.npy", reshape),
    "other dtype": ("train.npy", lambda path: np.save(path, np.load(path).view(np.int32))),
    "missing": ("train.npy", Path.unlink),
    "missing json": ("entry.json", Path.unlink),
    "truncated json": ("entry.json", truncate),
    "edited json": ("entry.json", lambda path: path.write_text(path.read_text().replace('"noise"', '"other"'))),
    "edited hash": (
        "entry.json",
        lambda path: path.write_text(path.read_text().replace('"sha256": "', '"sha256": "0')),
    ),
    "json is a list": ("entry.json", lambda path: path.write_text("[]")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_extracted_again_and_it_is_said(damage: str, tmp_path: Path) -> None:
    extract(tmp_path)
    file, injure = DAMAGES[damage]
    place = entry_folder(KEY, tmp_path)
    injure(place / file)
    assert list_features(tmp_path)[0].problem is not None
    assert verify_features(tmp_path)[0][1] is not None
    events: list[Event] = []
    stored = extract(tmp_path, notify=events.append)
    np.testing.assert_array_equal(stored["train"], expected(make_images()["train"]))
    assert any(isinstance(event, Note) and f"{place} is damaged" in event.text for event in events)
    assert [problem for _, problem in verify_features(tmp_path)] == [None]
    assert left(tmp_path) == [place.name]


def test_an_entry_that_was_copied_to_the_name_of_another_is_not_used(tmp_path: Path) -> None:
    extract(tmp_path)
    other = {**KEY, "weights": "1" * 64}
    entry_folder(KEY, tmp_path).rename(entry_folder(other, tmp_path))
    with pytest.raises(PluginError, match="extracted again"):
        extract(tmp_path, other, Fails())


def test_features_of_fewer_images_than_there_are_are_not_used(tmp_path: Path) -> None:
    extract(tmp_path)
    assert len(extract(tmp_path, images=make_images(train=41))["train"]) == 41


def test_verify_finds_a_flipped_bit(tmp_path: Path) -> None:
    extract(tmp_path)
    [(name, problem)] = verify_features(tmp_path)
    assert "linear on noise" in name and problem is None
    flip(entry_folder(KEY, tmp_path) / "test.npy", 200)
    [(_, problem)] = verify_features(tmp_path)
    assert problem is not None and "the SHA-256 of test.npy" in problem


def test_the_hashes_in_entry_json_are_those_of_the_files(tmp_path: Path) -> None:
    extract(tmp_path)
    place = entry_folder(KEY, tmp_path)
    values = json.loads((place / "entry.json").read_text())
    assert values["key"] == KEY
    for part, count in (("train", 40), ("test", 10)):
        content = (place / f"{part}.npy").read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        assert values["arrays"][part] == {"shape": [count, 5], "bytes": 128 + count * 20, "sha256": digest}
        assert len(content) == 128 + count * 20


# How much is kept


def keys(count: int) -> list[dict[str, Any]]:
    return [{**KEY, "weights": str(index)} for index in range(count)]


ENTRY = 50 * 20
"""Bytes of an entry's numbers; headers and entry.json have less than twice as many more."""


def test_the_entry_that_was_used_longest_ago_is_removed_first_and_never_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLBENCH_FEATURES_GB", "1")
    first, second, third, fourth = keys(4)
    for age, key in enumerate((third, second, first)):
        extract(tmp_path, key)
        os.utime(entry_folder(key, tmp_path) / "entry.json", (age, age))
    extract(tmp_path, third)  # used just now
    size = list_features(tmp_path)[0].bytes
    monkeypatch.setenv("CLBENCH_FEATURES_GB", repr((2.5 * size + ENTRY) / 1e9))
    events: list[Event] = []
    mapped = extract(tmp_path, second)["train"]
    os.utime(entry_folder(second, tmp_path) / "entry.json", (1, 1))
    extract(tmp_path, fourth, notify=events.append)
    kept = {entry_folder(key, tmp_path).name for key in (third, first, fourth)}
    assert set(left(tmp_path)) == kept
    assert next(event.text for event in events if isinstance(event, Note)).startswith(
        "removed the features of linear on noise"
    )
    np.testing.assert_array_equal(mapped, expected(make_images()["train"]))  # a process that uses it keeps it

    monkeypatch.setenv("CLBENCH_FEATURES_GB", "1e-9")
    extract(tmp_path, second)
    assert left(tmp_path) == [entry_folder(second, tmp_path).name]


def test_an_entry_that_another_process_removes_while_it_is_opened_is_extracted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(tmp_path)
    read = feature_entries.read_entry

    def read_and_lose(place: Path) -> feature_entries.Entry:
        entry = read(place)
        monkeypatch.setattr(feature_cache, "read_entry", read)
        feature_entries.remove_entry(place)
        return entry

    monkeypatch.setattr(feature_cache, "read_entry", read_and_lose)
    np.testing.assert_array_equal(extract(tmp_path)["train"], expected(make_images()["train"]))


@pytest.mark.parametrize("text", ["0", "-1", "much", "nan", "inf"])
def test_a_limit_that_is_no_number_of_gigabytes_is_a_usage_error(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLBENCH_FEATURES_GB", text)
    with pytest.raises(UsageError, match="CLBENCH_FEATURES_GB"):
        extract(tmp_path)
    assert left(tmp_path) == []


def test_without_a_limit_it_is_20_gb_or_half_of_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLBENCH_FEATURES_GB", raising=False)
    extract(tmp_path)
    held = list_features(tmp_path)[0].bytes
    for free, limit in ((10**12, 20 * 10**9), (10**9, (10**9 + held) // 2)):
        monkeypatch.setattr("shutil.disk_usage", lambda path, free=free: Disk(free))
        assert feature_entries.size_limit(tmp_path) == limit


class Disk:
    def __init__(self, free: int) -> None:
        self.free = free


def test_features_for_which_the_disk_has_no_room_are_refused_before_they_are_extracted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Disk(999))
    with pytest.raises(MachineError, match=r"need 1\.0 kB, but .* has only 999 B free"):
        extract(tmp_path)
    assert left(tmp_path) == []


def test_a_write_that_fails_is_a_machine_error_and_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))  # train.npy has 928 bytes
    try:
        with pytest.raises(MachineError, match="Free disk space, or choose") as caught:
            extract(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.exit_code == 4
    assert left(tmp_path) == []
    extract(tmp_path)


def test_a_data_folder_that_is_a_file_is_a_machine_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"File exists|Not a directory"):
        extract(tmp_path / "file")


def test_cleaning_removes_every_entry_and_says_how_many_bytes(tmp_path: Path) -> None:
    for key in keys(2):
        extract(tmp_path, key)
    size = sum(path.stat().st_size for path in (tmp_path / "features").rglob("*") if path.suffix)
    assert clean_features(tmp_path) == (2, size)
    assert left(tmp_path) == [] and clean_features(tmp_path) == (0, 0)


# Progress and interruption


def test_progress_ends_with_all_images(tmp_path: Path) -> None:
    events: list[Event] = []
    extract(tmp_path, notify=events.append)
    assert isinstance(events[-1], FeaturesProgress)
    assert (events[-1].features, events[-1].done, events[-1].total) == ("linear on noise", 50, 50)


def test_a_long_extraction_is_announced_and_a_short_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # By this clock, which moves by 3 s whenever it is read, the first batches take long.
    ticks = iter(range(0, 100_000, 3))
    monkeypatch.setattr(feature_cache.time, "perf_counter", lambda: float(next(ticks)))
    events: list[Event] = []
    extract(tmp_path, notify=events.append)
    (note,) = [event.text for event in events if isinstance(event, Note)]
    assert note.startswith("extracting the features of linear on noise: 50 images, about ") and "images/s" in note
    monkeypatch.undo()
    extract(tmp_path / "again", notify=events.append)
    assert len([event for event in events if isinstance(event, Note)]) == 1


def test_an_interruption_ends_the_extraction_at_the_next_batch_and_leaves_nothing(tmp_path: Path) -> None:
    interruption, seen = Interruption(), []

    def stop(x: Tensor) -> Tensor:
        seen.append(len(x))
        if len(seen) == 3:
            interruption.request(signal.SIGINT)
        return x.flatten(1)

    images = make_images(train=4000)
    with pytest.raises(Interrupted):
        extract(tmp_path, trunk=Returns(stop), images=images, interruption=interruption)
    assert left(tmp_path) == [] and len(seen) < 50


# Several processes

PROCESS = """
import os, signal, sys, time
from pathlib import Path
import numpy as np, torch
from clbench.base.events import Note
from clbench.data.feature_cache import open_features
from clbench.system.signals import Interrupted, Interruption

folder, what = Path(sys.argv[1]), sys.argv[2]

class Trunk(torch.nn.Module):
    def forward(self, x):
        with (folder / "calls").open("a") as file:
            file.write(f"{len(x)}\\n")
        if what == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "both":
            deadline = time.monotonic() + 60
            while len(list(folder.glob("started-*"))) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
        time.sleep(0.05)
        return x.flatten(1)

def say(event):
    if isinstance(event, Note):
        print(event.text, flush=True)

def prepare(images):
    return images.float().permute(0, 3, 1, 2)

images = {part: np.full((n, 128, 128, 3), 9, dtype=np.uint8) for part, n in (("train", 100), ("test", 20))}
if what == "stopped":
    images["train"] = np.repeat(images["train"], 50, 0)
(folder / f"started-{os.getpid()}").touch()
try:
    with Interruption() as interruption:
        cpu = torch.device("cpu")
        stored = open_features({"dataset": "nines"}, images, Trunk(), prepare, cpu, folder, say, interruption)
except Interrupted as interrupted:
    sys.exit(interrupted.exit_code)
assert (stored["train"] == 9).all() and (stored["test"] == 9).all()
print("opened")
"""


def start(folder: Path, what: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROCESS, str(folder), what]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def calls(folder: Path) -> int:
    """How many images have passed through the network."""
    return sum(map(int, (folder / "calls").read_text().split()))


@pytest.mark.slow
def test_two_processes_that_need_the_same_features_extract_them_once(tmp_path: Path) -> None:
    both = [start(tmp_path, "both") for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in both]
    assert calls(tmp_path) == 120
    assert sorted(outputs) == [["opened"], ["waiting for another process that is extracting features", "opened"]]


@pytest.mark.slow
def test_leftovers_of_a_killed_process_are_not_read_and_the_same_command_starts_over(tmp_path: Path) -> None:
    process = start(tmp_path, "killed")
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert left(tmp_path) == [".building"]
    assert list_features(tmp_path) == verify_features(tmp_path) == []
    assert start(tmp_path, "plain").communicate(timeout=120)[0] == "opened\n"
    assert left(tmp_path) == [entry_folder({"dataset": "nines"}, tmp_path).name]


@pytest.mark.slow
def test_ctrl_c_during_an_extraction_ends_it_promptly_and_leaves_nothing(tmp_path: Path) -> None:
    process = start(tmp_path, "stopped")
    deadline = time.monotonic() + 120
    while not (tmp_path / "calls").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert calls(tmp_path) < 2000  # of 5020, whatever else the machine does
    assert left(tmp_path) == []
