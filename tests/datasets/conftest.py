"""A small study for tests of datasets."""

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.storage import png

LABELS = np.zeros((10, 20), np.int32)
LABELS[2:5, 4:14] = 1
LABELS[6:10, 0:5] = 2


@pytest.fixture
def study(tmp_path):
    """Makes two dishes per type and one mixed field, with two cells in each field."""
    study = Study.create(tmp_path)
    for number, (cell_type, name) in enumerate(
        [("HEK", "a"), ("HEK", "b"), ("N2a", "c"), ("N2a", "d"), ("mixed", "m")]
    ):
        row = ImageRow(f"{cell_type}/{name}.png", cell_type, group=name)
        pixels = np.full((10, 20, 3), number, np.uint8)
        png.write_png(study.image_path(row), pixels)
        types = ["HEK", "N2a"] if cell_type == "mixed" else cell_type
        cells = Cells.from_labels(LABELS, study.cell_types, types)
        cells.write(study.cells_path(row), types_csv=cell_type == "mixed")
        study.update([row])
    return study
