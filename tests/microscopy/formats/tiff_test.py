"""Tests of cellclass_tf.microscopy.formats.tiff."""

import struct

import numpy as np
import pytest
import tifffile

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import channels, readers
from cellclass_tf.microscopy.formats import tiff
from cellclass_tf.storage import digests

# (T, Z, C, Y, X); every plane is constant and different.
STACK = np.broadcast_to(
    np.arange(12, dtype=np.uint16).reshape(2, 3, 2, 1, 1) * 10, (2, 3, 2, 16, 18)
).copy()


def write_ome(path, pixels=STACK, axes="TZCYX", **options):
    metadata = {
        "axes": axes,
        "Channel": {"Name": ["DAPI", "GFP"], "EmissionWavelength": [460.0, 0.0]},
        "PhysicalSizeX": 250.0,
        "PhysicalSizeXUnit": "nm",
    }
    options = {"photometric": "minisblack"} | options
    tifffile.imwrite(path, pixels, ome=True, metadata=metadata, **options)


@pytest.mark.parametrize("axes", ["TZCYX", "CZTYX", "ZTCYX"])
def test_planes_are_found_by_the_names_of_the_axes(tmp_path, axes):
    shape = [{"T": 2, "Z": 3, "C": 2, "Y": 16, "X": 18}[axis] for axis in axes]
    pixels = np.random.default_rng(0).integers(0, 4000, shape, np.uint16)
    write_ome(tmp_path / "a.ome.tif", pixels, axes)
    expected = pixels.transpose([axes.index(axis) for axis in "TZCYX"])
    for scene in tiff.FORMAT.scenes(tmp_path / "a.ome.tif"):
        for index in np.ndindex(2, 3, 2):
            np.testing.assert_array_equal(scene.read(*index), expected[index])


def test_a_stack_in_one_page_is_read_too(tmp_path):
    # Samples that lie beside each other are one page of all planes for tifffile.
    write_ome(tmp_path / "a.ome.tif", STACK, tile=(16, 16), compression="zlib")
    for scene in tiff.FORMAT.scenes(tmp_path / "a.ome.tif"):
        for index in np.ndindex(2, 3, 2):
            np.testing.assert_array_equal(scene.read(*index), STACK[index])


def test_pages_of_unknown_meaning_are_refused(tmp_path):
    pages = np.zeros((5, 32, 32), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pages, metadata=None, photometric="minisblack")
    with pytest.raises(InputError, match=r"a\.tif: the axes .YX .5, 32, 32. are not"):
        readers.read_micrograph(tmp_path / "a.tif")


def test_colours_of_a_tiff_are_channels(tmp_path):
    image = (np.arange(16 * 20 * 3) % 256).astype(np.uint8).reshape(16, 20, 3)
    for planar in ("contig", "separate"):
        pixels = image if planar == "contig" else np.moveaxis(image, -1, 0)
        tifffile.imwrite(
            tmp_path / "a.tif", pixels, photometric="rgb", planarconfig=planar
        )
        field = readers.read_micrograph(tmp_path / "a.tif")
        assert field.is_rgb
        assert field.channel_names == ("red", "green", "blue")
        np.testing.assert_array_equal(field.pixels, np.moveaxis(image, -1, 0))


def test_the_error_for_a_truncated_tiff_names_it(tmp_path):
    noise = np.random.default_rng(0).integers(0, 4000, (2, 64, 64), np.uint16)
    path = tmp_path / "a.ome.tif"
    write_ome(path, noise, "CYX")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"a\.ome\.tif.*truncated"):
        next(readers.read_micrographs(path))


def lsm(path, pixels, voxel_m, height_m=None):
    """Writes a Zeiss LSM, with a thumbnail after each image and sizes in a tag."""
    depth, count, height, width = pixels.shape
    info = struct.pack("<I9i", 0x0400494C, 512, width, height, depth, count, 1, 2, 8, 8)
    info += struct.pack("<6d", voxel_m, height_m or voxel_m, 1e-6, 0, 0, 0)
    info += bytes(512 - len(info))
    with tifffile.TiffWriter(path) as file:
        for z in range(depth):
            file.write(
                pixels[z],
                photometric="minisblack",
                planarconfig="separate",
                metadata=None,
                extratags=[(34412, 1, len(info), info, True)] if z == 0 else (),
            )
            thumbnail = np.zeros((3, 8, 8), np.uint8)
            file.write(
                thumbnail,
                photometric="rgb",
                planarconfig="separate",
                subfiletype=1,
                metadata=None,
            )


def test_an_lsm_file_is_read_without_its_thumbnails(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4000, (3, 3, 32, 40), np.uint16)
    lsm(tmp_path / "a.lsm", pixels, 0.25e-6)
    (field,) = readers.read_micrographs(tmp_path / "a.lsm")
    np.testing.assert_array_equal(field.pixels, pixels.max(axis=0))
    assert field.pixel_size_um == pytest.approx(0.25)


def test_a_real_stk_file_is_read_plane_by_plane(assets):
    path = assets / "microscope_files" / "stk" / "test.stk"
    # Five planes of 64 x 64 px begin after the first 8 bytes.
    stored = np.fromfile(path, "<u2", 5 * 64 * 64, offset=8).reshape(5, 64, 64)
    for scene in tiff.FORMAT.scenes(path):
        assert scene.size_tzc == (1, 5, 1)
        for z in range(5):
            np.testing.assert_array_equal(scene.read(0, z, 0), stored[z])
    field = readers.read_micrograph(path)
    assert field.channel_names == ("Laser4054BD4BP",)
    assert field.emissions_nm == (450,)
    assert field.pixel_size_um == pytest.approx(3.6260623)


def test_a_real_photograph_is_colour(assets):
    # A photograph exported by Nikon Camera Control, whose red channel is not empty.
    path = assets / "microscope_files" / "tif" / "NikonTIF.tif"
    (field,) = readers.read_micrographs(path)
    assert field.is_rgb
    assert field.pixels[0].any()
    assert field.sha256 == digests.sha256_of_file(path)


@pytest.mark.parametrize("count", [2, 4])
def test_a_few_pages_without_description_are_channels(tmp_path, count):
    pixels = np.random.default_rng(0).integers(0, 4000, (count, 20, 24), np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for plane in pixels:
            file.write(plane, metadata=None, contiguous=False)
    (field,) = readers.read_micrographs(tmp_path / "a.tif")
    np.testing.assert_array_equal(field.pixels, pixels)
    assert field.channel_names == ("",) * count


def test_many_pages_without_description_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for _ in range(5):
            file.write(np.ones((20, 24), np.uint16), metadata=None, contiguous=False)
    with pytest.raises(InputError, match="up to 4 grey pages without a description"):
        list(readers.read_micrographs(tmp_path / "a.tif"))


def test_a_colour_picture_in_a_file_with_fields_is_left_out(tmp_path):
    fields = np.random.default_rng(0).integers(0, 4000, (2, 2, 20, 24), np.uint16)
    label = np.random.default_rng(1).integers(0, 255, (40, 30, 3), np.uint8)
    names = {"Channel": {"Name": ["DAPI", "GFP"]}}
    for order in ("first", "last", "between"):
        path = tmp_path / f"{order}.ome.tif"
        with tifffile.TiffWriter(path, ome=True) as file:
            for n in range(3):
                if n == ("first", "between", "last").index(order):
                    file.write(label, photometric="rgb", metadata={"Name": "label"})
                else:
                    plane = fields[n % 2]
                    metadata = {"axes": "CYX"} | names
                    file.write(plane, photometric="minisblack", metadata=metadata)
        found = list(readers.read_micrographs(path))
        assert len(found) == 2
        assert not any(field.is_rgb for field in found)
        place = ("first", "between", "last").index(order)
        assert readers.colour_scenes(path) == (f"{place} (label)",)
        assert [field.scene for field in found] == [n for n in range(3) if n != place]


def test_a_colour_picture_alone_is_a_field(tmp_path):
    picture = np.random.default_rng(1).integers(0, 255, (40, 30, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb")
    (found,) = readers.read_micrographs(tmp_path / "a.tif")
    assert found.is_rgb
    assert readers.colour_scenes(tmp_path / "a.tif") == ()


def test_colour_pictures_on_pages_are_not_channels(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 255, (3, 20, 24, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for picture in pictures:
            file.write(picture, photometric="rgb", metadata=None, contiguous=False)
    with pytest.raises(InputError, match=r"YXS .3, 20, 24, 3.*a file each"):
        readers.read_micrograph(tmp_path / "a.tif")


def test_the_colours_of_a_channel_share_its_name(tmp_path):
    path, names = tmp_path / "a.ome.tif", {"Channel": {"Name": ["DAPI", "GFP"]}}
    pictures = np.random.default_rng(0).integers(0, 255, (2, 20, 24, 3), np.uint8)
    tifffile.imwrite(
        path, pictures, photometric="rgb", metadata={"axes": "CYXS"} | names
    )
    (field,) = readers.read_micrographs(path)
    colours = ("red", "green", "blue")
    expected = tuple(f"{name} {c}" for name in ("DAPI", "GFP") for c in colours)
    assert field.channel_names == expected
    assert not field.is_rgb
    np.testing.assert_array_equal(
        field.pixels, np.moveaxis(pictures, -1, 1).reshape(6, 20, 24)
    )
    with pytest.raises(InputError, match="which channel is which"):
        channels.choose_channels(field)
