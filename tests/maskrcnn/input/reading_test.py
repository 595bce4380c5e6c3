"""Tests of cellclass_tf.maskrcnn.input.reading."""

import numpy as np
import pytest

from cellclass_tf.core.study import Study
from cellclass_tf.maskrcnn import config
from cellclass_tf.maskrcnn.input import reading


def test_fields_are_read_undecoded_and_decode_to_those_of_the_study(prepared):
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
    cells = reading.cells_of(field, study.cell_types)
    np.testing.assert_array_equal(cells.labels, study.read_cells(row).labels)
    assert cells.cell_types == study.read_cells(row).cell_types
    data.cache = True
    kept = next(iter(reading.fields_of(data)))
    assert kept["image"].dtype == "uint8"
    np.testing.assert_array_equal(reading.decode(kept)[1], labels)


def test_data_without_a_directory_is_refused():
    data = config.cellclass_maskrcnn_small().task.train_data
    data.tfds_name = "cell_types/study"
    with pytest.raises(ValueError, match="tfds_data_dir"):
        reading.fields_of(data)
