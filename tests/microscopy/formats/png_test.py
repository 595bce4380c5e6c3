"""Tests of cellclass_tf.microscopy.formats.png."""

import numpy as np
import pytest
from PIL import Image

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers
from cellclass_tf.microscopy.formats import base
from cellclass_tf.microscopy.formats.png import FORMAT


def scene_of(path):
    (scene,) = FORMAT.scenes(path)
    return scene


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_picture_is_one_channel_without_a_name(tmp_path, dtype):
    pixels = np.arange(12 * 20).astype(dtype).reshape(12, 20) * 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    scene = scene_of(tmp_path / "a.png")
    assert (scene.size_tzc, scene.size_yx) == ((1, 1, 1), (12, 20))
    assert scene.channels == (base.Channel(),)
    assert not scene.is_rgb
    plane = scene.read(0, 0, 0)
    assert plane.dtype == dtype
    np.testing.assert_array_equal(plane, pixels)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_colour_picture_is_red_green_and_blue(tmp_path, channels):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 7, channels), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    scene = scene_of(tmp_path / "a.png")
    assert scene.size_tzc == (1, 1, 3)
    assert scene.is_rgb
    assert [channel.name for channel in scene.channels] == ["red", "green", "blue"]
    # What is transparent is no channel.
    for c in range(3):
        np.testing.assert_array_equal(scene.read(0, 0, c), pixels[..., c])


def test_a_png_is_recognized_by_its_first_bytes_and_not_its_name(tmp_path):
    Image.fromarray(np.zeros((6, 7), np.uint8)).save(tmp_path / "a.png")
    head = (tmp_path / "a.png").read_bytes()[:64]
    assert FORMAT.claims(tmp_path / "a.tif", head)
    assert not FORMAT.claims(tmp_path / "a.png", b"II*\0" + head)
    assert not FORMAT.claims(tmp_path / "a.png", b"")


def test_a_png_that_ends_early_is_refused_by_its_name(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (60, 70), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"a\.png: the PNG cannot be decoded"):
        scene_of(path)


def test_a_field_says_that_it_is_read_by_pillow_and_has_no_pixel_size(tmp_path):
    Image.fromarray(np.zeros((16, 20), np.uint8)).save(tmp_path / "a.png")
    field = readers.read_micrograph(tmp_path / "a.png")
    assert field.reader.startswith("pillow ")
    assert (field.pixel_size_um, field.z, field.channel_names) == (None, "", ("",))
