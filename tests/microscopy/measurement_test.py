"""Tests of cellclass_tf.microscopy.measurement."""

import dataclasses

from cellclass_tf.microscopy.measurement import FieldMeasurement, FileMeasurement
from cellclass_tf.microscopy.quality.figures import Figures

FIELD = FieldMeasurement(
    scene=2,
    time=0,
    z="best:3",
    nuclei_channel="DAPI",
    cytoplasm_channel="1",
    figures=Figures(-3.5, -2.0, 0.0, 50, 30.0, 0.1, 0.0, 0.1, 0.3),
    histogram=0,
)


def test_a_measurement_is_written_to_json_and_read_back():
    found = FileMeasurement(
        "a.npz", (FIELD, dataclasses.replace(FIELD, histogram=None))
    )
    assert FileMeasurement.parse(found.as_content(), "measure.jsonl") == found


def test_the_well_is_no_part_of_fingerprints_of_earlier_versions():
    in_well = dataclasses.replace(FIELD, well="B03")
    assert in_well.without_well() == FIELD.without_well()
    assert set(FIELD.without_well()) == set(dataclasses.asdict(FIELD)) - {"well"}


def test_fields_of_one_file_have_different_suffixes():
    later = dataclasses.replace(FIELD, scene=0, time=7)
    first = dataclasses.replace(FIELD, scene=0)
    assert [f.suffix for f in (first, FIELD, later)] == ["", "_s2", "_t7"]


def test_fields_of_different_projections_share_no_contrast():
    assert FIELD.contrast_key("dish") == ("dish", "DAPI", "1", "best")
    other = dataclasses.replace(FIELD, z="best:4")
    assert other.contrast_key("dish") == FIELD.contrast_key("dish")
    assert dataclasses.replace(FIELD, z="max").contrast_key("dish")[3] == "max"
