"""Tests that every real file is converted correctly, or refused with the right reason."""

import collections
import pathlib
import re

import numpy as np
import pytest
import tifffile

import cellclass_tf as cc
from cellclass_tf.core.study import Study

ONE, DOUBT, RED = "expected two channels", "which channel is which", "red channel"
# Without flags: how many fields, or why not.
PLAIN = {
    "CellDivision_T3_Z5_CH2_X240_Y170.czi": DOUBT,
    "CellDivision_T3_Z5_CH2_X240_Y170_comp1.czi": DOUBT,
    "S3_1Pos_2Mosaic_T2_Z3_CH2_sm.czi": 56,
    "WellD6-7_S2.czi": ONE,
    "nuc_small.czi": ONE,
    "s_1_t_1_c_1_z_1.czi": ONE,
    "toxo.dv": DOUBT,
    "LeicaLASX_wavelength-sweep_example.lif": "lambda scan",
    "testdata_2channel_xz.lif": "planes are ZX",
    "cluster.nd2": DOUBT,
    "example-cerevisiae.nd2": DOUBT,
    "example-pbmc.nd2": 1,
    "example-timelapse.nd2": ONE,
    "example-zstack.nd2": ONE,
    "test.oib": DOUBT,
    "test.stk": ONE,
    "MetamorphImage.tif": ONE,
    "NikonTIF.tif": RED,
    "cellprofiler_largeimg.ome.tiff": DOUBT,
    "hela-cells.tif": RED,
    "sample_EmbryoTorax_multichannel.tif": DOUBT,
    # The three files of the set are one field.
    "Projection-Mix_E08_s2_w1B38C01F5-0D36-4A29-9F5A-BE62B6F7F73F.tif": DOUBT,
}
# With the channels given, the same files are converted.
FIELDS_WITH_FLAGS = {
    "CellDivision_T3_Z5_CH2_X240_Y170.czi": 3,
    "CellDivision_T3_Z5_CH2_X240_Y170_comp1.czi": 3,
    "cluster.nd2": 3,
}


def converted(folder, study, **options):
    """Returns by file name the number of fields, or the reason why there are none."""
    outcome = cc.convert(folder, study, cell_type="HEK", processes=2, **options)
    counts = collections.Counter(row.raw_file for row in Study.open(study).rows())
    found = dict(counts) | outcome.failures
    return {pathlib.Path(path.split("|")[0]).name: what for path, what in found.items()}


def expected_of_files_in(assets):
    """Returns the entries of PLAIN whose files are there; some cannot be fetched."""
    there = {path.name for path in (assets / "microscope_files").rglob("*.*")}
    assert there
    return {name: expected for name, expected in PLAIN.items() if name in there}


def test_without_flags_only_unambiguous_files_are_converted(assets, tmp_path):
    found = converted(assets / "microscope_files", tmp_path / "s")
    expected_of = expected_of_files_in(assets)
    assert found.keys() == expected_of.keys()
    for name, expected in expected_of.items():
        if isinstance(expected, int):
            assert found[name] == expected, name
        else:
            assert re.search(expected, found[name]), (name, found[name])


def test_all_ambiguous_files_are_converted_with_flags(assets, tmp_path):
    folder = assets / "microscope_files"
    found = converted(folder, tmp_path / "s", nuclei=0, cytoplasm=1)
    for name, expected in expected_of_files_in(assets).items():
        if expected in (DOUBT, RED):
            assert found[name] == FIELDS_WITH_FLAGS.get(name, 1), name


@pytest.mark.parametrize("channel", [0, 1])
def test_merged_pixels_come_from_the_raw_file(assets, tmp_path, channel):
    path = assets / "microscope_files" / "tif" / "sample_EmbryoTorax_multichannel.tif"
    cc.convert(path, tmp_path / "s", cell_type="HEK", nuclei=0, cytoplasm=1)
    study = Study.open(tmp_path / "s")
    (row,) = study.rows()
    limits = (row.nuclei_limits, row.cytoplasm_limits)[channel].split("-")
    low, high = map(float, limits)
    raw = tifffile.imread(path)[channel].astype(float)
    expected = np.rint(np.clip((raw - low) * 255 / (high - low), 0, 255))
    merged = study.read_image(row)[..., (2, 1)[channel]]
    # Halves may be rounded either way.
    np.testing.assert_allclose(merged, expected, atol=1)
