"""Tests of cellclass_tf.microscopy.files.channel_files."""

import pathlib

import numpy as np
import pytest
import tifffile

from cellclass_tf import errors
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy.files import channel_files
from cellclass_tf.storage import digests

GUID = "0D36C01F-0D36-4A29-9F5A-BE62B6F7F73F"


def group(*names, pattern=None):
    """Returns the sets as (name, channels), and the failures."""
    paths = sorted(pathlib.Path("raw") / name for name in names)
    found, failures, _ = channel_files.group(paths, pattern)
    return [(s.name, s.channels) for s in found], failures


def test_the_channel_files_of_metaxpress_are_one_field():
    names = ("P_E08_s2_w1.tif", "P_E08_s2_w2.tif", "P_E09_s1_w1.tif", "other.tif")
    found, failures = group(*names)
    assert not failures
    assert found == [
        ("P_E08_s2.tif", ("w1", "w2")),
        # A single file may hold all channels.
        ("P_E09_s1_w1.tif", ()),
        ("other.tif", ()),
    ]


def test_an_identifier_after_the_channel_does_not_split_a_field():
    found, _ = group(
        f"P_E08_s2_w1{GUID}.tif", f"P_E08_s2_w2{GUID.replace('C', '9')}.tif"
    )
    assert found == [("P_E08_s2.tif", ("w1", "w2"))]


def test_a_given_pattern_groups_channel_files():
    found, failures = group(
        "f1_ch-dapi.tif", "f1_ch-gfp.tif", "notes.tif", pattern=r"_ch-(?P<channel>\w+)"
    )
    assert found == [("f1.tif", ("dapi", "gfp"))]
    ((path, reason),) = failures.items()
    assert path == "raw/notes.tif"
    assert "matches nothing" in reason


def test_channels_that_other_sets_of_the_folder_have_are_known_to_be_missing():
    names = ["a/P_s1_w1.tif", "a/P_s1_w2.tif", "a/P_s1_w3.tif", "a/P_s2_w2.tif"]
    names += ["a/P_s2_w3.tif", "b/P_s1_w1.tif", "b/P_s1_w2.tif", "a/Q_w4.tif"]
    paths = sorted(pathlib.Path("raw") / name for name in names)
    found = {str(s.paths[0]): s.missing for s in channel_files.group(paths, None).sets}
    assert found == {
        "raw/a/P_s1_w1.tif": (),
        "raw/a/P_s2_w2.tif": ("w1",),
        "raw/b/P_s1_w1.tif": (),
        "raw/a/Q_w4.tif": (),
    }


def test_the_same_channel_twice_is_a_failure():
    found, failures = group(f"a_w1{GUID}.tif", "a_w1.tif", "a_w2.tif")
    assert found == [("a.tif", ("w1", "w2"))]
    assert "channel 'w1' of this field is also in" in next(iter(failures.values()))


def test_a_pattern_that_finds_too_many_channels_is_a_failure():
    names = [f"a_{number:02}.tif" for number in range(17)]
    found, failures = group(*names, "b_00.tif", pattern=r"_(?P<channel>\d+)")
    assert found == [("b_00.tif", ())]
    assert "17 files are channels of this field" in failures["raw/a.tif"]


@pytest.mark.parametrize("pattern", ["_w(", r"_w\d"])
def test_a_pattern_that_names_no_channel_is_refused(pattern):
    with pytest.raises(errors.InputError, match="--channel_files="):
        group("a.tif", pattern=pattern)


def test_a_set_is_read_as_one_field_with_a_channel_from_each_file(tmp_path):
    planes = np.arange(2 * 16 * 20, dtype=np.uint16).reshape(2, 16, 20)
    paths = [tmp_path / "a_w1.tif", tmp_path / "a_w2.tif"]
    for path, plane in zip(paths, planes, strict=True):
        tifffile.imwrite(path, plane)
    (field,) = channel_files.read(paths, ("w1", "w2"), projection="max")
    np.testing.assert_array_equal(field.pixels, planes)
    assert field.channel_names == ("w1", "w2")
    assert field.file == "|".join(map(str, paths))
    assert field.sha256 == "|".join(map(digests.sha256_of_file, paths))


@pytest.mark.parametrize("second", [(16, 24), (2, 3, 16, 20)])
def test_files_that_do_not_fit_together_are_refused(tmp_path, second):
    paths = [tmp_path / "a_w1.tif", tmp_path / "a_w2.tif"]
    tifffile.imwrite(paths[0], np.ones((16, 20), np.uint16))
    metadata = {"axes": "TCYX"} if len(second) == 4 else {}
    tifffile.imwrite(
        paths[1], np.ones(second, np.uint16), imagej=True, metadata=metadata
    )
    with pytest.raises(errors.InputError, match=r"a_w2.tif: expected one channel"):
        list(channel_files.read(paths, ("w1", "w2"), projection="max"))


def test_real_imagexpress_files_are_one_field_of_three_channels(assets):
    folder = assets / "microscope_files" / "imagexpress"
    (found,), _, _ = channel_files.group(sorted(folder.glob("*.tif")), None)
    assert found.channels == ("w1", "w2", "w3")
    assert found.name == "Projection-Mix_E08_s2.tif"
    (field,) = channel_files.read(found.paths, found.channels, projection="max")
    assert field.pixels.shape == (3, 512, 512)
    for plane, path in zip(field.pixels, found.paths, strict=True):
        np.testing.assert_array_equal(plane, tifffile.imread(path))
    assert field.emissions_nm == (536, 536, 536)


def write_colour(path, plane, places):
    picture = np.zeros((*plane.shape, 3), plane.dtype)
    picture[..., places] = plane[..., np.newaxis]
    tifffile.imwrite(path, picture, photometric="rgb")


def test_channels_saved_as_colour_pictures_are_one_field(tmp_path):
    planes = np.random.default_rng(0).integers(1, 255, (3, 20, 24), np.uint8)
    paths = [tmp_path / f"a_{name}.tif" for name in ("DAPI", "FITC", "grey")]
    for path, plane, places in zip(paths, planes, ([2], [1], [0, 1, 2]), strict=True):
        write_colour(path, plane, places)
    pattern = r"_(?P<channel>DAPI|FITC|grey)"
    (found,), _, _ = channel_files.group(paths, pattern)
    (field,) = channel_files.read(found.paths, found.channels, projection="max")
    np.testing.assert_array_equal(field.pixels, planes)
    assert field.channel_names == ("DAPI", "FITC", "grey")
    assert not field.is_rgb


def test_a_channel_of_several_colours_is_refused(tmp_path):
    planes = np.random.default_rng(0).integers(1, 255, (20, 24, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a_w1.tif", planes, photometric="rgb")
    write_colour(tmp_path / "a_w2.tif", planes[..., 0], [1])
    paths = [tmp_path / "a_w1.tif", tmp_path / "a_w2.tif"]
    with pytest.raises(
        InputError, match=r"a_w1\.tif: .* red and green and blue differ"
    ):
        list(channel_files.read(paths, ("w1", "w2"), projection="max"))


def write_stack(path, planes, size_um=None, stage=None):
    """Writes (Z, Y, X) planes of one channel."""
    metadata = {"axes": "ZYX"}
    if size_um:
        metadata |= {"PhysicalSizeX": size_um, "PhysicalSizeXUnit": "µm"}
    if stage:
        count = len(planes)
        x, y = ([value] * count for value in stage)
        units = {f"Position{axis}Unit": ["µm"] * count for axis in "XY"}
        metadata["Plane"] = {"PositionX": x, "PositionY": y, **units}
    tifffile.imwrite(path, planes, ome=True, metadata=metadata)


@pytest.mark.parametrize(
    ("sizes", "expected", "problem"),
    [
        ((None, 0.3), 0.3, ""),
        ((0.3, None), 0.3, ""),
        ((0.3, 0.301), 0.3, ""),
        ((0.3, 0.6), None, "the files of one field say 0.3 µm and 0.6 µm"),
        ((None, 300.0), None, "300 µm, which no light microscope has"),
        ((300.0, 0.3), 0.3, ""),
        ((None, None), None, ""),
    ],
)
def test_the_pixel_size_of_a_set_is_that_of_all_its_files(
    tmp_path, sizes, expected, problem
):
    paths = [tmp_path / "a_w1.ome.tif", tmp_path / "a_w2.ome.tif"]
    for path, size in zip(paths, sizes, strict=True):
        write_stack(path, np.ones((1, 16, 20), np.uint16), size)
    (field,) = channel_files.read(paths, ("w1", "w2"), projection="max")
    assert field.pixel_size_um == expected
    assert field.pixel_size_problem.startswith(problem)
    assert bool(field.pixel_size_problem) == bool(problem)


def test_the_stage_and_the_planes_of_a_set_are_those_of_all_its_files(tmp_path):
    planes = np.full((3, 16, 20), 100, np.uint16)
    planes[:, ::2] = np.array([110, 120, 130])[:, None, None]
    paths = [tmp_path / "a_w1.ome.tif", tmp_path / "a_w2.ome.tif"]
    write_stack(paths[0], planes)
    write_stack(paths[1], planes[::-1], stage=(3.0, 4.0))
    (field,) = channel_files.read(paths, ("w1", "w2"), projection="best")
    assert field.z == "best:2|best:0"
    assert field.stage_um == (3.0, 4.0)
    (field,) = channel_files.read(paths, ("w1", "w2"), projection="max")
    assert field.z == "max"
