"""Tests of segmentations: round trips, and comparison with pycocotools."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from cellclass_tf.core.drawn_cells import DrawnCell
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.coco.segmentations import drawn_cell_of, polygons_of
from cellclass_tf.labels.rle import encode_mask


def _random_masks(count=300):
    """Yields masks of all densities, with pinches, holes and single pixels, at all borders."""
    rng = np.random.default_rng(3)
    for _ in range(count):
        mask = rng.random(rng.integers(1, 15, 2)) < rng.choice([0.1, 0.4, 0.7, 1.0])
        if mask.any():
            yield mask


def _whole(cell, shape):
    mask = np.zeros(shape, bool)
    if cell is not None:
        top, left = cell.corner_yx
        mask[top : top + cell.mask.shape[0], left : left + cell.mask.shape[1]] = (
            cell.mask
        )
    return mask


def _encoded(mask):
    cell = DrawnCell.cut(mask)
    return encode_mask(cell.mask, cell.corner_yx, mask.shape)


def test_polygons_are_filled_to_the_same_mask_by_pycocotools():
    for mask in _random_masks():
        cell = DrawnCell.cut(mask)
        polygons = polygons_of(cell.mask, cell.corner_yx)
        if polygons is None:
            continue
        runs = coco_mask.merge(coco_mask.frPyObjects(polygons, *mask.shape))
        np.testing.assert_array_equal(coco_mask.decode(runs), mask)


def test_cell_with_a_hole_has_no_polygons():
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert polygons_of(ring, (0, 0)) is None
    assert polygons_of(np.ones((1, 1), bool), (2, 7)) == [[7, 2, 8, 2, 8, 3, 7, 3]]


def test_every_kind_of_run_lengths_becomes_the_mask_in_its_box():
    for mask in _random_masks():
        runs = _encoded(mask)
        flat = mask.T.ravel()
        steps = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
        counts = np.diff([0, *steps, flat.size]).tolist()
        expected = DrawnCell.cut(mask)
        for counts_of_kind in (runs["counts"], runs["counts"].encode(), counts):
            cell = drawn_cell_of({**runs, "counts": counts_of_kind}, mask.shape)
            assert cell.corner_yx == expected.corner_yx
            np.testing.assert_array_equal(cell.mask, expected.mask)


def test_runs_of_length_zero_are_ignored():
    # Columns of 2 px: background 1, cell 1, background 0, cell 2, background 2.
    runs = {"size": [2, 3], "counts": [1, 1, 0, 2, 2, 0]}
    expected = [[0, 1, 0], [1, 1, 0]]
    np.testing.assert_array_equal(_whole(drawn_cell_of(runs, (2, 3)), (2, 3)), expected)


@pytest.mark.parametrize("shape", [(40, 60), (61, 33)])
def test_polygons_are_filled_as_pycocotools_does_it(shape):
    rng = np.random.default_rng(4)
    for _ in range(200):
        corners = rng.uniform(-2, np.array(shape[::-1]) + 2, (rng.integers(3, 9), 2))
        polygons = [np.round(corners, 1).ravel().tolist()]
        runs = coco_mask.merge(coco_mask.frPyObjects(polygons, *shape))
        found = _whole(drawn_cell_of(polygons, shape), shape)
        np.testing.assert_array_equal(found, coco_mask.decode(runs))


def test_polygons_of_one_cell_are_one_mask():
    parts = [[0, 0, 2, 0, 2, 2, 0, 2], [1, 1, 3, 1, 3, 3, 1, 3]]
    # Two squares of 4 px that share one pixel.
    assert drawn_cell_of(parts, (5, 5)).mask.sum() == 7


def test_a_segmentation_without_pixels_gives_none():
    assert drawn_cell_of([[1, 1, 3, 1, 2, 1]], (5, 5)) is None
    assert drawn_cell_of({"size": [5, 5], "counts": [25]}, (5, 5)) is None
    # Within the 2 px that are cut.
    assert drawn_cell_of([[-2, 0, -1, 0, -1, 3, -2, 3]], (5, 5)) is None


def test_memory_depends_on_the_cells_and_not_on_the_field():
    import tracemalloc

    shape = (10_000, 10_000)
    square = [[5000, 5000, 5040, 5000, 5040, 5040, 5000, 5040]]
    tracemalloc.start()
    cell = drawn_cell_of(square, shape)
    assert encode_mask(cell.mask, cell.corner_yx, shape)["size"] == list(shape)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (cell.corner_yx, cell.mask.shape) == ((5000, 5000), (40, 40))
    assert peak < 1e6


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 1, 4, 4]], "has 2 points, and needs at least 3"),
        ([[]], "has 0 points"),
        ([[1, 1, 4, 4, 2, 1, 3]], "an odd number of coordinates, 7"),
        ([[1, 1, 4, float("nan"), 2, 1]], "not finite"),
        ([[1, 1, 4, float("inf"), 2, 1]], "not finite"),
        ([[1, 1, 4, 10**400, 2, 1]], "not finite"),
        ([[1, 1, 4, "4", 2, 1]], "has '4' as a coordinate"),
        ([[1, 1, 4, None, 2, 1]], "has None as a coordinate"),
        ([[1, 1, 9, 1, 9, 4]], "from x = 1 to 9, out of the image, which has 6 px"),
        ([[1, -2.5, 4, 1, 4, 4]], "from y = -2.5 to 4, out of the image"),
        ([1, 1, 4, 4, 2, 1], "expected polygons"),
        ("abc", "expected a list of polygons"),
        (
            {"size": [6, 5], "counts": [30]},
            r"size \[6, 5\], but the image has \[5, 6\]",
        ),
        ({"counts": [30]}, "size None"),
        ({"size": [5, 6]}, "got counts None"),
        ({"size": [5, 6], "counts": [10, 5]}, "30 px.*got a sum of 15"),
        ({"size": [5, 6], "counts": []}, "got a sum of 0"),
        ({"size": [5, 6], "counts": [10, -5, 25]}, "the smallest is -5"),
        ({"size": [5, 6], "counts": [10**30, 5]}, "got a sum of 10000"),
        ({"size": [5, 6], "counts": [10.5, 19.5]}, "expected run lengths"),
        ({"size": [5, 6], "counts": ""}, "damaged or truncated"),
        ({"size": [5, 6], "counts": "é"}, "damaged or truncated"),
        ({"size": [5, 6], "counts": "P"}, "damaged or truncated"),
        ({"size": [5, 6], "counts": "PPPPPPPP0"}, "a number is too large"),
        ({"size": [5, 6], "counts": "5"}, "got a sum of 5"),
    ],
)
def test_an_invalid_segmentation_is_rejected_with_the_reason(segmentation, message):
    with pytest.raises(InputError, match=message):
        drawn_cell_of(segmentation, (5, 6))


def test_an_outline_that_is_too_long_is_rejected():
    zigzag = [value for n in range(200) for value in (n % 2 * 9999, n % 2 * 9999)]
    with pytest.raises(InputError, match="is 1,989,801 px long"):
        drawn_cell_of([zigzag], (10_000, 10_000))


def test_real_results_are_decoded_as_pycocotools_does_it(assets):
    (path,) = sorted((assets / "coco" / "coco_results_rle").glob("*.json"))
    results = json.loads(path.read_text())
    for result in results[:: max(1, len(results) // 200)]:
        runs = result["segmentation"]
        found = _whole(drawn_cell_of(runs, tuple(runs["size"])), runs["size"])
        np.testing.assert_array_equal(found, coco_mask.decode(runs))
