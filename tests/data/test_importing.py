"""Importing a user's dataset: what is accepted arrives unchanged, what is refused leaves nothing behind."""

from __future__ import annotations

import dataclasses
import io
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from clbench.data import datasets
from clbench.data.importing import import_dataset
from clbench.errors import DataError, MachineError, UsageError

Arrays = dict[str, Any]


def arrays(size: tuple[int, ...] = (8, 6, 3), seed: int = 0) -> Arrays:
    """12 training and 6 test images of three classes."""
    random = np.random.default_rng(seed)
    return {
        "x_train": random.integers(0, 256, (12, *size), dtype=np.uint8),
        "y_train": np.arange(12) % 3,
        "x_test": random.integers(0, 256, (6, *size), dtype=np.uint8),
        "y_test": np.arange(6) % 3,
    }


def npz(path: Path, content: Arrays) -> Path:
    np.savez(path, **content)
    return path


def npz_of_bytes(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(values: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    """A .npy; with `shape`, one whose header claims that shape."""
    file = io.BytesIO()
    header = {"descr": values.dtype.str, "fortran_order": False, "shape": shape or values.shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + values.tobytes()


def refused(path: Path, folder: Path, name: str = "mine") -> str:
    """Imports `path`, which must be refused without a trace in the cache; returns what the error says."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(DataError) as caught:
        import_dataset(name, path, folder)
    assert caught.value.exit_code == 3
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert list((folder / "arrays").iterdir()) == []
    assert before is None or path.read_bytes() == before
    # Without the folder, which pytest names after the test: a word of that name would match by itself.
    return str(caught.value).replace(str(path), path.name)


# .npz: what is accepted


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_and_labels_of_an_npz_arrive_unchanged(save: Callable[..., None], tmp_path: Path) -> None:
    content = arrays()
    save(tmp_path / "a.npz", **content)
    info = import_dataset("mine", tmp_path / "a.npz", tmp_path)
    opened = datasets.open_dataset("mine", tmp_path)
    for array, values in content.items():
        assert np.array_equal(getattr(opened, array), values)
    assert opened.info == info
    assert (info.shape, info.train_size, info.test_size) == ((8, 6, 3), 12, 6)
    assert info.classes == ("0", "1", "2")
    assert info.mean == pytest.approx((content["x_train"] / 255).mean(axis=(0, 1, 2)))
    assert info.std == pytest.approx((content["x_train"] / 255).std(axis=(0, 1, 2)))
    assert info.source == "imported from a.npz"
    assert datasets.verify(tmp_path) == [("mine", None)]


def test_grey_images_without_a_channel_axis_get_one(tmp_path: Path) -> None:
    content = arrays((8, 6))
    import_dataset("mine", npz(tmp_path / "a.npz", content), tmp_path)
    assert np.array_equal(datasets.open_dataset("mine", tmp_path).x_test, content["x_test"][..., np.newaxis])


@pytest.mark.parametrize("dtype", ["uint8", "int32", ">i4", "uint64"])
def test_labels_of_any_integer_type_and_as_a_column_are_stored_as_int64(dtype: str, tmp_path: Path) -> None:
    content = arrays()
    column = content["y_train"].astype(dtype)[:, np.newaxis]
    import_dataset("mine", npz(tmp_path / "a.npz", {**content, "y_train": column}), tmp_path)
    opened = datasets.open_dataset("mine", tmp_path)
    assert opened.y_train.dtype == np.int64
    assert opened.y_train.tolist() == content["y_train"].tolist()


def test_the_npz_may_name_its_classes_and_hold_more(tmp_path: Path) -> None:
    content = {**arrays(), "classes": np.array(["Äpfel", "pear", "fig"]), "notes": np.zeros(3)}
    assert import_dataset("mine", npz(tmp_path / "a.npz", content), tmp_path).classes == ("Äpfel", "pear", "fig")


def test_the_same_content_under_two_names_has_the_same_hash(tmp_path: Path) -> None:
    first = import_dataset("one", npz(tmp_path / "a.npz", arrays()), tmp_path)
    second = import_dataset("two", npz(tmp_path / "b.npz", arrays()), tmp_path)
    other = import_dataset("three", npz(tmp_path / "c.npz", arrays(seed=1)), tmp_path)
    assert first.sha256 == second.sha256 != other.sha256


def test_importing_the_same_content_again_says_so_and_changes_nothing(tmp_path: Path) -> None:
    first = import_dataset("mine", npz(tmp_path / "a.npz", arrays()), tmp_path)
    sentences: list[str] = []
    assert import_dataset("mine", npz(tmp_path / "b.npz", arrays()), tmp_path, sentences.append) == first
    assert "already" in sentences[-1]


@pytest.mark.parametrize("other", [arrays(seed=1), {**arrays(), "classes": np.array(["a", "b", "c"])}])
def test_different_content_does_not_replace_a_dataset_of_that_name(other: Arrays, tmp_path: Path) -> None:
    first = import_dataset("mine", npz(tmp_path / "a.npz", arrays()), tmp_path)
    with pytest.raises(DataError, match=f"delete {tmp_path / 'arrays' / 'mine'}"):
        import_dataset("mine", npz(tmp_path / "b.npz", other), tmp_path)
    assert datasets.describe("mine", tmp_path) == first
    assert datasets.verify(tmp_path) == [("mine", None)]


def test_a_built_in_can_be_imported_if_its_sizes_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = arrays((32, 32, 3))
    assert "50000 + 10000" in refused(npz(tmp_path / "cifar10.npz", content), tmp_path, "cifar10")
    small = dataclasses.replace(datasets.BUILTIN["cifar10"], classes=3, train_size=12, test_size=6)
    monkeypatch.setitem(datasets.BUILTIN, "cifar10", small)
    import_dataset("cifar10", tmp_path / "cifar10.npz", tmp_path)
    opened = datasets.open_dataset("cifar10", tmp_path)
    assert opened.info.source == "imported from cifar10.npz"
    assert np.array_equal(opened.x_train, content["x_train"])


@pytest.mark.slow
def test_images_are_never_all_in_memory(tmp_path: Path) -> None:
    content = arrays()
    content["x_train"] = np.zeros((12, 2048, 1024, 3), dtype=np.uint8)  # 75 MB
    content["x_test"] = content["x_train"][:6, :, :, :]
    npz(tmp_path / "a.npz", content)
    del content
    tracemalloc.start()
    try:
        import_dataset("mine", tmp_path / "a.npz", tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_in_0_to_1_or_0_to_255_become_bytes(high: int, dtype: str, tmp_path: Path) -> None:
    content = arrays()
    floats = {x: (content[x] / 255 * high).astype(dtype) for x in ("x_train", "x_test")}
    sentences: list[str] = []
    import_dataset("mine", npz(tmp_path / "a.npz", {**content, **floats}), tmp_path, sentences.append)
    opened = datasets.open_dataset("mine", tmp_path)
    assert np.array_equal(opened.x_train, content["x_train"]) and np.array_equal(opened.x_test, content["x_test"])
    assert f"its pixels are floats, assumed to be in 0..{high}" in sentences


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_may_come_before_height_and_width(channels: int, tmp_path: Path) -> None:
    content = arrays((8, 6, channels))
    first = {x: content[x].transpose(0, 3, 1, 2).copy() for x in ("x_train", "x_test")}
    import_dataset("mine", npz(tmp_path / "a.npz", {**content, **first}), tmp_path)
    assert np.array_equal(datasets.open_dataset("mine", tmp_path).x_train, content["x_train"])


LABELS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "integers from 1": (lambda y: y + 1, ("1", "2", "3")),
    "integers with gaps": (lambda y: np.array([-5, 20, 100])[y], ("-5", "20", "100")),
    "strings": (lambda y: np.array(["ape", "gnu", "zebra"])[y], ("ape", "gnu", "zebra")),
    "bytes": (lambda y: np.array([b"ape", b"gnu", b"zebra"])[y], ("ape", "gnu", "zebra")),
    "numbers as strings": (lambda y: np.array(["2", "9", "10"])[y], ("2", "9", "10")),
    "one-hot": (lambda y: np.eye(3, dtype=np.int32)[y], ("0", "1", "2")),
    "one-hot floats": (lambda y: np.eye(3)[y], ("0", "1", "2")),
    "truth values": (lambda y: y > 0, ("0", "1")),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind_are_numbered(kind: str, tmp_path: Path) -> None:
    change, classes = LABELS[kind]
    content = arrays()
    changed = {y: change(content[y]) for y in ("y_train", "y_test")}
    info = import_dataset("mine", npz(tmp_path / "a.npz", {**content, **changed}), tmp_path)
    assert info.classes == classes
    expected = content["y_test"] if len(classes) == 3 else content["y_test"].clip(max=1)
    assert datasets.open_dataset("mine", tmp_path).y_test.tolist() == expected.tolist()


def test_of_x_and_y_a_fifth_of_each_class_is_held_out(tmp_path: Path) -> None:
    pixels = np.arange(30, dtype=np.uint8)[:, None, None] * np.ones((4, 4), dtype=np.uint8)
    path = npz(tmp_path / "a.npz", {"x": pixels, "y": np.repeat(list("abc"), 10)})
    info = import_dataset("mine", path, tmp_path)
    assert (info.classes, info.train_size, info.test_size) == (("a", "b", "c"), 24, 6)
    opened = datasets.open_dataset("mine", tmp_path)
    for x, y in ((opened.x_train, opened.y_train), (opened.x_test, opened.y_test)):
        assert (x[:, 0, 0, 0] // 10 == y).all()
    assert opened.y_test.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_class_may_be_absent_from_the_test_part(tmp_path: Path) -> None:
    sentences: list[str] = []
    content = {**arrays(), "y_test": np.arange(6) % 2}
    assert import_dataset("mine", npz(tmp_path / "a.npz", content), tmp_path, sentences.append).classes == tuple("012")
    assert any("1 class has no test images" in each and each.endswith(": 2") for each in sentences)


# .npz: what is refused

WRONG: dict[str, tuple[Arrays, str]] = {
    "floats beyond 255": ({"x_train": np.full((12, 8, 6, 3), 256.0)}, "floats are from 256 to 256"),
    "floats below 0": ({"x_train": np.full((12, 8, 6, 3), -0.5)}, "floats are from -0.5 to -0.5; they must be in 0..1"),
    "floats that are no numbers": ({"x_train": np.full((12, 8, 6, 3), np.nan)}, "floats are from nan"),
    "images as int8": ({"x_test": np.zeros((6, 8, 6, 3), dtype=np.int8)}, "x_test must be uint8"),
    "flat images": ({"x_train": np.zeros((12, 144), dtype=np.uint8)}, "x_train must be uint8"),
    "four channels": ({"x_train": np.zeros((12, 8, 6, 4), dtype=np.uint8)}, "x_train must be uint8"),
    "no image": ({"x_test": np.zeros((0, 8, 6, 3), dtype=np.uint8)}, "empty"),
    "no pixel": ({"x_test": np.zeros((6, 0, 6, 3), dtype=np.uint8)}, "empty"),
    "labels as floats": ({"y_train": np.arange(12) % 3 + 0.0}, "y_train must be integers"),
    "labels not quite one-hot": ({"y_train": np.ones((12, 3), dtype=int)}, "y_train is (12, 3), but not one-hot"),
    "labels of two kinds": ({"y_test": np.array(list("012012"))}, "y_train and y_test are not of one kind"),
    "label that is not trained": ({"y_test": np.arange(6) % 3 - 1}, "y_test has labels that y_train does not have: -1"),
    "label beyond int64": ({"y_test": np.full(6, 2**64 - 1, dtype=np.uint64)}, "does not have: 18446744073709551615"),
    "class absent from train": ({"y_train": np.arange(12) % 2}, "y_test has labels that y_train does not have: 2"),
    "named class absent from train": (
        {"y_train": np.arange(12) % 2, "y_test": np.arange(6) % 2, "classes": np.array(list("abc"))},
        "y_train has no image of class 2 ('c')",
    ),
    "fewer labels than images": ({"y_train": np.arange(11) % 3}, "12 images and y_train 11 labels"),
    "train and test differ in size": ({"x_test": np.zeros((6, 6, 8, 3), dtype=np.uint8)}, "x_test of (6, 8, 3)"),
    "too few class names": ({"classes": np.array(["a", "b"])}, "labels must be in 0..1"),
    "too many class names": ({"classes": np.array(["a", "b", "c", "d"])}, "no image of class 3"),
    "class names twice": ({"classes": np.array(["a", "b", "a"])}, "same name"),
    "class names as numbers": ({"classes": np.arange(3)}, "row of strings"),
    "blank class name": ({"classes": np.array(["a", " ", "c"])}, "invalid class name"),
    "control characters in a class name": ({"classes": np.array(["a", "b\x1b[2J", "c"])}, "invalid class name"),
    "Fortran order": ({"x_train": np.asfortranarray(np.zeros((12, 8, 6, 3), dtype=np.uint8))}, "Fortran order"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_invalid_arrays_are_refused_with_the_reason(wrong: str, tmp_path: Path) -> None:
    changes, said = WRONG[wrong]
    assert said in refused(npz(tmp_path / "a.npz", {**arrays(), **changes}), tmp_path)


@pytest.mark.parametrize("array", ["x_train", "x_test"])
def test_a_pixel_that_is_no_number_is_found_wherever_it_is(array: str, tmp_path: Path) -> None:
    content: Arrays = {**arrays(), "x_train": np.zeros((12, 300, 300)), "x_test": np.zeros((6, 300, 300))}  # 8 and 4 MB
    content[array][-1, -1, -1] = np.nan
    assert "floats are from nan to nan" in refused(npz(tmp_path / "a.npz", content), tmp_path)


@pytest.mark.parametrize("array", ["x_train", "y_train", "x_test", "y_test"])
def test_a_missing_array_is_named(array: str, tmp_path: Path) -> None:
    content = arrays()
    del content[array]
    assert f"it has no {array}" in refused(npz(tmp_path / "a.npz", content), tmp_path)


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("array", ["x_train", "y_test", "classes"])
def test_an_object_array_is_refused_and_not_unpickled(array: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    content = {**arrays(), array: np.array([Bomb(marker)] * 3, dtype=object)}
    path = npz(tmp_path / "a.npz", content)
    assert "never unpickled" in refused(path, tmp_path)
    assert not marker.exists()
    with np.load(path, allow_pickle=True) as loaded:
        _ = loaded[array]
    assert marker.exists()  # the bomb was live


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_npz_is_refused(kept: float, tmp_path: Path) -> None:
    content = npz(tmp_path / "a.npz", arrays()).read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: int(len(content) * kept)])
    refused(tmp_path / "a.npz", tmp_path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_in_the_images_is_refused(save: Callable[..., None], tmp_path: Path) -> None:
    save(tmp_path / "a.npz", **arrays())
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[1000] ^= 4
    (tmp_path / "a.npz").write_bytes(content)
    refused(tmp_path / "a.npz", tmp_path)


@pytest.mark.parametrize("claimed", [(13, 8, 6, 3), (11, 8, 6, 3), (10**12, 8, 6, 3)])
def test_a_header_that_claims_more_or_less_than_the_zip_holds_is_refused(
    claimed: tuple[int, ...], tmp_path: Path
) -> None:
    content = {f"{array}.npy": npy(values) for array, values in arrays().items()}
    content["x_train.npy"] = npy(arrays()["x_train"], shape=claimed)
    assert "claims" in refused(npz_of_bytes(tmp_path / "a.npz", content), tmp_path)


def test_a_zip_directory_that_backs_a_lying_header_is_refused(tmp_path: Path) -> None:
    content = {f"{array}.npy": npy(values) for array, values in arrays().items()}
    content["x_train.npy"] = lying = npy(arrays()["x_train"], shape=(24, 8, 6, 3))
    content["y_train.npy"] = npy(np.arange(24) % 3)
    path = npz_of_bytes(tmp_path / "a.npz", content)
    raw = bytearray(path.read_bytes())
    entry = raw.index(b"PK\x01\x02")
    assert struct.unpack_from("<I", raw, entry + 24)[0] == len(lying)
    struct.pack_into("<I", raw, entry + 24, len(lying) + 12 * 8 * 6 * 3)
    path.write_bytes(raw)
    assert "bytes too early" in refused(path, tmp_path)


@pytest.mark.parametrize(
    "header", [b"", b"nonsense", b"\x93NUMPY\x01\x00v\x00" + b"(" * 118, b"\x93NUMPY\x09\x00v\x00" + b" " * 118]
)
def test_a_member_that_is_not_an_npy_is_named(header: bytes, tmp_path: Path) -> None:
    content = {f"{array}.npy": npy(values) for array, values in arrays().items()}
    content["y_train.npy"] = header
    assert "y_train.npy" in refused(npz_of_bytes(tmp_path / "a.npz", content), tmp_path)


def test_a_zip_bomb_that_would_fill_the_disk_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {**arrays(), "x_train": np.zeros((12, 1000, 1000), dtype=np.uint8)}
    content["x_test"] = content["x_train"][:6]
    np.savez_compressed(tmp_path / "a.npz", **content)
    assert (tmp_path / "a.npz").stat().st_size < 50_000
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=18_000_000))
    with pytest.raises(MachineError, match="unpack to 18,000,144 bytes, but only 18,000,000 are free"):
        import_dataset("mine", tmp_path / "a.npz", tmp_path)
    assert list((tmp_path / "arrays").iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=18_000_144))
    import_dataset("mine", tmp_path / "a.npz", tmp_path)


def test_a_compression_that_numpy_never_uses_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_BZIP2) as archive:
        for array, values in arrays().items():
            archive.writestr(f"{array}.npy", npy(values))
    assert "a compression that numpy never writes" in refused(tmp_path / "a.npz", tmp_path)


def test_an_encrypted_npz_is_refused(tmp_path: Path) -> None:
    raw = bytearray(npz(tmp_path / "a.npz", arrays()).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    (tmp_path / "a.npz").write_bytes(raw)
    assert "encrypted" in refused(tmp_path / "a.npz", tmp_path)


def test_a_full_disk_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    import resource

    path = npz(tmp_path / "a.npz", arrays((64, 64, 3)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        with pytest.raises(MachineError, match="Free disk space, or choose"):
            import_dataset("mine", path, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "arrays").iterdir()) == []


def test_a_missing_path_and_an_invalid_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz does not exist"):
        import_dataset("mine", tmp_path / "none.npz", tmp_path)
    with pytest.raises(UsageError):
        import_dataset("../mine", npz(tmp_path / "a.npz", arrays()), tmp_path)


# Folders of images


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, format="PNG")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, three training images and one test image of each, (5, 4, 3), each of one colour of its own."""
    root = tmp_path / "images"
    for at, name in enumerate(["zebra", "ape"]):
        for number in range(4):
            part = "test" if number == 3 else "train"
            write_png(root / part / name / f"{number}.png", np.full((5, 4, 3), [at, number, 9], dtype=np.uint8))
    return root


def test_classes_whose_names_are_whole_numbers_are_in_numerical_order(tmp_path: Path) -> None:
    for number in range(12):
        for part in ("train", "test"):
            path = tmp_path / "images" / part / str(number) / "0.png"
            write_png(path, np.full((5, 4, 3), 20 * number, dtype=np.uint8))
    info = import_dataset("mine", tmp_path / "images", tmp_path)
    opened = datasets.open_dataset("mine", tmp_path)
    assert info.classes == tuple(str(number) for number in range(12))
    assert [int(image[0, 0, 0]) for image in opened.x_train] == [20 * label for label in opened.y_train]


def test_images_of_a_folder_arrive_in_the_order_of_their_classes_names(folder: Path, tmp_path: Path) -> None:
    (folder / "train" / ".DS_Store").touch()
    (folder / "train" / "ape" / ".hidden.png").touch()
    info = import_dataset("mine", folder, tmp_path)
    assert (info.classes, info.shape, info.train_size, info.test_size) == (("ape", "zebra"), (5, 4, 3), 6, 2)
    assert info.source == "imported from images"
    opened = datasets.open_dataset("mine", tmp_path)
    assert opened.y_train.tolist() == [0, 0, 0, 1, 1, 1]
    assert opened.y_test.tolist() == [0, 1]
    for image, colour in zip(opened.x_train, [(1, 0), (1, 1), (1, 2), (0, 0), (0, 1), (0, 2)], strict=True):
        assert (image == [*colour, 9]).all()
    assert datasets.verify(tmp_path) == [("mine", None)]


def test_rows_columns_and_channels_of_a_png_keep_their_places(tmp_path: Path) -> None:
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    grey = pixels[:, :, 0].copy()
    for part in ("train", "test"):
        write_png(tmp_path / "colour" / part / "a" / "1.PNG", pixels)
        write_png(tmp_path / "grey" / part / "a" / "1.png", grey)
    import_dataset("colour", tmp_path / "colour", tmp_path)
    import_dataset("grey", tmp_path / "grey", tmp_path)
    assert np.array_equal(datasets.open_dataset("colour", tmp_path).x_test, pixels[np.newaxis])
    assert np.array_equal(datasets.open_dataset("grey", tmp_path).x_test, grey[np.newaxis, ..., np.newaxis])


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 8] ^= 1
    path.write_bytes(content)


def text(path: Path) -> None:
    path.write_text("not an image")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def bomb(path: Path) -> None:
    """A few bytes that say they are 100,000 × 100,000 pixels."""
    content = bytearray(path.read_bytes())
    struct.pack_into(">II", content, 16, 100_000, 100_000)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    path.write_bytes(content)


def half_bomb(path: Path) -> None:
    """As many pixels as Pillow only warns of."""
    content = bytearray(path.read_bytes())
    struct.pack_into(">II", content, 16, 10_000, 10_000)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    path.write_bytes(content)


DAMAGES = [truncated, flipped, text, empty, bomb, half_bomb]


@pytest.mark.parametrize("size", [None, 8])
@pytest.mark.parametrize("image", ["train/ape/0.png", "train/zebra/1.png", "test/ape/3.png"])
@pytest.mark.parametrize("injure", DAMAGES)
def test_a_broken_image_among_few_is_named(
    injure: Callable[[Path], None], image: str, size: int | None, folder: Path, tmp_path: Path
) -> None:
    injure(folder / image)
    with pytest.raises(DataError) as caught:
        import_dataset("mine", folder, tmp_path, size=size)
    assert f"1 of its 8 images are broken: {folder / image} (" in caught.value.message
    assert injure not in (bomb, half_bomb) or "decompression bomb" in caught.value.message
    assert list((tmp_path / "arrays").iterdir()) == []


def test_a_broken_image_among_many_is_left_out_and_named(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for number in range(202):
        part, name = ("test" if number % 2 else "train"), ("zebra" if number % 4 < 2 else "ape")
        write_png(root / part / name / f"{number:03}.png", np.full((5, 4, 3), number, dtype=np.uint8))
    (root / "train/zebra/100.png").write_text("not an image")
    sentences: list[str] = []
    info = import_dataset("mine", root, tmp_path, sentences.append)
    assert (info.train_size, info.test_size) == (100, 101)
    assert f"1 image is broken and left out: {root}/train/zebra/100.png (it is not an image" in " ".join(sentences)
    opened = datasets.open_dataset("mine", tmp_path)
    numbers = opened.x_train[:, 0, 0, 0]
    assert 100 not in numbers and [n % 4 < 2 for n in numbers] == opened.y_train.astype(bool).tolist()
    assert datasets.verify(tmp_path) == [("mine", None)]
    (root / "train/zebra/104.png").write_text("not an image")
    (root / "test/ape/103.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"3 of its 202 images are broken: .*100.png .*104.png .*103.png \(it is empty"):
        import_dataset("other", root, tmp_path)


def test_a_class_of_which_nothing_can_be_read_is_named(tmp_path: Path) -> None:
    for number in range(300):
        write_png(tmp_path / "images" / "many" / f"{number}.png", np.zeros((4, 4), dtype=np.uint8))
    write_png(tmp_path / "images" / "one" / "1.png", np.zeros((4, 4), dtype=np.uint8))
    truncated(tmp_path / "images" / "one" / "1.png")
    with pytest.raises(DataError, match="no training image of one can be read"):
        import_dataset("mine", tmp_path / "images", tmp_path)


def test_images_of_several_sizes_need_a_size(folder: Path, tmp_path: Path) -> None:
    write_png(folder / "test/ape/3.png", np.zeros((400, 500, 3), dtype=np.uint8))
    said = refused(folder, tmp_path)
    assert "its images have several sizes, from 4×5 to 500×400 pixels." in said and "--size" in said
    assert import_dataset("mine", folder, tmp_path, size=6).shape == (6, 6, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("image", ["train/ape/0.png", "test/zebra/3.png"])
def test_an_image_of_another_mode_is_converted(mode: str, image: str, folder: Path, tmp_path: Path) -> None:
    suffix = ".tif" if mode == "CMYK" else ".png"
    PIL.Image.new(mode, (4, 5)).save((folder / image).with_suffix(suffix))
    if suffix == ".tif":
        (folder / image).unlink()
    assert import_dataset("mine", folder, tmp_path).shape == (5, 4, 3)


def test_one_coloured_image_makes_all_coloured_even_if_it_comes_late(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for number in range(300):
        write_png(root / "train" / "a" / f"{number:03}.png", np.full((4, 4), 9, dtype=np.uint8))
    write_png(root / "test" / "a" / "0.png", np.full((4, 4), 9, dtype=np.uint8))
    assert import_dataset("grey", root, tmp_path).shape == (4, 4, 1)
    write_png(root / "test" / "a" / "1.png", np.full((4, 4, 3), (1, 2, 3), dtype=np.uint8))
    assert import_dataset("mine", root, tmp_path).shape == (4, 4, 3)
    opened = datasets.open_dataset("mine", tmp_path)
    assert (opened.x_train == 9).all() and (opened.x_test[1] == (1, 2, 3)).all()
    assert datasets.verify(tmp_path) == [("grey", None), ("mine", None)]


@pytest.mark.parametrize("fit", [None, "crop", "pad", "stretch"])
def test_the_fit_is_kept_with_the_dataset(fit: Any, folder: Path, tmp_path: Path) -> None:
    info = import_dataset("mine", folder, tmp_path, size=8, fit=fit)
    assert info.fit == (fit or "crop") == datasets.open_dataset("mine", tmp_path).info.fit
    corner = datasets.open_dataset("mine", tmp_path).x_train[3, 0, 0].tolist()
    assert corner == ([0, 0, 0] if fit == "pad" else [0, 0, 9])


def test_a_former_dataset_json_has_no_fit_and_means_stretch(folder: Path, tmp_path: Path) -> None:
    import json

    import_dataset("mine", folder, tmp_path)
    path = tmp_path / "arrays" / "mine" / "dataset.json"
    stored = json.loads(path.read_text())
    assert stored.pop("fit") == "stretch"
    path.write_text(json.dumps(stored))
    info = datasets.describe("mine", tmp_path)
    assert info is not None and info.fit == "stretch"


def test_pngs_of_one_size_and_mode_have_the_hash_of_their_arrays(folder: Path, tmp_path: Path) -> None:
    """As an .npz of the same pixels has, and as they had when nothing else was accepted."""
    info = import_dataset("mine", folder, tmp_path)
    colours = [(1, 0), (1, 1), (1, 2), (0, 0), (0, 1), (0, 2)]
    x_train = np.array([np.full((5, 4, 3), [*colour, 9]) for colour in colours], dtype=np.uint8)
    x_test = np.array([np.full((5, 4, 3), [at, 3, 9]) for at in (1, 0)], dtype=np.uint8)
    labels = {"y_train": np.repeat([0, 1], 3), "y_test": np.arange(2)}
    path = npz(tmp_path / "a.npz", {"x_train": x_train, "x_test": x_test, **labels})
    assert import_dataset("other", path, tmp_path).sha256 == info.sha256


def test_other_files_are_skipped_and_counted(folder: Path, tmp_path: Path) -> None:
    for name in ("train/notes.txt", "train/ape/thumbs.db", "test/zebra/a.txt", "train/ape/._0.png"):
        (folder / name).touch()
    sentences: list[str] = []
    assert import_dataset("mine", folder, tmp_path, sentences.append).train_size == 6
    assert "skipped: .txt (2), hidden files (2)" in sentences


def test_without_a_part_for_testing_a_fifth_is_held_out(tmp_path: Path) -> None:
    for at, name in enumerate(("ape", "zebra")):
        for number in range(10):
            write_png(tmp_path / "images" / name / f"{number}.png", np.full((4, 4), 100 * at + number, dtype=np.uint8))
    sentences: list[str] = []
    info = import_dataset("mine", tmp_path / "images", tmp_path, sentences.append)
    assert (info.train_size, info.test_size) == (16, 4) and any("20%" in each for each in sentences)
    opened = datasets.open_dataset("mine", tmp_path)
    levels = np.concatenate([opened.x_train, opened.x_test])[:, 0, 0, 0].tolist()
    assert sorted(levels) == [*range(10), *range(100, 110)]
    assert ((opened.x_test[:, 0, 0, 0] >= 100) == opened.y_test).all()
    assert opened.y_test.tolist() == [0, 0, 1, 1]


def test_imbalance_and_classes_that_cannot_be_judged_are_said(folder: Path, tmp_path: Path) -> None:
    (folder / "test/zebra/3.png").unlink()
    (folder / "train/zebra/2.png").unlink()
    sentences: list[str] = []
    import_dataset("mine", folder, tmp_path, sentences.append)
    assert "training images per class: 2 to 3, median 3 (fewest: zebra 2, ape 3)" in sentences
    assert any("1 class has no test images" in each and each.endswith(": zebra") for each in sentences)
    assert datasets.verify(tmp_path) == [("mine", None)]


@pytest.mark.parametrize("size", [0, -3, 2049])
def test_a_size_that_no_image_can_have_is_refused(size: int, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--size must be from 1 to 2048"):
        import_dataset("mine", folder, tmp_path, size=size)


def test_a_folder_that_links_elsewhere_is_refused_and_a_link_inside_is_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "test" / "ape").rename(tmp_path / "outside")
    (folder / "test" / "ape").symlink_to(tmp_path / "outside")
    assert "leads out of the folder" in refused(folder, tmp_path)
    (folder / "test" / "ape").unlink()
    (folder / "test" / "ape").symlink_to(folder / "train" / "ape")
    assert import_dataset("mine", folder, tmp_path).test_size == 4


def test_a_part_that_links_elsewhere_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "test").rename(tmp_path / "outside")
    (folder / "test").symlink_to(tmp_path / "outside")
    assert "leads out of the folder" in refused(folder, tmp_path)


def test_images_that_would_fill_the_disk_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage(tmp_path)
    needed = 8 * (5 * 4 * 3 + 8)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=needed - 1))
    with pytest.raises(MachineError, match=f"{needed} bytes, but only {needed - 1} are free") as raised:
        import_dataset("mine", folder, tmp_path)
    assert raised.value.exit_code == 4 and raised.value.hint.startswith("Free disk space")
