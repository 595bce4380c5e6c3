"""Cells and their pieces."""

from __future__ import annotations

import numpy as np

# Pixels that touch at a corner are of one piece.
_NEIGHBOURS = np.ones((3, 3), int)


def keep_labels(labels: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Returns (H, W) int32 labels 1..M of the cells that are kept, in their order.

    Args:
      labels: (H, W) label image, labels up to N.
      kept: (N + 1,) bool by label; background is none of them.
    """
    from skimage import segmentation

    chosen = np.where(kept[labels], labels, 0)
    return segmentation.relabel_sequential(chosen)[0].astype(np.int32)


def keep_largest_pieces(labels: np.ndarray, *, fill_holes: bool = False) -> int:
    """Leaves of every cell its largest piece, in place.

    Args:
      labels: (H, W) label image of any integer type.
      fill_holes: whether background that a cell encloses becomes part of it.

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


def second_largest_pieces(labels: np.ndarray) -> dict[int, int]:
    """Returns, by label, the pixels of the second largest piece of cells in pieces."""
    from scipy import ndimage

    found = {}
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        pieces, count = ndimage.label(labels[box] == index, _NEIGHBOURS)
        if count > 1:
            found[index] = int(np.sort(np.bincount(pieces.ravel())[1:])[-2])
    return found
