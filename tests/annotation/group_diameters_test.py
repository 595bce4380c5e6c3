"""Tests of cellclass_tf.annotation.group_diameters."""

import numpy as np

import cellclass_tf as cc
from cellclass_tf import batch
from cellclass_tf.annotation.group_diameters import estimate_diameters
from cellclass_tf.core.study import ImageRow
from cellclass_tf.storage import png


class BrightestIsDiameter:
    size_fingerprint = "f"

    def __init__(self):
        self.asked = 0

    def estimate_diameter_px(self, image):
        self.asked += 1
        return float(image.max())


def test_a_group_has_the_median_diameter_of_a_few_fields_estimated_once(tmp_path):
    study = cc.Study.create(tmp_path / "study")
    rows = []
    for n in range(11):
        group = "" if n == 10 else "dish1"
        rows.append(ImageRow(f"HEK/{n:02}.png", "HEK", group=group))
        png.write_png(study.image_path(rows[-1]), np.full((8, 8, 3), 20 + n, np.uint8))
    study.update(rows)
    finder = BrightestIsDiameter()
    given = (study, rows, finder, batch.Journal(tmp_path / "d.jsonl"), batch.Engine())
    # Of ten fields every second, from the first on; what is in no group has no diameter.
    assert estimate_diameters(*given) == {"dish1": 24.0}
    assert finder.asked == 5
    assert estimate_diameters(*given) == {"dish1": 24.0}
    assert finder.asked == 5
