"""Tests of ROIs, with roifile as reader, filled as ImageJ fills them."""

import numpy as np
import roifile
from skimage import draw

from cellclass_tf.core.cells import Cells
from cellclass_tf.drawing.palette import colour_of_type
from cellclass_tf.interchange import imagej


def filled(roi, shape_yx):
    """Returns the pixels whose centres are inside a ROI, which is ImageJ's rule."""
    corners = roi.coordinates() - 0.5
    return draw.polygon2mask(shape_yx, corners[:, ::-1])


def test_every_roi_equals_its_cell_to_the_pixel(tmp_path, cells):
    imagej.write_rois(tmp_path / "a.zip", cells)
    rois = roifile.roiread(tmp_path / "a.zip")
    assert [roi.name for roi in rois] == [
        "HEK 1",
        "N2a 2",
        "unknown 3",
        "HEK 4",
        "N2a 5",
    ]
    for number, roi in enumerate(rois, start=1):
        # At the far borders corners lie on the last pixel's far side.
        np.testing.assert_array_equal(
            filled(roi, cells.labels.shape), cells.labels == number
        )
        type_id = int(cells.type_ids[number - 1])
        assert tuple(roi.stroke_color) == (255, *colour_of_type(type_id))
        assert roi.group == type_id


def test_a_cell_is_one_roi_with_its_pieces_and_holes(tmp_path, odd_cells):
    imagej.write_rois(tmp_path / "a.zip", odd_cells)
    rois = roifile.roiread(tmp_path / "a.zip")
    assert [roi.name for roi in rois] == ["HEK 1", "N2a 2", "HEK 3"]
    for number, roi in enumerate(rois, start=1):
        mask = np.zeros(odd_cells.labels.shape, bool)
        for outline in roi.coordinates(multi=True):
            # Filled by the even-odd rule.
            corners = outline[:, ::-1] - 0.5
            mask ^= draw.polygon2mask(mask.shape, corners)
        np.testing.assert_array_equal(mask, odd_cells.labels == number)
        top, left, bottom, right = odd_cells.boxes_yxyx[number - 1]
        box = (roi.top, roi.left, roi.bottom, roi.right)
        assert box == (top, left, bottom, right) or not roi.composite
        assert roi.group == odd_cells.type_ids[number - 1]


def test_a_cell_whose_pixels_touch_at_a_corner_is_one_roi(tmp_path):
    labels = np.zeros((9, 9), np.int32)
    labels[1:4, 1:4] = labels[4:7, 4:7] = 1
    cells = Cells.from_labels(labels, ("HEK",), "HEK")
    imagej.write_rois(tmp_path / "a.zip", cells)
    (roi,) = roifile.roiread(tmp_path / "a.zip")
    assert roi.name == "HEK 1"
    assert len(roi.coordinates(multi=True)) == 2


def test_a_field_without_cells_becomes_an_empty_archive(tmp_path, cells):
    empty = type(cells).from_labels(0 * cells.labels, cells.type_names)
    imagej.write_rois(tmp_path / "a.zip", empty)
    assert roifile.roiread(tmp_path / "a.zip") == []
