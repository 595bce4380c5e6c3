"""Tests of cellclass_tf.microscopy.formats.compression, in TIFF and CZI files."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from pylibCZIrw import czi as library

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers
from cellclass_tf.microscopy.formats import compression

# Odd sizes, since codecs fill up the last block.
GREY = np.random.default_rng(0).integers(0, 4000, (61, 75)).astype(np.uint16)
COLOUR = np.random.default_rng(0).integers(0, 255, (61, 75, 3)).astype(np.uint8)
# Codecs make it smaller, so that it fits into the place of the pixels of a CZI.
SMOOTH = np.indices((61, 75)).sum(axis=0).astype(np.uint16) * 20 + GREY // 500


def write(path, kind, options, pixels):
    options = {"compression": kind, "compressionargs": options}
    photometric = "rgb" if pixels is COLOUR else "minisblack"
    tifffile.imwrite(path, pixels, photometric=photometric, **options)


def read(path, **options):
    (field,) = readers.read_micrographs(path, **options)
    return field.pixels


@pytest.mark.parametrize(
    ("kind", "options", "pixels", "name"),
    [
        ("jpeg2000", {"level": 30}, GREY, "JPEG 2000"),
        ("jpeg2000", {"level": 40}, COLOUR, "JPEG 2000"),
        ("jpegxr", {"level": 0.3}, GREY, "JPEG XR"),
        ("jpegxr", {"level": 0.99}, GREY, "JPEG XR"),
        ("jpegxr", {"level": 0.5}, COLOUR, "JPEG XR"),
        ("webp", {"level": 50, "lossless": False}, COLOUR, "WebP"),
        ("jpegxl", {"lossless": False, "distance": 8}, GREY, "JPEG XL"),
        ("lerc", {"level": 200}, GREY, "LERC"),
    ],
)
def test_lossy_compression_is_refused_unless_it_is_allowed(
    tmp_path, kind, options, pixels, name
):
    write(tmp_path / "a.tif", kind, options, pixels)
    with pytest.raises(InputError, match=f"compressed as {name}, which .*allow_lossy"):
        read(tmp_path / "a.tif")
    assert read(tmp_path / "a.tif", allow_lossy=True).shape[1:] == (61, 75)


@pytest.mark.parametrize(
    ("kind", "options", "pixels"),
    [
        ("jpeg2000", {}, GREY),
        ("jpeg2000", {}, COLOUR),
        ("jpegxr", {}, GREY),
        ("jpegxr", {}, COLOUR),
        ("webp", {"lossless": True}, COLOUR),
    ],
)
def test_lossless_kinds_of_the_same_compression_are_read(
    tmp_path, kind, options, pixels
):
    write(tmp_path / "a.tif", kind, options, pixels)
    expected = GREY[None] if pixels is GREY else np.moveaxis(COLOUR, -1, 0)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), expected)


def write_czi(path, codec, content):
    """Writes SMOOTH as a CZI, and replaces its pixels by compressed ones."""
    with library.create_czi(str(path)) as file:
        file.write(SMOOTH)
        file.write_metadata("x")
    data = bytearray(path.read_bytes())
    pixels = SMOOTH.tobytes()
    at = data.index(pixels)
    data[at : at + len(content)] = content
    # The entry of the list, and its copy in the sub-block, begin with 'DV'.
    block = data.rindex(b"ZISRAWSUBBLOCK", 0, at) + 32
    for entry in (block + 16, data.rindex(b"DV")):
        assert data[entry : entry + 2] == b"DV"
        data[entry + 18 : entry + 22] = codec.to_bytes(4, "little")
    assert int.from_bytes(data[block + 8 : block + 16], "little") == len(pixels)
    data[block + 8 : block + 16] = len(content).to_bytes(8, "little")
    path.write_bytes(data)


def test_lossless_jpeg_xr_in_a_czi_is_read(tmp_path):
    write_czi(tmp_path / "a.czi", 4, imagecodecs.jpegxr_encode(SMOOTH))
    np.testing.assert_array_equal(read(tmp_path / "a.czi"), [SMOOTH])


def test_lossy_jpeg_xr_in_a_czi_is_refused_unless_it_is_allowed(tmp_path):
    content = imagecodecs.jpegxr_encode(SMOOTH, level=0.5)
    write_czi(tmp_path / "a.czi", 4, content)
    with pytest.raises(InputError, match=r"compressed as JPEG XR, which .*allow_lossy"):
        read(tmp_path / "a.czi")
    found = read(tmp_path / "a.czi", allow_lossy=True)
    np.testing.assert_array_equal(found, [imagecodecs.jpegxr_decode(content)])


def test_jpeg_in_a_czi_is_refused(tmp_path):
    write_czi(tmp_path / "a.czi", 1, b"")
    with pytest.raises(InputError, match="compressed as JPEG, which"):
        read(tmp_path / "a.czi")


def test_a_broken_image_header_is_not_taken_for_lossless():
    for head in (b"", b"WMPHOTO\0", b"nothing of this kind" * 10):
        assert compression.jpeg_xr_loss(head) == "JPEG XR"
