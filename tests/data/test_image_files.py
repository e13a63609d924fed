"""One image file: whatever its size and kind, its pixels are those that a person sees."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from clbench.data.image_files import UNREADABLE, fitted_pixels, read_image, upright_size
from clbench.data.image_fit import Fit

RED, WHITE = (255, 0, 0), (255, 255, 255)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp", "gif", "jpg"])
def test_every_format_gives_the_pixels_that_were_saved(suffix: str, tmp_path: Path) -> None:
    pixels = np.zeros((6, 9, 3), dtype=np.uint8)
    pixels[:, 4:] = (250, 120, 30)
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    PIL.Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", **options)
    found = read_image(tmp_path / f"a.{suffix}", (6, 9, 3), "crop")
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - pixels).max() <= (3 if suffix == "jpg" else 0)


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    red, white = (PIL.Image.new("RGB", (4, 4), colour) for colour in (RED, WHITE))
    red.save(tmp_path / "a.gif", save_all=True, append_images=[white])
    assert (read_image(tmp_path / "a.gif", (4, 4, 3), "crop") == RED).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
@pytest.mark.parametrize("channels", [1, 3])
def test_white_is_white_in_every_mode(mode: str, channels: int) -> None:
    white: Any = {"I;16": 65535, "I": 65535, "F": 1.0}.get(mode)
    image = PIL.Image.new("RGB", (5, 4), WHITE).convert(mode) if white is None else PIL.Image.new(mode, (5, 4), white)
    found = fitted_pixels(image, (4, 5, channels), "crop")
    assert found.shape == (4, 5, channels) and (found >= 254).all()  # YCbCr rounds


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    levels = np.array([[0, 257, 300, 32768, 65535]], dtype=np.uint16)
    PIL.Image.fromarray(levels).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", (1, 5, 1), "crop").ravel().tolist() == [0, 1, 1, 128, 255]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([0.0, 0.2, 1.0], [0, 51, 255]),
        ([0.0, 51.0, 255.0], [0, 51, 255]),
        ([-1000.0, 0.0, 1000.0], [0, 128, 255]),  # as a scanner's; from its own least to its own largest value
    ],
)
def test_floats_are_scaled_by_what_they_hold(levels: list[float], expected: list[int]) -> None:
    image = PIL.Image.fromarray(np.array([levels], dtype=np.float32))
    assert fitted_pixels(image, (1, 3, 1), "crop").ravel().tolist() == expected


def test_a_flat_image_beyond_every_range_is_black() -> None:
    image = PIL.Image.fromarray(np.full((2, 2), -7.0, dtype=np.float32))
    assert (fitted_pixels(image, (2, 2, 1), "crop") == 0).all()


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda x: x),
        (2, np.fliplr),
        (3, lambda x: np.rot90(x, 2)),
        (4, np.flipud),
        (5, np.transpose),
        (6, lambda x: np.rot90(x, 3)),
        (7, lambda x: np.rot90(x, 2).T),
        (8, np.rot90),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_an_image_is_turned_as_its_exif_data_say(suffix: str, orientation: int, turned: Any, tmp_path: Path) -> None:
    pixels = (20 * np.arange(12, dtype=np.uint8)).reshape(3, 4).repeat(8, 0).repeat(8, 1)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"webp": {"lossless": True}, "jpg": {"quality": 100}}.get(suffix, {})
    PIL.Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", exif=exif, **options)
    expected = turned(pixels)
    found = read_image(tmp_path / f"a.{suffix}", (*expected.shape, 1), "crop")
    assert np.abs(found[:, :, 0].astype(int) - expected).max() <= (6 if suffix == "jpg" else 0)


def test_a_jpeg_is_turned_as_its_xmp_data_say(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    PIL.Image.new("L", (4, 2)).save(tmp_path / "a.jpg", xmp=xmp)
    with PIL.Image.open(tmp_path / "a.jpg") as image:
        assert upright_size(image) == (4, 2)


def test_damaged_exif_data_do_not_cost_the_image(tmp_path: Path) -> None:
    PIL.Image.new("L", (3, 3), 9).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*nonsense")
    assert (read_image(tmp_path / "a.jpg", (3, 3, 1), "crop") == 9).all()


def halves(width: int, height: int) -> PIL.Image.Image:
    """Its middle third across is white, the rest is 100."""
    pixels = np.full((height, width), 100, dtype=np.uint8)
    pixels[:, width // 3 : 2 * width // 3] = 255
    return PIL.Image.fromarray(pixels)


def test_crop_keeps_the_middle_pad_all_on_black_and_stretch_all() -> None:
    wide = halves(60, 20)
    crop, pad, stretch = (
        fitted_pixels(wide, (20, 20, 1), fit)[:, :, 0]
        for fit in ("crop", "pad", "stretch")  # type: ignore[arg-type]
    )
    assert (crop == 255).all()
    assert (pad[:6] == 0).all() and (pad[14:] == 0).all()
    assert pad[10, 0] == 100 and pad[10, 10] == 255
    assert stretch[:, 0].tolist() == [100] * 20 and stretch[10, 10] == 255


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (1, 5000), (64, 64)])
def test_any_proportions_fit(size: tuple[int, int], fit: Fit) -> None:
    found = fitted_pixels(PIL.Image.new("RGB", size, RED), (64, 64, 3), fit)
    assert found.shape == (64, 64, 3) and {tuple(pixel) for pixel in found.reshape(-1, 3)} <= {RED, (0, 0, 0)}
    assert (found == RED).all(-1).sum() == (64 if fit == "pad" and max(size) == 5000 else 64 * 64)


def test_shrinking_averages_what_lies_between() -> None:
    stripes = PIL.Image.fromarray(np.tile(np.array([0, 255], dtype=np.uint8), (64, 32)))
    assert np.abs(fitted_pixels(stripes, (8, 8, 1), "crop").astype(int) - 127.5).max() < 6


def test_a_photo_of_a_hundred_megapixels_is_not_decoded(tmp_path: Path) -> None:
    PIL.Image.new("1", (8, 8)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    for side, error in ((20_000, PIL.Image.DecompressionBombError), (10_000, PIL.Image.DecompressionBombWarning)):
        struct.pack_into(">II", content, 16, side, side)
        struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(error):
            read_image(tmp_path / "a.png", (8, 8, 1), "crop")


@pytest.mark.parametrize("kept", [0, 10, 200])
def test_a_cut_off_file_is_unreadable(kept: int, tmp_path: Path) -> None:
    PIL.Image.effect_noise((64, 64), 90).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:kept])
    with pytest.raises(UNREADABLE):
        read_image(tmp_path / "a.jpg", (8, 8, 1), "crop")


def test_a_format_for_which_another_program_would_be_started_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(PIL.UnidentifiedImageError):
        read_image(tmp_path / "a.png", (8, 8, 3), "crop")
