"""Tests of cellclass_tf.microscopy.formats.czi."""

import struct
import subprocess
import sys

import numpy as np
import pytest
from pylibCZIrw import czi as library

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers
from cellclass_tf.microscopy.formats import czi

MOSAIC = "S3_1Pos_2Mosaic_T2_Z3_CH2_sm.czi"


@pytest.fixture
def folder(assets):
    return assets / "microscope_files" / "czi"


def stored_tiles(path):
    """Reads uncompressed 16-bit sub-blocks without the library, by (S, M, T, Z, C).

    A segment is a header of 32 bytes, the sizes of what follows (metadata, attachment,
    data), an entry of 32 bytes and 20 a dimension, all of it filled to 256 bytes, the
    metadata and the pixels.
    """
    content, tiles, at = path.read_bytes(), {}, 0
    while (at := content.find(b"ZISRAWSUBBLOCK", at + 1)) > 0:
        metadata, _, size = struct.unpack_from("<iiq", content, at + 32)
        (count,) = struct.unpack_from("<i", content, at + 48 + 28)
        dims = {}
        for d in range(count):
            entry = struct.unpack_from("<4siifi", content, at + 80 + 20 * d)
            dims[entry[0].rstrip(b"\0").decode()] = entry[1:3]
        start = at + 32 + max(256, 48 + 20 * count) + metadata
        shape = dims["Y"][1], dims["X"][1]
        pixels = np.frombuffer(content[start : start + size], "<u2").reshape(shape)
        tiles[tuple(dims.get(d, (0,))[0] for d in "SMTZC")] = pixels, dims
    return tiles


def test_every_plane_is_read_as_stored(folder):
    path = folder / "CellDivision_T3_Z5_CH2_X240_Y170.czi"
    stored = stored_tiles(path)
    for scene in czi.FORMAT.scenes(path):
        assert scene.size_tzc == (3, 5, 2)
        for index in np.ndindex(3, 5, 2):
            np.testing.assert_array_equal(scene.read(*index), stored[(0, 0, *index)][0])


def test_a_compressed_file_has_the_same_pixels(folder):
    names = ("", "_comp1")
    fields = [
        list(
            readers.read_micrographs(
                folder / f"CellDivision_T3_Z5_CH2_X240_Y170{n}.czi"
            )
        )
        for n in names
    ]
    for plain, compressed in zip(*fields, strict=True):
        np.testing.assert_array_equal(plain.pixels, compressed.pixels)
    # It was stored again without its metadata; a pixel size of 0 m is ignored.
    assert fields[1][0].pixel_size_um is None
    assert fields[1][0].channel_names == ("", "")


def test_names_include_the_dye_of_channels_named_after_their_lamp(folder):
    field = readers.read_micrograph(folder / "CellDivision_T3_Z5_CH2_X240_Y170.czi")
    assert field.channel_names == ("LED555 Alexa Fluor 555", "LED470 Alexa Fluor 488")
    assert field.emissions_nm == (568, 517)
    assert field.pixel_size_um == pytest.approx(0.0905767, rel=1e-5)


def test_each_tile_is_a_field_of_its_own(folder):
    fields = list(readers.read_micrographs(folder / MOSAIC, projection="max"))
    # Scenes of 10, 1 and 17 tiles at two time points.
    names = [field.scene_name for field in fields[::2]]
    assert names == (
        [f"TR1 tile {i}" for i in range(10)]
        + ["P1"]
        + [f"TR2 tile {i}" for i in range(17)]
    )
    assert [field.scene for field in fields] == [i // 2 for i in range(56)]
    assert [field.time for field in fields] == [0, 1] * 28
    assert {field.channel_names for field in fields} == {("DAPI", "EGFP")}
    assert fields[0].emissions_nm == (465, 509)
    assert fields[0].pixel_size_um == pytest.approx(1.6)


def test_a_tile_has_its_own_pixels_except_where_a_later_one_overlaps(folder):
    stored = stored_tiles(folder / MOSAIC)
    keys = sorted({key[:2] for key in stored})
    shared = 0
    for scene, (s, m) in zip(czi.FORMAT.scenes(folder / MOSAIC), keys, strict=True):
        for index in np.ndindex(scene.size_tzc):
            own, dims = stored[(s, m, *index)]
            covered = np.zeros(own.shape, bool)
            for other in (key for key in keys if key[0] == s and key[1] > m):
                theirs = stored[(*other, *index)][1]
                dy, dx = (theirs[axis][0] - dims[axis][0] for axis in "YX")
                if abs(dy) < 64 and abs(dx) < 64:
                    covered[
                        max(dy, 0) : min(64 + dy, 64), max(dx, 0) : min(64 + dx, 64)
                    ] = True
            read = scene.read(*index)
            np.testing.assert_array_equal(read[~covered], own[~covered])
            shared += covered.mean()
    # 57 of 64 pixels are between two tiles, so that about a tenth is shared each way.
    assert 0.05 < shared / len(stored) < 0.2


def test_scenes_far_apart_are_read_without_the_gap_between_them(folder):
    fields = list(readers.read_micrographs(folder / "WellD6-7_S2.czi"))
    assert [field.scene_name for field in fields] == ["D6", "D7"]
    with library.open_czi(str(folder / "WellD6-7_S2.czi")) as file:
        for number, field in enumerate(fields):
            whole = file.read(scene=number)[..., 0]
            np.testing.assert_array_equal(field.pixels[0], whole)
            assert field.pixels[0].std() > 0


def write(path, planes, **options):
    """Writes planes {(t, z, c): pixels}."""
    with library.create_czi(str(path)) as file:
        for (t, z, c), pixels in planes.items():
            file.write(pixels, plane={"T": t, "Z": z, "C": c})
        file.write_metadata("x", **options)


def grey(value):
    return np.full((32, 40), value, np.uint16)


def test_a_written_file_keeps_names_and_pixel_size(tmp_path):
    planes = {(t, z, c): grey(100 * t + 10 * z + c) for t, z, c in np.ndindex(2, 3, 2)}
    write(
        tmp_path / "a.czi",
        planes,
        channel_names={0: "DAPI", 1: "GFP"},
        scale_x=2.5e-7,
    )
    fields = list(readers.read_micrographs(tmp_path / "a.czi"))
    assert [f.pixels[:, 0, 0].tolist() for f in fields] == [[20, 21], [120, 121]]
    assert fields[0].channel_names == ("DAPI", "GFP")
    assert fields[0].pixel_size_um == pytest.approx(0.25)


def test_pixels_that_are_not_square_are_reported(tmp_path):
    planes = {(0, 0, c): grey(c) for c in (0, 1)}
    write(tmp_path / "a.czi", planes, scale_x=2.5e-7, scale_y=5e-7)
    (field,) = readers.read_micrographs(tmp_path / "a.czi")
    assert field.pixel_size_um is None
    assert field.pixel_size_problem == "0.25 x 0.5 µm, pixels that are not square"


def test_a_colour_picture_has_red_first(tmp_path):
    # The writer takes blue, green and red.
    picture = np.zeros((32, 40, 3), np.uint8) + np.array([30, 20, 10], np.uint8)
    write(tmp_path / "a.czi", {(0, 0, 0): picture})
    field = readers.read_micrograph(tmp_path / "a.czi")
    assert field.is_rgb
    assert field.channel_names == ("red", "green", "blue")
    assert field.pixels[:, 0, 0].tolist() == [10, 20, 30]


def test_missing_planes_are_reported(tmp_path):
    planes = {index: grey(5) for index in np.ndindex(3, 1, 2)}
    del planes[2, 0, 1]
    write(tmp_path / "a.czi", planes)
    with pytest.raises(InputError, match=r"a\.czi.*5 planes; 6 are needed"):
        readers.read_micrograph(tmp_path / "a.czi")


def test_channels_of_different_kinds_are_refused(tmp_path):
    planes = {(0, 0, 0): grey(5)}
    planes[0, 0, 1] = np.zeros((32, 40, 3), np.uint8)
    write(tmp_path / "a.czi", planes)
    with pytest.raises(InputError, match="2 channels of Bgr24, Gray16 pixels"):
        readers.read_micrograph(tmp_path / "a.czi")


def test_views_and_phases_are_refused():
    where = [{"C": 0, "H": phase} for phase in range(3)]
    with pytest.raises(InputError, match=r"a\.czi: 3 images along the axis H"):
        czi._check_axes("a.czi", where)


def test_a_count_that_would_crash_the_library_is_refused(folder, tmp_path):
    content = bytearray((folder / "nuc_small.czi").read_bytes())
    (directory,) = struct.unpack_from("<q", content, 84)
    # The number of dimensions of the first entry.
    content[directory + 160 + 28] = 122
    (tmp_path / "a.czi").write_bytes(content)
    code = "import sys; from cellclass_tf.microscopy import readers\n"
    code += "try: list(readers.read_micrographs(sys.argv[1]))\n"
    code += "except readers.InputError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.czi")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "a.czi: the CZI is broken" in done.stdout


def test_tiles_have_their_places_in_the_mosaic(folder):
    found = [scene.stage_um for scene in czi.FORMAT.scenes(folder / MOSAIC)]
    stored = stored_tiles(folder / MOSAIC)
    for place, key in zip(found, sorted({key[:2] for key in stored}), strict=True):
        dims = stored[(*key, 0, 0, 0)][1]
        assert place == pytest.approx((1.6 * dims["X"][0], 1.6 * dims["Y"][0]))
    # Without a pixel size the places in pixels say nothing.
    (scene, *_) = czi.FORMAT.scenes(
        folder / "CellDivision_T3_Z5_CH2_X240_Y170_comp1.czi"
    )
    assert scene.stage_um is None
