"""Images that are not separate files: idx files, parquet files, and torchvision's datasets."""

from __future__ import annotations

import errno
import gzip
import io
import json
import struct
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest

from clbench.data import datasets
from clbench.data.importing import import_dataset
from clbench.errors import DataError, MachineError, UsageError

# -- idx --------------------------------------------------------------------------------------------------------------


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_idx(folder: Path, test: str = "t10k", zipped: bool = False) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    folder.mkdir()
    arrays = {}
    for part, name in (("train", "train"), ("test", test)):
        arrays[f"x_{part}"] = random.integers(0, 256, (12, 5, 4), dtype=np.uint8)
        arrays[f"y_{part}"] = (np.arange(12) % 3).astype(np.uint8)
        for axis, kind in (("x", "images-idx3"), ("y", "labels-idx1")):
            content = idx(arrays[f"{axis}_{part}"])
            file = folder / f"{name}-{kind}-ubyte{'.gz' if zipped else ''}"
            file.write_bytes(gzip.compress(content) if zipped else content)
    return arrays


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("test", ["t10k", "test"])
def test_idx_files_arrive_unchanged(test: str, zipped: bool, tmp_path: Path) -> None:
    arrays = write_idx(tmp_path / "raw", test, zipped)
    info = import_dataset("mine", tmp_path / "raw", tmp_path)
    assert info.source == "imported from raw" and info.shape == (5, 4, 1)
    opened = datasets.open_dataset("mine", tmp_path)
    assert np.array_equal(opened.x_train[..., 0], arrays["x_train"])
    assert np.array_equal(opened.x_test[..., 0], arrays["x_test"])
    assert np.array_equal(opened.y_test, arrays["y_test"])


@pytest.mark.parametrize("content", [b"", b"\0\0\x08", b"\0\0\x0d\1\0\0\0\1\0\0\0\0", b"\0\0\x08\1\0\0\0\xff\0"])
def test_a_file_that_is_not_idx_is_named(content: bytes, tmp_path: Path) -> None:
    write_idx(tmp_path / "raw")
    (tmp_path / "raw" / "train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(DataError, match="train-labels-idx1-ubyte was not imported"):
        import_dataset("mine", tmp_path / "raw", tmp_path)
    assert list((tmp_path / "arrays").iterdir()) == []


def test_a_zipped_idx_file_is_not_unpacked_further_than_it_claims(tmp_path: Path) -> None:
    write_idx(tmp_path / "raw", zipped=True)
    bomb = tmp_path / "raw" / "train-labels-idx1-ubyte.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(idx(np.zeros(12, np.uint8)))
        for _ in range(64):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"it claims \(12,\) bytes, but has more"):
        import_dataset("mine", tmp_path / "raw", tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_an_idx_file_that_claims_more_than_there_is_room_for_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(tmp_path / "raw", zipped=True)
    monkeypatch.setattr("clbench.data.import_checks.shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(MachineError, match="240 bytes, but only 100 are free"):
        import_dataset("mine", tmp_path / "raw", tmp_path)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_damaged_idx_header_is_no_full_disk(tmp_path: Path, zipped: bool) -> None:
    write_idx(tmp_path / "raw", zipped=zipped)
    (file,) = (tmp_path / "raw").glob("train-images*")
    content = struct.pack(">HBB4I", 0, 8, 4, 2**30, 2**30, 2**30, 2**30) + bytes(100)
    file.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(DataError, match=r"it claims \(1073741824, .*\) bytes, but has fewer"):
        import_dataset("mine", tmp_path / "raw", tmp_path)


def test_a_missing_idx_file_is_said(tmp_path: Path) -> None:
    write_idx(tmp_path / "raw")
    (tmp_path / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="it has no y_test"):
        import_dataset("mine", tmp_path / "raw", tmp_path)


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    write_idx(tmp_path / "raw")
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match="raw cannot be read: Permission denied"):
        import_dataset("mine", tmp_path / "raw", tmp_path)


# -- parquet ----------------------------------------------------------------------------------------------------------


def jpeg(level: int) -> bytes:
    content = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (level, level, level)).save(content, format="JPEG")
    return content.getvalue()


def write_parquet(file: Path, labels: list[int], names: list[str] | None, column: str = "label") -> None:
    """As Hugging Face's `datasets` writes them: a struct of bytes and path, and a number; names in the metadata."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), (column, pa.int64())])
    if names:
        features = {"image": {"_type": "Image"}, column: {"names": names, "_type": "ClassLabel"}}
        schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    rows = [{"image": {"bytes": jpeg(20 * label), "path": None}, column: label} for label in labels]
    file.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, schema=schema), file)


@pytest.mark.parametrize("names", [None, [f"class {label}" for label in range(12)]])
def test_parquet_files_as_hugging_face_writes_them(names: list[str] | None, tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [*range(12)] * 2, names)
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", [*range(12)], names)
    info = import_dataset("mine", tmp_path / "data", tmp_path)
    assert info.classes == tuple(names or map(str, range(12)))
    assert (info.shape, info.train_size, info.test_size) == ((8, 8, 3), 24, 12)
    opened = datasets.open_dataset("mine", tmp_path)
    assert (np.abs(opened.x_train[:, 0, 0, 0].astype(int) - 20 * opened.y_train) <= 1).all()


def test_other_splits_of_parquet_files_are_skipped_and_counted(tmp_path: Path) -> None:
    for split, size in (("train", 2), ("test", 1), ("extra", 5), ("validation", 3)):
        write_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", [0, 1] * size, None)
    sentences: list[str] = []
    info = import_dataset("mine", tmp_path / "data", tmp_path, sentences.append)
    assert (info.train_size, info.test_size) == (4, 2)
    assert "skipped: extra*.parquet (1), validation*.parquet (1)" in sentences


def test_without_a_split_called_train_all_others_are_for_training(tmp_path: Path) -> None:
    for split in ("first", "second", "test"):
        write_parquet(tmp_path / "data" / f"{split}.parquet", [0, 1], None)
    info = import_dataset("mine", tmp_path / "data", tmp_path)
    assert (info.train_size, info.test_size) == (4, 2)


def test_one_parquet_file_is_divided(tmp_path: Path) -> None:
    write_parquet(tmp_path / "all.parquet", [0] * 10 + [1] * 10, None, column="fine_label")
    info = import_dataset("mine", tmp_path / "all.parquet", tmp_path, size=4)
    assert (info.shape, info.train_size, info.test_size, info.fit) == ((4, 4, 3), 16, 4, "crop")


def test_a_parquet_file_of_something_else_is_named(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="has the columns text, label"):
        import_dataset("mine", tmp_path / "a.parquet", tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1nothing")
    with pytest.raises(DataError, match=r"a.parquet cannot be read"):
        import_dataset("mine", tmp_path / "a.parquet", tmp_path)


def test_without_pyarrow_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(MachineError) as caught:
        import_dataset("mine", tmp_path / "a.parquet", tmp_path)
    assert caught.value.hint == "pip install pyarrow"


# -- torchvision ------------------------------------------------------------------------------------------------------


class Divided:
    """A stand-in for one of torchvision's datasets: images of two classes, 10 or 4 of each."""

    classes = ("ape", "zebra")

    def __init__(self, root: Path, train: bool = True, download: bool = False) -> None:
        if not (root / "files").exists():
            if not download:
                raise RuntimeError("Dataset not found. You can use download=True to download it")
            (root / "files").touch()
        self.size = 20 if train else 8

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return PIL.Image.new("L", (6, 6), index), index % 2


class Split(Divided):
    def __init__(self, root: Path, split: str = "train", download: bool = False) -> None:
        if split == "test":
            raise ValueError("Unknown value 'test' for argument split")
        super().__init__(root, split == "train", download)


class Boxes(Divided):
    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return PIL.Image.new("L", (6, 6)), {"boxes": []}


@pytest.mark.parametrize("cls", [Divided, Split])
def test_torchvisions_datasets_come_by_name(cls: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    monkeypatch.setattr(torchvision.datasets, "Pets", cls, raising=False)
    info = import_dataset("mine", Path("torchvision:Pets"), tmp_path)
    assert (info.classes, info.train_size, info.test_size) == (("ape", "zebra"), 20, 8)
    opened = datasets.open_dataset("mine", tmp_path)
    assert opened.x_train[:, 0, 0, 0].tolist() == [*range(0, 20, 2), *range(1, 20, 2)]
    assert opened.y_train.tolist() == [0] * 10 + [1] * 10


def test_what_torchvision_does_not_have_or_is_not_classified_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.datasets

    with pytest.raises(UsageError, match=r"did you mean.*Flowers102"):
        import_dataset("mine", Path("torchvision:Flower102"), tmp_path)
    monkeypatch.setattr(torchvision.datasets, "Pets", Boxes, raising=False)
    with pytest.raises(DataError, match="does not return an image and the number of its class"):
        import_dataset("mine", Path("torchvision:Pets"), tmp_path)


def test_a_real_dataset_of_torchvision_comes_from_its_files(tmp_path: Path) -> None:
    write_idx(tmp_path / "raw")
    (tmp_path / "KMNIST").mkdir()
    (tmp_path / "raw").rename(tmp_path / "KMNIST" / "raw")
    info = import_dataset("mine", Path("torchvision:KMNIST"), tmp_path)
    assert info.classes == ("o", "ki", "su") and info.shape == (5, 4, 1)


def test_omniglot_is_read_by_alphabet_in_alphabetical_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's own numbers follow the order in which the file system lists folders."""
    torchvision = pytest.importorskip("torchvision.datasets")
    root = tmp_path / "omniglot-py"
    for alphabet, characters in {"Latin": 3, "Greek": 2}.items():
        for character in range(characters, 0, -1):
            folder = root / "images_background" / alphabet / f"character{character:02}"
            folder.mkdir(parents=True)
            for drawing in range(20):
                level = 255 * (drawing % 2)
                PIL.Image.new("1", (105, 105), level).save(folder / f"0001_{drawing + 1:02}.png")
    (root / "images_background.zip").write_bytes(b"")
    empty = {"images_background": "d41d8cd98f00b204e9800998ecf8427e"}  # MD5 of no bytes
    monkeypatch.setattr(torchvision.Omniglot, "zips_md5", empty)
    info = import_dataset("omniglot", Path("torchvision:Omniglot"), tmp_path, size=28)
    assert info.classes == (
        "Greek/character01",
        "Greek/character02",
        "Latin/character01",
        "Latin/character02",
        "Latin/character03",
    )
    assert info.split == "2+3" and info.domains is None and info.shape == (28, 28, 1)
    assert (info.train_size, info.test_size) == (5 * 16, 5 * 4)
