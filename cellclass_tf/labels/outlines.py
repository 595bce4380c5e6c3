"""Outlines: the exact border of a mask, along the edges of its pixels."""

from __future__ import annotations

import numpy as np


def outlines_of(mask: np.ndarray) -> list[np.ndarray]:
    """Follows the cracks between a mask and what is around it.

    Pixel (row 0, column 0) covers x and y from 0 to 1. No outline meets a corner twice:
    pixels that touch at a corner alone have outlines of their own, and so has a hole
    that touches the rim. All of them filled by the even-odd rule are the mask again.

    Args:
      mask: (h, w) bool.

    Returns:
      (V, 2) int32 corners (x, y) of each outline, from its topmost (then leftmost) one
      on, without those that lie on a straight line, and without repeating the first.
      Outer ones go clockwise as seen (y down), holes counter-clockwise; see
      `signed_area`. In the order of their first corners, row by row.
    """
    starts, ends = _segments(np.asarray(mask, bool))
    stride = mask.shape[1] + 1
    after = _successors(starts, ends).tolist()
    corners = (starts // 2).tolist()
    rings = []
    for corner_list in _chains(after, corners):
        rings += _without_touching(corner_list)
    outlines = [_from_first(np.array(ring, np.int64)) for ring in rings]
    outlines.sort(key=lambda ring: ring[0])
    return [np.stack((r % stride, r // stride), 1).astype(np.int32) for r in outlines]


def signed_area(outline: np.ndarray) -> float:
    """Returns the area in pixels of (V, 2) corners (x, y); negative for a hole."""
    x, y = np.asarray(outline).astype(np.float64).T
    return float(x @ np.roll(y, -1) - np.roll(x, -1) @ y) / 2


def inner_outlines(mask: np.ndarray, depth_px: float) -> list[np.ndarray]:
    """Follows the pixels of a mask that are a given depth inside it, for drawing.

    A line of twice that width, drawn along them, stays inside the mask and touches its
    border, so that the lines of neighbours lie side by side. Parts of the mask that are too
    narrow for the line have no outline, but a mask always has one: a depth of more than half
    the largest depth is reduced to that.

    Args:
      mask: (h, w) bool with at least one pixel.
      depth_px: distance from the border, 0 or more.

    Returns:
      (V, 2) float corners (x, y) of each closed outline, the first repeated at the end;
      pixel (row 0, column 0) covers x and y from 0 to 1. Corners are linear interpolations
      of the distance transform (`skimage.measure.find_contours`), so that a depth of 0 cuts
      the corners of pixels.
    """
    from scipy import ndimage
    from skimage import measure

    # Distances are those between the middles of pixels: the border is at one half.
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))
    level = 0.5 + min(depth_px, (distance.max() - 0.5) / 2)
    rings = measure.find_contours(distance, level)
    return [ring[:, ::-1] - 0.5 for ring in rings]


def _segments(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds straight parts of the border, walked with the mask to the right.

    Returns:
      (S,) int64 keys of the corners at which they start, and end: twice the corner's
      number, row by row, and one more for one of the two that may meet at a corner.
    """
    height, width = mask.shape
    padded = np.zeros((height + 2, width + 2), np.int8)
    padded[1:-1, 1:-1] = mask
    starts, ends = [], []
    # Rightwards below which the mask lies, and leftwards above which it does.
    across = np.diff(padded, axis=0)[:, 1:-1]
    # Downwards left of which the mask lies, and upwards right of which it does.
    along = np.diff(padded, axis=1)[1:-1].T
    for edges, value, code, is_along in (
        (across, 1, 1, False),
        (across, -1, 0, False),
        (along, -1, 1, True),
        (along, 1, 0, True),
    ):
        line, first, last = _runs(edges == value)
        if is_along:
            low, high = first * (width + 1) + line, last * (width + 1) + line
        else:
            low, high = line * (width + 1) + first, line * (width + 1) + last
        start, end = (low, high) if code else (high, low)
        # Where two pixels touch at a corner, a turn to the right stays at its pixel:
        # from down to left, left to up, up to right, right to down.
        starts.append(2 * start + code)
        ends.append(2 * end + (code if not is_along else 1 - code))
    return np.concatenate(starts), np.concatenate(ends)


def _runs(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns line, first and end (exclusive) of all runs of true values in lines."""
    padded = np.zeros((flags.shape[0], flags.shape[1] + 2), np.int8)
    padded[:, 1:-1] = flags
    steps = np.diff(padded, axis=1)
    line, first = np.nonzero(steps == 1)
    _, last = np.nonzero(steps == -1)
    return line, first, last


def _successors(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(S,) the segment that starts where each one ends."""
    after = np.empty(len(starts), np.int64)
    after[np.argsort(ends)] = np.argsort(starts)
    return after


def _chains(after: list[int], corners: list[int]) -> list[list[int]]:
    """Closed chains of segments, each as the corners at which they start."""
    chains, waiting = [], [True] * len(after)
    for first in range(len(after)):
        chain = []
        while waiting[first]:
            waiting[first] = False
            chain.append(corners[first])
            first = after[first]
        if chain:
            chains.append(chain)
    return chains


def _without_touching(chain: list[int]) -> list[list[int]]:
    """Parts a chain where it meets a corner again."""
    if len(set(chain)) == len(chain):
        return [chain]
    rings: list[list[int]] = []
    open_part: list[int] = []
    place: dict[int, int] = {}
    for corner in chain:
        if corner in place:
            cut = place[corner]
            rings.append(open_part[cut:])
            for left in open_part[cut:]:
                del place[left]
            del open_part[cut:]
        place[corner] = len(open_part)
        open_part.append(corner)
    return [*rings, open_part]


def _from_first(ring: np.ndarray) -> np.ndarray:
    return np.roll(ring, -int(ring.argmin()))
