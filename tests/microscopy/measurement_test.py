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


def test_what_earlier_versions_did_not_record_is_no_part_of_fingerprints():
    other = dataclasses.replace(FIELD, well="B03", bits=8)
    before = FIELD.as_of_earlier_versions()
    assert other.as_of_earlier_versions() == before
    assert set(before) == set(dataclasses.asdict(FIELD)) - {"well", "bits"}


def test_fields_of_one_file_have_different_suffixes():
    later = dataclasses.replace(FIELD, scene=0, time=7)
    first = dataclasses.replace(FIELD, scene=0)
    assert [f.suffix for f in (first, FIELD, later)] == ["", "_s2", "_t7"]


def test_fields_of_different_projections_share_no_contrast():
    assert FIELD.contrast_key("dish") == ("dish", "DAPI", "1", "best", 16)
    other = dataclasses.replace(FIELD, z="best:4")
    assert other.contrast_key("dish") == FIELD.contrast_key("dish")
    assert dataclasses.replace(FIELD, z="max").contrast_key("dish")[3] == "max"


def test_fields_of_8_and_16_bits_share_no_contrast():
    eight = dataclasses.replace(FIELD, bits=8).contrast_key("dish")
    assert eight == FIELD.contrast_key("dish")._replace(bits=8)
    assert eight.without_bits == FIELD.contrast_key("dish").without_bits
