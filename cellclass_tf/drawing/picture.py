"""Basics of all pictures of fields: brightness, outlines, panels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.drawing import caption
from cellclass_tf.labels import grey_levels

# Narrower fields are enlarged, since the legend needs space.
_MIN_WIDTH = 800
_GAP = 12


@dataclasses.dataclass(frozen=True)
class Pen:
    """Style of an outline, with lengths in pixels of the picture.

    Attributes:
      colour: (red, green, blue), each 0 to 255.
      width: width of the outline.
      dash: length of a dash, or None for a solid line.
    """

    colour: tuple[int, int, int]
    width: int
    dash: int | None = None


def canvas_of(image: np.ndarray) -> tuple[np.ndarray, int]:
    """Makes the picture on which outlines are drawn.

    Args:
      image: (H, W, 3) uint8 merged image.

    Returns:
      The brightened image, (s * H, s * W, 3) uint8, and the enlargement s, an integer that
      is above 1 for fields less than 800 px wide.
    """
    scale = max(1, -(-_MIN_WIDTH // image.shape[1]))
    canvas = brighten(image)
    if scale > 1:
        canvas = canvas.repeat(scale, axis=0).repeat(scale, axis=1)
    return canvas, scale


def outline_cell(
    canvas: np.ndarray, cells: Cells, index: int, scale: int, pen: Pen
) -> None:
    """Draws the outline of cell `index` + 1 on its own pixels, in place.

    In this way outlines do not cover those of neighbours. Only the cell's box is processed,
    so that little memory is needed for large fields.
    """
    top, left, bottom, right = (cells.boxes_yxyx[index] * scale).tolist()
    mask = cells.mask(index).repeat(scale, axis=0).repeat(scale, axis=1)
    _stroke(canvas[top:bottom, left:right], mask, pen)


def side_by_side(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Puts (H, W, 3) uint8 panels of any heights into one row, aligned at the top."""
    height = max(panel.shape[0] for panel in panels)
    row: list[np.ndarray] = []
    for panel in panels:
        if row:
            row.append(np.full((height, _GAP, 3), caption.BACKGROUND, np.uint8))
        row.append(_padded_to(panel, height))
    return np.concatenate(row, axis=1)


def brighten(image: np.ndarray) -> np.ndarray:
    """Increases the brightness of a dark field for viewing.

    In each channel v becomes 255 ((v - b) / (w - b))^0.7, clipped to 0 and 255. Black b is
    the 10th percentile of the field, but at most 32, so that the cells of a full field
    remain visible. White w is the 99.8th percentile, but at least 48 above b, so that a
    field of noise remains dark.

    Args:
      image: (H, W, 3) uint8.

    Returns:
      (H, W, 3) uint8.
    """
    from PIL import Image

    # About a million pixels are enough for a percentile.
    step = max(1, round((image.shape[0] * image.shape[1] / 1e6) ** 0.5))
    sample = np.moveaxis(image[::step, ::step], -1, 0)
    counts = [grey_levels.levels_of(channel) for channel in sample]
    blacks, whites = (
        np.array([grey_levels.percentile_of(levels, percent) for levels in counts])
        for percent in (10, 99.8)
    )
    blacks = np.minimum(blacks, 32)
    levels = (np.arange(256)[:, None] - blacks) / np.maximum(whites - blacks, 48)
    table = np.round(255 * np.clip(levels, 0, 1) ** 0.7).astype(np.uint8)
    # Pillow's table lookup needs an eighth of the memory of NumPy's indexing.
    return np.array(Image.fromarray(image).point(table.T.ravel().tolist()))


def outline_width(size_yx: tuple[int, ...]) -> int:
    """Returns the width of outlines: 1/400 of the longer side, but at least 2 px."""
    return max(2, round(max(size_yx) / 400))


def _stroke(crop: np.ndarray, mask: np.ndarray, pen: Pen) -> None:
    import cv2

    around = cv2.copyMakeBorder(
        mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0
    )
    depth = cv2.distanceTransform(around, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    depth = depth[1:-1, 1:-1]
    rim = mask & (depth <= pen.width)
    # A dark line on the inside separates the outline from bright cells.
    crop[mask & ~rim & (depth <= pen.width + 1)] //= 3
    if pen.dash is not None:
        gaps = rim & _between_dashes(mask, pen.dash)
        crop[gaps] //= 3
        rim &= ~gaps
    crop[rim] = pen.colour


def _between_dashes(mask: np.ndarray, dash: int) -> np.ndarray:
    """Returns (h, w) bool: sectors around the cell's centre, about `dash` px long."""
    y, x = np.nonzero(mask)
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    angle = np.arctan2(rows - y.mean(), columns - x.mean()) / (2 * np.pi)
    around = 2 * np.sqrt(np.pi * y.size)
    dashes = max(4, round(around / (2 * dash)))
    return (angle * dashes) % 1 < 0.4


def _padded_to(panel: np.ndarray, height: int) -> np.ndarray:
    shape = (height - panel.shape[0], panel.shape[1], 3)
    return np.concatenate([panel, np.full(shape, caption.BACKGROUND, np.uint8)])
