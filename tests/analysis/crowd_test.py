"""A field of 2,000 cells, whose label image skips numbers, in all results and exports."""

import numpy as np
import roifile

import cellclass_tf as cc
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.storage import png
from tests.predictions import write_predictions

CELLS, ACROSS, SIDE = 2000, 50, 12
SHAPE = (CELLS // ACROSS * SIDE, ACROSS * SIDE)


def crowd(*, wrong=0):
    """Returns touching cells of 12 px, every other one HEK; two of three numbers are skipped.

    The first `wrong` cells have the other type.
    """
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    number = y // SIDE * ACROSS + x // SIDE
    is_n2a = (np.arange(CELLS) % 2 == 1) ^ (np.arange(CELLS) < wrong)
    names = np.where(is_n2a, "N2a", "HEK").tolist()
    return Cells.from_labels(3 * number + 3, ("HEK", "N2a"), names)


def run_and_study(tmp_path, found, true):
    run, study = tmp_path / "run", Study.create(tmp_path / "study", found.type_names)
    image = np.full((*SHAPE, 3), 90, np.uint8)
    write_predictions(run, {"mixed/a": found}, {"mixed/a": image})
    row = ImageRow("mixed/a.png", "mixed")
    study.update([row])
    png.write_png(study.image_path(row), image)
    true.write(study.cells_path(row), types_csv=True)
    return run, study


def test_all_cells_of_a_crowded_field_reach_every_result(tmp_path):
    run, study = run_and_study(tmp_path, found=crowd(), true=crowd(wrong=100))
    result = cc.evaluate(run, study)
    assert result["cells_true"] == result["cells_predicted"] == CELLS
    assert result["AP_cells"] == 1
    assert result["type_accuracy"] == 0.95
    assert result["errors"] == {
        "merged": 0,
        "split": 0,
        "missed": 0,
        "invented": 0,
        "wrong_type": 100,
    }
    (whole, *_) = cc.mixture(run)["estimates"]
    assert whole["types"]["HEK"]["share"] == 0.5
    lines = (run / "cells.csv").read_text().splitlines()
    assert len(lines) == CELLS + 1
    assert not any("nan" in line.lower() for line in lines)
    assert cc.export_cells(run, tmp_path / "rois", format="imagej").done
    assert len(roifile.roiread(tmp_path / "rois/mixed/a.zip")) == CELLS
