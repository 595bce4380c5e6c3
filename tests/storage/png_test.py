"""Tests of cellclass_tf.storage.png."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cellclass_tf.errors import InputError
from cellclass_tf.storage import png


@pytest.mark.parametrize(
    "image",
    [
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000,
        np.arange(36, dtype=np.uint8).reshape(3, 4, 3),
    ],
)
def test_a_png_survives_a_round_trip(tmp_path, image):
    png.write_png(tmp_path / "a.png", image)
    back = png.read_png(tmp_path / "a.png")
    assert back.dtype == image.dtype
    np.testing.assert_array_equal(back, image)


def test_a_header_that_claims_too_many_pixels_is_rejected(tmp_path):
    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(header))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
    )
    with pytest.raises(InputError, match="200000 x 200000"):
        png.read_png(path)


def test_the_error_for_a_truncated_png_names_the_file(tmp_path):
    path = tmp_path / "a.png"
    png.write_png(path, np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"a\.png"):
        png.read_png(path)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("1", lambda grey, _: (grey > 127) * np.uint8(255)),
        ("LA", lambda grey, _: grey),
        ("RGBA", lambda _, colours: colours),
        ("P", lambda _, colours: colours),
    ],
)
def test_bits_palettes_and_alpha_become_grey_levels_and_colours(
    tmp_path, mode, expected
):
    rng = np.random.default_rng(0)
    grey = rng.choice(np.array([0, 255], np.uint8), (9, 14))
    colours = np.stack([grey, 255 - grey, grey], axis=-1)
    source = Image.fromarray(grey if mode in ("1", "LA") else colours)
    source.convert(mode, dither=Image.Dither.NONE).save(tmp_path / "a.png")
    read = png.read_png(tmp_path / "a.png")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, expected(grey, colours))


def test_a_view_of_an_image_is_written_like_a_copy(tmp_path):
    image = np.arange(96, dtype=np.uint8).reshape(4, 8, 3)
    for view in (image[:, ::2], image[..., ::-1], image[:, :3, 1].T):
        png.write_png(tmp_path / "a.png", view)
        np.testing.assert_array_equal(png.read_png(tmp_path / "a.png"), view)


def test_colours_of_16_bits_are_read_without_loss(tmp_path):
    import cv2

    image = np.arange(24, dtype=np.uint16).reshape(2, 4, 3) * 2500
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), image[..., ::-1])
    np.testing.assert_array_equal(png.read_png(path), image)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"deep\.png: the PNG cannot be decoded"):
        png.read_png(path)
