"""Writes cells as ROIs for ImageJ and Fiji."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.drawing.palette import colour_of_type
from cellclass_tf.labels.outlines import outlines_of
from cellclass_tf.storage import atomic

if TYPE_CHECKING:
    import roifile

# Largest number of a ROI group in ImageJ.
_MOST_GROUPS = 255
# Steps of a composite ROI's path, as in java.awt.geom.PathIterator.
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0


def write_rois(path: str | os.PathLike, cells: Cells) -> None:
    """Writes a ZIP file for ImageJ's ROI Manager, whole or not at all.

    Each cell is one ROI named 'TYPE NUMBER', with the colour of its type, and the number
    of its type as ROI group. ROIs follow the edges of pixels, like those of the wand
    tool, so that ImageJ makes exactly the same mask of them. A cell with holes, or with
    several pieces (which may touch at a corner), is a composite ROI.

    Args:
      path: path of the file, NAME.zip.
      cells: cells of one field.
    """
    import roifile

    rois = []
    for index, cell_type in enumerate(cells.cell_types):
        type_id = int(cells.type_ids[index])
        box = cells.boxes_yxyx[index].tolist()
        corner, name = np.array(box[1::-1]), f"{cell_type} {cells.numbers[index]}"
        outlines = [outline + corner for outline in outlines_of(cells.mask(index))]
        if len(outlines) == 1:
            roi = roifile.ImagejRoi.frompoints(outlines[0], name=name)
            roi.roitype = roifile.ROI_TYPE.TRACED
        else:
            roi = _composite(outlines, box, name)
        roi.stroke_color = bytes((255, *colour_of_type(type_id)))
        roi.group = min(type_id, _MOST_GROUPS)
        rois.append(roi)
    with atomic.atomic_path(path) as temporary:
        # roiwrite adds to a file that exists.
        whole = pathlib.Path(temporary)
        whole.unlink(missing_ok=True)
        roifile.roiwrite(whole, rois, mode="w") if rois else _write_empty(whole)


def _composite(
    outlines: Sequence[np.ndarray], box: Sequence[int], name: str
) -> roifile.ImagejRoi:
    """Returns a ROI of several outlines, which ImageJ fills by the even-odd rule."""
    import roifile

    path: list[float] = []
    for outline in outlines:
        for step, (x, y) in zip(
            (_MOVE, *[_LINE] * len(outline)), outline, strict=False
        ):
            path += (step, x, y)
        path.append(_CLOSE)
    top, left, bottom, right = box
    return roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.RECT,
        top=top,
        left=left,
        bottom=bottom,
        right=right,
        name=name,
        shape_roi_size=len(path),
        multi_coordinates=np.array(path, np.float32),
    )


def _write_empty(path: pathlib.Path) -> None:
    import zipfile

    zipfile.ZipFile(path, "w").close()
