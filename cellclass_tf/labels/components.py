"""Connected pieces of cells in label images."""

from __future__ import annotations

import numpy as np

from cellclass_tf.labels.sizes import diameters_of

# Pixels that touch at a corner belong to one piece.
_NEIGHBOURS = np.ones((3, 3), int)
# Limits of `mend_pieces`. In nine fields of three types with masks drawn by hand, two of 561
# cells have pieces that are not slips: of 27 and 6 % of the largest piece, at distances of
# 0.3 and 0.03 diameters.
_SLIP_PX, _SLIP_SHARE = 15, 0.05
_NEAR_DIAMETERS, _SMALLER = 0.5, 0.5


def keep_labels(labels: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Returns (H, W) int32 labels 1..M of the cells to keep, in the same order.

    Args:
      labels: (H, W) label image with labels up to N.
      kept: (N + 1,) bool, whether to keep each label; False for the background.
    """
    from skimage import segmentation

    chosen = np.where(kept[labels], labels, 0)
    return segmentation.relabel_sequential(chosen)[0].astype(np.int32)


def keep_largest_pieces(labels: np.ndarray, *, fill_holes: bool = False) -> int:
    """Removes all but the largest piece of every cell, in place.

    Args:
      labels: (H, W) label image of any integer type.
      fill_holes: whether background that a cell encloses becomes part of the cell.

    Returns:
      The number of pixels that became background.
    """
    from scipy import ndimage

    dropped = 0
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        cell = labels[box] == index
        pieces, count = ndimage.label(cell, _NEIGHBOURS)
        if count > 1:
            sizes = np.bincount(pieces.ravel())[1:]
            cell = pieces == sizes.argmax() + 1
            labels[box][(pieces > 0) & ~cell] = 0
            dropped += int(sizes.sum() - sizes.max())
        if fill_holes:
            holes = ndimage.binary_fill_holes(cell) & (labels[box] == 0)
            labels[box][holes] = index
    return dropped


def mend_pieces(labels: np.ndarray) -> int:
    """Removes slips of the pen, in place, and checks that a number is one cell only.

    A separate piece is a slip if it has at most 15 px and at most a twentieth of the cell's
    area. A larger piece belongs to the cell if it is at most half as large as the largest
    piece and at most half the cell's diameter away, for example because another cell lies
    across the cell.

    Args:
      labels: (H, W) label image of any integer type.

    Returns:
      The number of pixels that became background.

    Raises:
      ValueError: if a number stands for several cells; the message names it.
    """
    from scipy import ndimage

    dropped, present = 0, np.unique(labels[labels > 0])
    # find_objects needs small numbers.
    compact = np.where(labels > 0, np.searchsorted(present, labels) + 1, 0)
    for index, box in enumerate(ndimage.find_objects(compact), start=1):
        pieces, count = ndimage.label(compact[box] == index, _NEIGHBOURS)
        if count < 2:
            continue
        sizes = np.bincount(pieces.ravel())[1:]
        main = int(sizes.argmax()) + 1
        gaps = ndimage.distance_transform_edt(pieces != main)
        near = _NEAR_DIAMETERS * diameters_of(sizes.sum())
        for piece in range(1, count + 1):
            size, there = int(sizes[piece - 1]), pieces == piece
            if piece == main:
                continue
            if size <= min(_SLIP_PX, _SLIP_SHARE * sizes.sum()):
                labels[box][there] = 0
                dropped += size
                continue
            gap = float(gaps[there].min()) - 1
            if size > _SMALLER * sizes[main - 1] or gap > near:
                raise ValueError(
                    f"number {present[index - 1]} is in {count} pieces, of {sizes[main - 1]} and "
                    f"{size} px, {gap:.0f} px apart, so that several cells seem to have "
                    "one number. Give each cell a number of its own"
                )
    return dropped
