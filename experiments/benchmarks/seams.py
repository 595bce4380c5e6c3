"""Measures whether predictions depend on the position of the borders between tiles.

    python -m experiments.benchmarks.seams --model=MODEL

MODEL was trained on simulated cultures and exported. A dense mixed field is predicted whole, and
again without its first rows and columns, so that all tile borders are elsewhere. The cells of both
predictions are matched; cells within a cell's width of the new image border, where cells are cut,
are left out. A cell is near a tile border if its centre is within a cell's width of a border
between the cores of two tiles, in either prediction. Differences elsewhere are due to the
network, which sees the same cell at another position of its grid.
"""

from __future__ import annotations

import numpy as np
from absl import app, flags

import cellclass_tf as cc
from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import tiling
from cellclass_tf.labels.matching import match_cells
from experiments.benchmarks.fields import merged_field

_MODEL = flags.DEFINE_string("model", None, "Exported model.", required=True)
_CELLS = flags.DEFINE_integer("cells", 1600, "Number of cells in the field.")
_SIZE = flags.DEFINE_integer("size", 2208, "Width of the field in px.")
_SHIFTS = ((0, 0), (7, 3), (64, 32), (101, 37), (150, 211))
_PIXEL_SIZE_UM = 0.325


def seams(
    predictor: cc.Predictor, shape_yx: tuple[int, ...], first_yx: tuple[int, int]
) -> list[np.ndarray]:
    """Returns the borders between tiles by axis, in px of the whole field."""
    scale = predictor.scale_for(_PIXEL_SIZE_UM)
    size = predictor.metadata.tile_px
    margin = tiling.margin_for(predictor.metadata.model_diameter_px, size)
    height, width = (max(1, round(length * scale)) for length in shape_yx)
    tiles = tiling.tiles_of((height, width), size, margin)
    cores = np.array([tile.core_yxyx for tile in tiles])
    ends = [np.unique(cores[:, axis + 2]) for axis in (0, 1)]
    return [
        end[np.isfinite(end)] / scale + first
        for end, first in zip(ends, first_yx, strict=True)
    ]


def near(middles: np.ndarray, places: list, distance: float) -> np.ndarray:
    """Returns which of (N, 2) centres are within a distance of a tile border, (N,) bool."""
    return np.any(
        [
            np.abs(middles[:, axis, None] - places[axis]).min(1, initial=np.inf)
            < distance
            for axis in (0, 1)
        ],
        axis=0,
    )


def compare(
    predictor: cc.Predictor, image: np.ndarray, whole: Cells, shift: tuple[int, int]
) -> list:
    """Returns a row of the table: cells found again without the first rows and columns."""
    top, left = shift
    cut = predictor.predict(
        np.ascontiguousarray(image[top:, left:]), pixel_size_um=_PIXEL_SIZE_UM
    )
    width = float(np.median(whole.diameters_px))
    labels = np.zeros(image.shape[:2], np.int32)
    labels[top:, left:] = cut.labels
    middles = (whole.boxes_yxyx[:, :2] + whole.boxes_yxyx[:, 2:]) / 2
    places = [
        np.concatenate(pair)
        for pair in zip(
            seams(predictor, image.shape[:2], (0, 0)),
            seams(predictor, cut.labels.shape, shift),
            strict=True,
        )
    ]
    inside = ((middles >= np.add(shift, width)) | (np.array(shift) == 0)).all(1)
    pairs = match_cells(whole.labels, labels).pairs - 1
    same = np.zeros(len(whole), bool)
    same[pairs[:, 0]] = whole.type_ids[pairs[:, 0]] == cut.type_ids[pairs[:, 1]]
    alike = np.zeros(len(whole), bool)
    alike[match_cells(whole.labels, labels, iou=0.9).pairs[:, 0] - 1] = True
    by_seam = near(middles, places, width)
    row: list[str | int] = [f"{top}, {left}"]
    for group in (inside & by_seam, inside & ~by_seam):
        row += [int(group.sum()), f"{same[group].mean():.3f}"]
        row.append(f"{alike[group].mean():.3f}")
    return row


def main(_) -> None:
    """Prints the number of cells found, and a table with a row for each shift."""
    image, labels = merged_field(
        {"HEK": 1, "N2a": 1},
        seed=5,
        cells=_CELLS.value,
        size_px=_SIZE.value,
        pixel_size_um=_PIXEL_SIZE_UM,
    )
    predictor = cc.Predictor.load(_MODEL.value)
    whole = predictor.predict(image, pixel_size_um=_PIXEL_SIZE_UM)
    matched = len(match_cells(labels, whole.labels).pairs)
    print(
        f"{labels.max()} cells; {len(whole)} found, of which {matched} match at IoU 0.5.\n"
    )
    print(
        "| left out: y, x px | cells near a tile border | same | IoU 0.9 "
        "| cells elsewhere | same | IoU 0.9 |\n" + "|---" * 7 + "|"
    )
    for shift in _SHIFTS:
        row = compare(predictor, image, whole, shift)
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    app.run(main)
