"""Tests of cellclass_tf.maskrcnn.input.reading."""

import numpy as np
import pytest

from cellclass_tf.core.study import Study
from cellclass_tf.maskrcnn import config
from cellclass_tf.maskrcnn.input import reading


def test_fields_are_read_encoded_and_decode_to_those_of_the_study(prepared):
    data = config.cellclass_maskrcnn_small().task.validation_data
    data.tfds_name, data.tfds_data_dir = "cell_types/study", str(prepared / "tfds")
    data.tfds_split = "train"
    study = Study.open(prepared)
    rows = {row.image: row for row in study.rows()}
    field = next(iter(reading.fields_of(data)))
    assert field["image"].dtype == "string"
    row = rows[field["image_name"].numpy().decode()]
    image, labels = reading.decode(field)
    np.testing.assert_array_equal(image, study.read_image(row))
    cells = reading.field_of(field, study.cell_types).cells
    np.testing.assert_array_equal(cells.labels, study.read_cells(row).labels)
    assert cells.cell_types == study.read_cells(row).cell_types
    data.cache = True
    kept = next(iter(reading.fields_of(data)))
    assert kept["image"].dtype == "uint8"
    np.testing.assert_array_equal(reading.decode(kept)[1], labels)


def test_decoded_fields_equal_those_of_the_study_in_a_fixed_order(prepared):
    data = config.cellclass_maskrcnn_small().task.train_data
    data.tfds_name, data.tfds_data_dir = "cell_types/study", str(prepared / "tfds")
    study = Study.open(prepared)
    rows = {row.image: row for row in study.rows()}
    runs = [
        list(reading.decoded_fields(data, "validation", study.cell_types))
        for _ in range(2)
    ]
    assert [f.name for f in runs[0]] == [f.name for f in runs[1]]
    for field in runs[0]:
        row = rows[field.name]
        assert row.split == "validation"
        assert field.group == row.group
        np.testing.assert_array_equal(field.image, study.read_image(row))
        assert field.cells.cell_types == study.read_cells(row).cell_types


def test_data_without_a_directory_is_refused():
    data = config.cellclass_maskrcnn_small().task.train_data
    data.tfds_name = "cell_types/study"
    with pytest.raises(ValueError, match="tfds_data_dir"):
        reading.fields_of(data)
