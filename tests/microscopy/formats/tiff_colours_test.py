"""Tests of cellclass_tf.microscopy.formats.tiff_colours."""

import numpy as np
import PIL.Image
import pytest
import tifffile

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers

# Four samples per pixel.
SAMPLES = np.random.default_rng(0).integers(0, 200, (20, 24, 4), np.uint16)
GREY = SAMPLES[..., 0]


def read(path, pixels, **options):
    tifffile.imwrite(path, pixels, **{"metadata": None} | options)
    return readers.read_micrograph(path)


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_grey_samples_are_channels_and_no_colours(tmp_path, count, planar):
    expected = np.moveaxis(SAMPLES[..., :count], -1, 0)
    pixels = SAMPLES[..., :count] if planar == "contig" else expected
    options = {"photometric": "minisblack", "planarconfig": planar}
    field = read(tmp_path / "a.tif", pixels, **options)
    assert not field.is_rgb
    assert field.channel_names == ("",) * count
    np.testing.assert_array_equal(field.pixels, expected)


def test_transparency_is_not_a_channel(tmp_path):
    options = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    field = read(tmp_path / "a.tif", SAMPLES, **options)
    assert field.is_rgb
    np.testing.assert_array_equal(field.pixels, np.moveaxis(SAMPLES[..., :3], -1, 0))


def test_a_fourth_sample_of_unknown_meaning_is_not_dropped(tmp_path):
    options = {"photometric": "rgb", "extrasamples": ["unspecified"]}
    field = read(tmp_path / "a.tif", SAMPLES, **options)
    assert not field.is_rgb
    assert field.channel_names == ("",) * 4
    np.testing.assert_array_equal(field.pixels, np.moveaxis(SAMPLES, -1, 0))


@pytest.mark.parametrize(
    ("mode", "told"), [("CMYK", "CMYK"), ("YCbCr", "YCbCr"), ("LAB", "CIE L")]
)
def test_other_colours_than_red_green_and_blue_are_refused(tmp_path, mode, told):
    count = len(PIL.Image.new(mode, (1, 1)).getbands())
    pixels = SAMPLES[..., :count].astype(np.uint8)
    PIL.Image.fromarray(pixels, mode).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=rf"a\.tif: the pixels are {told}.*; expected"):
        readers.read_micrograph(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_in_which_zero_is_white_are_inverted(tmp_path, dtype):
    top = np.iinfo(dtype).max
    pixels = np.moveaxis(SAMPLES[..., :2], -1, 0).astype(dtype)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for plane in top - pixels:
            file.write(plane, photometric="miniswhite", metadata=None, contiguous=False)
    (field,) = readers.read_micrographs(tmp_path / "a.tif")
    np.testing.assert_array_equal(field.pixels, pixels)
    assert field.pixels.dtype == dtype


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_zero_is_white_in_other_types_of_pixels_is_refused(tmp_path, dtype):
    pixels = (4095 - GREY).astype(dtype)
    with pytest.raises(
        InputError, match=f"0 means white, and the pixels are {dtype.__name__}"
    ):
        read(tmp_path / "a.tif", pixels, photometric="miniswhite")


def test_without_an_entry_of_the_meaning_zero_is_black(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite", metadata=None)
    # The entry is the number 262, of type 3 (SHORT), once.
    entry = b"\x06\x01\x03\x00\x01\x00\x00\x00"
    content = (tmp_path / "a.tif").read_bytes()
    assert content.count(entry) == 1
    private = b"\xf0\xff" + entry[2:]
    (tmp_path / "a.tif").write_bytes(content.replace(entry, private))
    field = readers.read_micrograph(tmp_path / "a.tif")
    np.testing.assert_array_equal(field.pixels[0], GREY)


def test_grey_values_of_inverted_imagej_images_are_kept(tmp_path):
    pixels = np.moveaxis(SAMPLES[..., :2], -1, 0)
    options = {"imagej": True, "metadata": {"axes": "CYX"}}
    field = read(tmp_path / "a.tif", pixels, photometric="miniswhite", **options)
    np.testing.assert_array_equal(field.pixels, pixels)


def colour_map(order):
    """Returns a map whose colours get brighter in this order, with marks at its ends."""
    colours = np.zeros((3, 256), np.uint16)
    # A green look-up table.
    colours[1] = np.asarray(order) * 257
    # Pixels without light are blue, and saturated ones red.
    colours[:, 0], colours[:, -1] = (0, 0, 65535), (65535, 0, 0)
    return colours


def test_indexed_colours_are_grey_values_only_if_higher_ones_are_brighter(tmp_path):
    pixels = GREY.astype(np.uint8)
    options = {"photometric": "palette", "colormap": colour_map(range(256))}
    field = read(tmp_path / "a.tif", pixels, **options)
    np.testing.assert_array_equal(field.pixels[0], pixels)
    order = np.random.default_rng(0).permutation(256)
    options["colormap"] = colour_map(order)
    with pytest.raises(InputError, match="numbers of colours in a colour map"):
        read(tmp_path / "a.tif", pixels, **options)
