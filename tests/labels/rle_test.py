"""Tests of cellclass_tf.labels.rle, compared with pycocotools."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from cellclass_tf.core.drawn_cells import DrawnCell
from cellclass_tf.labels.rle import encode_mask


def _masks():
    rng = np.random.default_rng(0)
    for share in (0.05, 0.3, 0.7, 1.0):
        for shape in ((7, 9), (1, 12), (12, 1), (30, 20)):
            mask = rng.random(shape) < share
            mask[-1, -1] = True
            yield mask
    # Runs end at the bottom of a column and continue at the top of the next one.
    mask = np.zeros((5, 6), bool)
    mask[:, 2:4] = mask[3:, 1] = True
    yield mask


@pytest.mark.parametrize("mask", list(_masks()))
def test_run_lengths_equal_those_of_pycocotools(mask):
    cell = DrawnCell.cut(mask)
    expected = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_mask(cell.mask, cell.corner_yx, mask.shape) == {
        "size": list(mask.shape),
        "counts": expected["counts"].decode(),
    }
