"""Cells as ROIs of ImageJ and Fiji."""

from __future__ import annotations

import os
import pathlib

from absl import logging

from cellclass_tf.core.cells import Cells
from cellclass_tf.drawing.overlay import colour_of_type
from cellclass_tf.labels.outlines import outlines_of, signed_area
from cellclass_tf.storage import atomic

# ImageJ's groups.
_MOST_GROUPS = 255


def write_rois(path: str | os.PathLike, cells: Cells) -> None:
    """Writes a ZIP that ImageJ's ROI Manager opens, whole or not at all.

    One ROI a cell, 'TYPE NUMBER', with the colour of its type, which is also the ROI's
    group. ROIs go along the edges of pixels, as the wand tool's do, so that ImageJ makes
    the same mask of them. Of a cell in pieces each is a ROI, 'TYPE NUMBER-PIECE'; holes,
    which such ROIs cannot say, are filled.

    Args:
      path: of the file, NAME.zip.
      cells: of one field.
    """
    import roifile

    rois, holes = [], 0
    for index, cell_type in enumerate(cells.cell_types):
        type_id = int(cells.type_ids[index])
        top, left = cells.boxes_yxyx[index, :2].tolist()
        outlines = outlines_of(cells.mask(index))
        outer = [outline for outline in outlines if signed_area(outline) > 0]
        holes += len(outer) < len(outlines)
        for piece, outline in enumerate(outer, start=1):
            name = f"{cell_type} {index + 1}" + (f"-{piece}" if len(outer) > 1 else "")
            roi = roifile.ImagejRoi.frompoints(outline + (left, top), name=name)
            roi.roitype = roifile.ROI_TYPE.TRACED
            roi.stroke_color = bytes((255, *colour_of_type(type_id)))
            roi.group = min(type_id, _MOST_GROUPS)
            rois.append(roi)
    if holes:
        logging.warning("%s: holes of %d cells are filled.", path, holes)
    with atomic.atomic_path(path) as temporary:
        # What it appends to must not be there.
        whole = pathlib.Path(temporary)
        whole.unlink(missing_ok=True)
        roifile.roiwrite(whole, rois, mode="w") if rois else _write_empty(whole)


def _write_empty(path: pathlib.Path) -> None:
    import zipfile

    zipfile.ZipFile(path, "w").close()
