"""Tests of cellclass_tf.microscopy.formats.tiff_metadata."""

import numpy as np
import pytest
import tifffile

from cellclass_tf.microscopy import readers
from tests import tiles
from tests.microscopy.formats.tiff_test import STACK, lsm, write_ome


def test_ome_tiff_gives_names_emission_and_pixel_size(tmp_path):
    write_ome(tmp_path / "a.ome.tif")
    field = readers.read_micrograph(tmp_path / "a.ome.tif", time=1)
    assert field.channel_names == ("DAPI", "GFP")
    # 0 nm means that no emission is recorded.
    assert field.emissions_nm == (460, None)
    assert field.pixel_size_um == 0.25


def test_imagej_hyperstack_gives_labels_and_pixel_size(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        STACK[0, 0],
        imagej=True,
        resolution=(4.0, 4.0),
        metadata={"axes": "CYX", "unit": "um", "Labels": ["nuclei", "actin"]},
    )
    field = readers.read_micrograph(tmp_path / "a.tif")
    assert field.channel_names == ("nuclei", "actin")
    assert field.pixel_size_um == pytest.approx(0.25)


def write_not_square(path):
    """Writes pixels of 0.3 x 0.6 µm in the format that the name says."""
    pixels = np.zeros((2, 32, 40), np.uint16)
    if path.name == "ome.tif":
        sizes = {"PhysicalSizeX": 0.3, "PhysicalSizeY": 600.0}
        metadata = {"axes": "CYX", "PhysicalSizeYUnit": "nm"} | sizes
        tifffile.imwrite(path, pixels, ome=True, metadata=metadata)
    elif path.name == "imagej.tif":
        options = {"resolution": (1 / 0.3, 1 / 0.6), "imagej": True}
        tifffile.imwrite(
            path, pixels, metadata={"axes": "CYX", "unit": "um"}, **options
        )
    elif path.name == "imagej_units.tif":
        options = {"resolution": (1 / 0.3, 1 / 600), "imagej": True}
        metadata = {"axes": "CYX", "unit": "um", "yunit": "nm"}
        tifffile.imwrite(path, pixels, metadata=metadata, **options)
    else:
        lsm(path, np.zeros((3, 3, 32, 40), np.uint16), 0.3e-6, 0.6e-6)


@pytest.mark.parametrize("name", ["ome.tif", "imagej.tif", "imagej_units.tif", "a.lsm"])
def test_pixels_that_are_not_square_are_reported(tmp_path, name):
    write_not_square(tmp_path / name)
    field = readers.read_micrograph(tmp_path / name)
    assert field.pixel_size_um is None
    assert field.pixel_size_problem == "0.3 x 0.6 µm, pixels that are not square"


@pytest.mark.parametrize(
    ("place", "attribute", "key"),
    [
        ("stk/test.stk", "stk_metadata", "YCalibration"),
        ("imagexpress/*w1*.tif", "metaseries_metadata", "spatial-calibration-y"),
    ],
)
def test_pixels_of_metamorph_that_are_not_square_are_reported(
    assets, monkeypatch, place, attribute, key
):
    (path,) = (assets / "microscope_files").glob(place)
    with tifffile.TiffFile(path) as file:
        metadata = dict(getattr(file, attribute))
    holder = metadata.get("PlaneInfo", metadata)
    assert key in holder
    holder[key] = 9.0
    monkeypatch.setattr(tifffile.TiffFile, attribute, metadata)
    field = readers.read_micrograph(path)
    assert field.pixel_size_um is None
    assert field.pixel_size_problem.endswith(" x 9 µm, pixels that are not square")


def test_a_print_resolution_is_not_a_pixel_size(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", STACK[0, 0, 0], resolution=(72, 72), resolutionunit=2
    )
    assert readers.read_micrograph(tmp_path / "a.tif").pixel_size_um is None


@pytest.mark.parametrize(("dots", "unit"), [(600, "inch"), (1200 / 2.54, "cm")])
def test_a_print_resolution_that_imagej_kept_is_not_a_pixel_size(tmp_path, dots, unit):
    options = {"imagej": True, "metadata": {"axes": "CYX", "unit": unit}}
    tifffile.imwrite(
        tmp_path / "a.tif", STACK[0, 0], resolution=(dots, dots), **options
    )
    field = readers.read_micrograph(tmp_path / "a.tif")
    assert field.pixel_size_um is None
    assert "dots per inch, which is a resolution" in field.pixel_size_problem


@pytest.mark.parametrize("lost", ["SpatialCalibration", "XCalibration"])
def test_an_stk_without_calibration_has_no_pixel_size(assets, monkeypatch, lost):
    path = assets / "microscope_files" / "stk" / "test.stk"
    with tifffile.TiffFile(path) as file:
        metadata = dict(file.stk_metadata)
    del metadata[lost]
    metadata |= {"PlaneProperty": [], "Name": "DAPI", "wavelength": 0}
    monkeypatch.setattr(tifffile.TiffFile, "stk_metadata", metadata)
    field = readers.read_micrograph(path)
    assert field.pixel_size_um is None
    assert (field.channel_names, field.emissions_nm) == (("DAPI",), (None,))


def test_a_real_file_of_metaxpress_is_one_channel(assets):
    for path in sorted((assets / "microscope_files" / "imagexpress").glob("*.tif")):
        (field,) = readers.read_micrographs(path)
        np.testing.assert_array_equal(field.pixels[0], tifffile.imread(path))
        assert field.channel_names == ("FITC_05",)
        assert field.emissions_nm == (536,)
        assert field.pixel_size_um == 1.3668


def test_the_dye_of_an_ome_channel_names_it(tmp_path):
    metadata = {
        "axes": "CYX",
        "Channel": [{"Fluor": "DAPI"}, {"Name": "Channel 1", "Fluor": "GFP"}],
    }
    options = {"ome": True, "photometric": "minisblack"}
    pixels = np.zeros((2, 20, 24), np.uint16)
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata=metadata, **options)
    description = tifffile.TiffFile(tmp_path / "a.ome.tif").ome_metadata
    if "Fluor" not in description:
        # tifffile writes some attributes alone.
        for name, dye in (('Channel ID="Channel:0:0"', "DAPI"), ('"Channel 1"', "GFP")):
            description = description.replace(name, f'{name} Fluor="{dye}"', 1)
        tifffile.tiffcomment(tmp_path / "a.ome.tif", description.encode())
    (field,) = readers.read_micrographs(tmp_path / "a.ome.tif")
    assert field.channel_names == ("DAPI", "Channel 1 GFP")


def test_the_position_of_the_stage_is_that_of_the_first_plane_that_has_one(tmp_path):
    pixels = np.zeros((1, 2, 32, 40), np.uint16)
    scenes = [(pixels, (1500.0, -20.0)), (pixels, None), (pixels, (float("nan"), 1.0))]
    path = tiles.write_ome(tmp_path / "a.ome.tif", scenes)
    found = [field.stage_um for field in readers.read_micrographs(path)]
    assert found == [pytest.approx((1500, -20)), None, None]
    # Some programs describe planes without a position first.
    with tifffile.TiffFile(path) as file:
        xml = file.ome_metadata
    first = '<Plane TheC="0"'
    assert first in xml
    xml = xml.replace(first, f'<Plane TheZ="0" TheT="0" TheC="9"/>{first}', 1)
    tifffile.tiffcomment(path, xml.encode())
    field, *_ = readers.read_micrographs(path)
    assert field.stage_um == pytest.approx((1500, -20))
