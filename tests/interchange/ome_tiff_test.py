"""Tests of OME-TIFF, with tifffile as reader."""

import numpy as np
import pytest
import tifffile

from cellclass_tf.core.cells import Cells
from cellclass_tf.interchange import ome_tiff


def test_an_ome_tiff_has_labels_pixel_size_and_types(tmp_path, cells):
    path = tmp_path / "a.ome.tif"
    ome_tiff.write_ome_tiff(path, cells, pixel_size_um=0.325)
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        np.testing.assert_array_equal(file.asarray(), cells.labels)
        told = tifffile.xml2dict(file.ome_metadata)["OME"]
        tags = file.pages[0].tags
        pixels, in_unit = tags["XResolution"].value
        assert tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
        # A centimetre has 10,000 µm.
        assert pixels / in_unit == pytest.approx(10_000 / 0.325)
    pixels = told["Image"]["Pixels"]
    assert pixels["PhysicalSizeX"] == 0.325
    assert pixels["PhysicalSizeYUnit"] == "µm"
    entries = told["StructuredAnnotations"]["MapAnnotation"]["Value"]["M"]
    assert {entry["K"]: entry["value"] for entry in entries} == {
        i: name for i, name in enumerate(cells.cell_types, start=1)
    }


def test_numbers_beyond_16_bits_survive(tmp_path):
    labels = np.arange(70_000, dtype=np.int32).reshape(200, 350)
    cells = Cells.from_labels(labels, ("HEK",))
    ome_tiff.write_ome_tiff(tmp_path / "a.ome.tif", cells, pixel_size_um=0.5)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        np.testing.assert_array_equal(file.asarray(), labels)
        assert 'PhysicalSizeX="0.5"' in file.ome_metadata
