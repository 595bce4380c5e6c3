"""Tests of the entries of COCO files."""

import dataclasses

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.interchange.coco.descriptions import (
    annotation_of,
    categories_of,
    image_of,
    result_of,
)

CELLS = Cells.from_labels(
    np.array([[0, 1, 1, 1], [2, 1, 0, 1], [0, 1, 1, 1]]),
    ("HEK", "N2a"),
    ["N2a", "unknown"],
)


def test_an_annotation_describes_its_cell():
    ring, pixel = (annotation_of(CELLS, i, segmentation="polygons") for i in (0, 1))
    # Columns of 3 px: column 1 is full, column 2 has a hole, column 3 is full.
    assert ring == {
        "category_id": 2,
        "segmentation": {"size": [3, 4], "counts": _compressed()},
        "area": 8,
        "bbox": [1, 0, 3, 3],
        "iscrowd": 0,
        "cell": 1,
    }
    assert pixel == {
        "category_id": 3,
        "segmentation": [[0, 1, 1, 1, 1, 2, 0, 2]],
        "area": 1,
        "bbox": [0, 1, 1, 1],
        "iscrowd": 0,
        "cell": 2,
    }


def _compressed():
    from pycocotools import mask

    # Background 3 (column 0), cell 4, the hole, cell 4.
    runs = {"size": [3, 4], "counts": [3, 4, 1, 4]}
    return mask.frPyObjects(runs, 3, 4)["counts"].decode()


def test_a_result_has_the_score_by_which_cells_are_ranked_but_no_truth():
    cells = dataclasses.replace(
        CELLS,
        scores=np.float32([0.5, 0.75]),
        probabilities=np.float32([[0.25, 0.75], [0, 0]]),
    )
    result, unknown = result_of(cells, 0), result_of(cells, 1)
    annotation = annotation_of(cells, 0)
    assert (result.pop("score"), result.pop("detection_score")) == (0.375, 0.5)
    # A cell of unknown type has no probability.
    assert (unknown["score"], unknown["detection_score"]) == (0.75, 0.75)
    assert result.items() <= annotation.items()
    assert set(annotation) - set(result) == {"area", "iscrowd", "cell"}


def test_categories_are_types_from_1_on_followed_by_unknown():
    names = [c["name"] for c in categories_of(("HEK", "N2a"), has_unknown=True)]
    ids = [c["id"] for c in categories_of(("HEK", "N2a"), has_unknown=True)]
    assert (names, ids) == (["HEK", "N2a", "unknown"], [1, 2, 3])
    assert len(categories_of(("HEK", "N2a"), has_unknown=False)) == 2
    assert image_of("a.png", CELLS) == {"file_name": "a.png", "height": 3, "width": 4}
