"""Many images decoded at once are the same as one after the other; broken ones are named and affect no others."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from clbench.base.events import DecodingProgress, Event
from clbench.data import image_decoding
from clbench.data.image_decoding import decode
from clbench.data.image_files import read_image


def ignored(event: Event) -> None:
    pass


@pytest.fixture
def on_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of any size are decoded by four threads."""
    monkeypatch.setattr(image_decoding, "_PIXELS_PER_THREAD", 1)
    monkeypatch.setattr(image_decoding, "available_cores", lambda: 4)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """300 JPEGs of several sizes and noise of their own."""
    random = np.random.default_rng(0)
    for number in range(300):
        pixels = random.integers(0, 256, (20 + number % 7, 30 - number % 5, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / f"{number:03}.jpg")
    return sorted(tmp_path.glob("*.jpg"))


@pytest.mark.usefixtures("on_all_cores")
@pytest.mark.parametrize("on_disk", [False, True])
def test_all_images_arrive_in_order_as_each_is_read_alone(on_disk: bool, files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "x.npy" if on_disk else None
    found = decode(files, (16, 16, 3), "crop", ignored, "mine", out)
    assert found.rows == tuple(range(300)) and found.broken == ()
    for image, file in zip(found.images, files, strict=True):
        assert np.array_equal(image, read_image(file, (16, 16, 3), "crop"))
    if out:
        assert np.array_equal(np.load(out), found.images)


@pytest.mark.usefixtures("on_all_cores")
@pytest.mark.parametrize("on_disk", [False, True])
def test_broken_images_are_named_and_left_out(on_disk: bool, files: list[Path], tmp_path: Path) -> None:
    for at, content in ((0, b""), (40, files[40].read_bytes()[:800]), (299, b"no image")):
        files[at].write_bytes(content)
    files.append(tmp_path / "none.jpg")
    out = tmp_path / "x.npy" if on_disk else None
    found = decode(files, (16, 16, 3), "crop", ignored, "mine", out)
    assert [file for file, _ in found.broken] == [files[0], files[40], files[299], files[300]]
    assert [why.partition(" (")[0] for _, why in found.broken] == [
        "it is empty",
        "image file is truncated",
        "it is not an image",
        "no such file or directory",
    ]
    assert found.rows == tuple(row for row in range(300) if row not in (0, 40, 299))
    assert len(found.images) == 297
    assert np.array_equal(found.images[-1], read_image(files[298], (16, 16, 3), "crop"))
    if out:
        assert np.load(out).shape == (297, 16, 16, 3)


def test_nothing_readable_is_an_empty_array(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    found = decode([tmp_path / "a.jpg"], (4, 4, 3), "crop", ignored, "mine", tmp_path / "x.npy")
    assert found.images.shape == (0, 4, 4, 3) and found.rows == ()


@pytest.mark.usefixtures("on_all_cores")
def test_progress_is_told_up_to_the_last_image(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_decoding, "_SECONDS_BETWEEN_EVENTS", 0.0)
    events: list[Event] = []
    decode(files, (16, 16, 3), "crop", events.append, "mine")
    done = [event.done for event in events if isinstance(event, DecodingProgress)]
    assert done == sorted(set(done)) and len(done) > 2 and done[-1] == 300
    assert {event.total for event in events if isinstance(event, DecodingProgress)} == {300}


@pytest.mark.usefixtures("on_all_cores")
def test_what_a_check_raises_ends_decoding(files: list[Path]) -> None:
    class Unwanted(Exception):
        pass

    def check(image: PIL.Image.Image) -> None:
        if image.height == 26:
            raise Unwanted

    with pytest.raises(Unwanted):
        decode(files, (16, 16, 3), "crop", ignored, "mine", check=check)


@pytest.mark.parametrize(("size", "threads"), [(64, 1), (160, 2), (320, 8)])
def test_small_images_are_decoded_by_fewer_threads_than_there_are_cores(
    size: int, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_decoding, "available_cores", lambda: 8)
    (tmp_path / "broken.jpg").touch()
    for number in range(3):
        PIL.Image.new("RGB", (size, size)).save(tmp_path / f"{number}.jpg")
    assert image_decoding._threads_for(sorted(tmp_path.glob("*.jpg"))) == threads


@pytest.mark.slow
def test_what_is_written_to_a_file_is_not_kept_in_memory(files: list[Path], tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        decode(files, (512, 512, 3), "crop", ignored, "mine", tmp_path / "x.npy")  # 236 MB
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (2 + 9 * image_decoding.available_cores()) * image_decoding._PART_BYTES
