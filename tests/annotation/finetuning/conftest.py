"""Fixtures for tests of fine-tuning: a study of corrected fields of six dishes."""

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.storage import png

# Six cells of 8 x 8 px in a field of 40 x 80.
LABELS = np.zeros((40, 80), np.int32)
for _number, (_y, _x) in enumerate(
    [(4, 4), (4, 30), (4, 66), (24, 4), (24, 30), (24, 66)], start=1
):
    LABELS[_y : _y + 8, _x : _x + 8] = _number


@pytest.fixture
def study(tmp_path):
    study = Study.create(tmp_path / "study")
    rows = []
    for cell_type in ("HEK", "N2a"):
        for dish in range(3):
            row = ImageRow(
                f"{cell_type}/d{dish}.png",
                cell_type,
                group=f"{cell_type}{dish}",
                corrected=True,
                split="validation" if dish == 2 else "train",
            )
            image = np.zeros((40, 80, 3), np.uint8)
            image[..., 1] = np.where(LABELS > 0, 150 + dish, 20)
            png.write_png(study.image_path(row), image)
            cells = Cells.from_labels(LABELS, study.cell_types, cell_type)
            cells.write(study.cells_path(row))
            rows.append(row)
    study.update(rows)
    return study
