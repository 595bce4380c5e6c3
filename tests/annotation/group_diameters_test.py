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


def test_a_dish_that_was_converted_anew_is_estimated_again(tmp_path):
    study = cc.Study.create(tmp_path / "study")
    journal = batch.Journal(tmp_path / "d.jsonl")

    def write(number, level):
        row = ImageRow(f"HEK/{number}.png", "HEK", group="dish1")
        png.write_png(study.image_path(row), np.full((8, 8, 3), level, np.uint8))
        return row

    def estimated(rows):
        finder = BrightestIsDiameter()
        found = estimate_diameters(study, rows, finder, journal, batch.Engine())
        return found["dish1"], finder.asked

    rows = [write(number, 20) for number in range(2)]
    assert estimated(rows) == (20.0, 2)
    # A field that is added, or replaced, does not change the diameter of the others.
    rows.append(write(2, 90))
    write(0, 90)
    assert estimated(rows) == (20.0, 0)
    write(1, 90)
    assert estimated(rows) == (90.0, 3)
    assert estimated(rows) == (90.0, 0)


def test_an_estimate_of_an_earlier_version_is_kept(tmp_path):
    study = cc.Study.create(tmp_path / "study")
    row = ImageRow("HEK/a.png", "HEK", group="dish1")
    png.write_png(study.image_path(row), np.full((8, 8, 3), 20, np.uint8))
    journal = batch.Journal(tmp_path / "d.jsonl")
    journal.append(batch.Job("dish1", None, "f"), 33.0)
    finder = BrightestIsDiameter()
    found = estimate_diameters(study, [row], finder, journal, batch.Engine())
    assert found == {"dish1": 33.0}
