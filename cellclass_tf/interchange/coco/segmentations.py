"""Converts masks to segmentations of COCO (run lengths or polygons), and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf.core.drawn_cells import DrawnCell
from cellclass_tf.errors import InputError
from cellclass_tf.labels.outlines import outlines_of, signed_area

# How far a polygon may extend beyond its image, which then cuts it off.
_OUTSIDE_PX = 2
# Longest outline of a cell; filling it takes some 60 bytes of memory per pixel.
_LONGEST_OUTLINE_PX = 1_000_000
# Largest coordinate; integers in JSON can be too large for floats.
_FARTHEST_PX = 1e300


def polygons_of(mask: np.ndarray, corner_yx: tuple[int, int]) -> list[list[int]] | None:
    """Returns [x, y, x, y, …] for every part of a mask; None if the mask has a hole."""
    outlines = outlines_of(mask)
    if any(signed_area(outline) < 0 for outline in outlines):
        return None
    return [(outline + corner_yx[::-1]).ravel().tolist() for outline in outlines]


def short(value: Any) -> str:
    """Returns a value as text for a message, cut after 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def drawn_cell_of(segmentation: Any, shape_yx: tuple[int, int]) -> DrawnCell | None:
    """Converts polygons or run lengths (compressed or not) to a mask.

    Polygons are filled as by pycocotools; all polygons of a segmentation form one cell.

    Args:
      segmentation: segmentation of a COCO annotation.
      shape_yx: height and width of its image.

    Returns:
      The mask in its box; None if it covers no pixel of the image.

    Raises:
      InputError: if the segmentation is not valid, or does not fit the image.
    """
    if isinstance(segmentation, Mapping):
        counts = _checked_counts(segmentation, shape_yx)
    elif isinstance(segmentation, Sequence) and not isinstance(segmentation, str):
        counts = _counts_of_polygons(segmentation, shape_yx)
    else:
        raise InputError(
            "expected a list of polygons, or run lengths (size and counts), got "
            f"{short(segmentation)}"
        )
    return _piece_of_counts(counts, shape_yx[0])


def _counts_of_polygons(polygons: Sequence, shape_yx: tuple[int, int]) -> np.ndarray:
    from pycocotools import mask as coco_mask

    corners = [_checked_polygon(polygon, shape_yx) for polygon in polygons]
    steps = (np.diff(xy.reshape(-1, 2), axis=0) for xy in corners)
    length = sum(float(np.abs(step).max(axis=1).sum()) for step in steps)
    if length > _LONGEST_OUTLINE_PX:
        raise InputError(f"an outline is {length:,.0f} px long, too long for a cell")
    # pycocotools follows the outlines, without an array of the image's size.
    parts = coco_mask.frPyObjects([xy.tolist() for xy in corners], *shape_yx)
    return _decompress(coco_mask.merge(parts)["counts"])


def _checked_polygon(polygon: Any, shape_yx: tuple[int, int]) -> np.ndarray:
    """Returns the coordinates of a valid polygon: (2 V,) float64, x and y in turn."""
    if not isinstance(polygon, Sequence) or isinstance(polygon, str):
        raise InputError(
            f"expected polygons [[x, y, x, y, …], …], got {short(polygon)}"
        )
    if len(polygon) % 2:
        raise InputError(f"a polygon has an odd number of coordinates, {len(polygon)}")
    if len(polygon) < 6:
        raise InputError(
            f"a polygon has {len(polygon) // 2} points, and needs at least 3"
        )
    if not all(type(value) in (int, float) for value in polygon):
        stranger = next(v for v in polygon if type(v) not in (int, float))
        raise InputError(f"a polygon has {short(stranger)} as a coordinate")
    if not all(abs(value) < _FARTHEST_PX for value in polygon):
        raise InputError("a polygon has a coordinate that is not finite")
    coordinates = np.array(polygon, np.float64)
    for axis, side in enumerate(shape_yx[::-1]):
        low, high = coordinates[axis::2].min(), coordinates[axis::2].max()
        if low < -_OUTSIDE_PX or high > side + _OUTSIDE_PX:
            raise InputError(
                f"a polygon goes from {'xy'[axis]} = {low:g} to {high:g}, out of the "
                f"image, which has {side} px there"
            )
    return coordinates


def _checked_counts(runs: Mapping[str, Any], shape_yx: tuple[int, int]) -> np.ndarray:
    """Returns the lengths of runs down the columns, (R,) int64, first of background."""
    if runs.get("size") != list(shape_yx):
        raise InputError(
            f"run lengths of the size {short(runs.get('size'))}, but the image has "
            f"{list(shape_yx)} (height, width)"
        )
    counts = runs.get("counts")
    if isinstance(counts, str | bytes):
        counts = _decompress(counts)
    elif not isinstance(counts, list) or not all(type(n) is int for n in counts):
        raise InputError(f"expected run lengths, got counts {short(counts)}")
    height, width = shape_yx
    low, high = min(counts, default=0), max(counts, default=0)
    total = int(sum(counts)) if high <= height * width else high
    if low < 0 or total != height * width:
        raise InputError(
            f"expected run lengths that add up to the image's {height * width} px, none "
            f"of them negative; got a sum of {total}, the smallest is {low}"
        )
    return np.array(counts, np.int64)


def _decompress(counts: str | bytes) -> np.ndarray:
    """Decompresses run lengths of pycocotools (rleToString in maskApi.c).

    Each number is a sequence of digits of 5 bits, the lowest first. 48 is added to every
    digit, and 32 to all but the last digit of a number. From the fourth number on, a number
    is the difference to the one two places before it.
    """
    text = counts.encode("utf-8") if isinstance(counts, str) else counts
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not digits.size or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise InputError("the compressed run lengths are damaged or truncated")
    last = np.flatnonzero(digits & 32 == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last - first + 1
    if lengths.max() > 7:
        raise InputError(
            "the compressed run lengths are damaged: a number is too large"
        )
    place = np.arange(digits.size) - np.repeat(first, lengths)
    values = np.add.reduceat((digits & 31) << (5 * place), first)
    values -= (digits[last] & 16 > 0) * (1 << 5 * lengths)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _piece_of_counts(counts: np.ndarray, height: int) -> DrawnCell | None:
    """Draws runs into a mask of the size of their box."""
    ends = np.cumsum(counts)
    start, stop = ends[: ends.size // 2 * 2 : 2], ends[1::2]
    is_run = stop > start
    start, stop = start[is_run], stop[is_run]
    if not start.size:
        return None
    left, right = int(start[0] // height), int((stop[-1] - 1) // height) + 1
    if (start // height == (stop - 1) // height).all():
        top, bottom = int((start % height).min()), int(((stop - 1) % height).max()) + 1
    else:
        # A run continues in the next column, so that the box has the image's full height.
        top, bottom = 0, height
    size = (right - left) * (bottom - top)
    first = (start // height - left) * (bottom - top) + start % height - top
    steps = np.zeros(size + 1, np.int8)
    steps[first] += 1
    steps[first + stop - start] -= 1
    drawn = np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
    mask = np.ascontiguousarray(drawn.reshape(right - left, bottom - top).T)
    return DrawnCell((top, left), mask)
