"""Outlines: the exact borders of masks, along the edges of pixels."""

from __future__ import annotations

import numpy as np


def outlines_of(mask: np.ndarray) -> list[np.ndarray]:
    """Returns the borders between a mask and its surroundings, along pixel edges.

    Pixel (row 0, column 0) covers x and y from 0 to 1. No outline visits a corner twice:
    pixels that touch only at a corner have separate outlines, and so does a hole that
    touches the rim. Filling all outlines by the even-odd rule gives the mask again.

    Args:
      mask: (h, w) bool.

    Returns:
      (V, 2) int32 corners (x, y) of each outline, starting with its topmost (then
      leftmost) corner, without corners on straight lines, and without repeating the first.
      Outer outlines are clockwise as displayed (y down), holes counter-clockwise; see
      `signed_area`. They are sorted by their first corners, row by row.
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
    """Returns outlines at a given depth inside a mask, for drawing.

    A line of twice this width, drawn along such an outline, stays inside the mask and
    touches its border, so that the lines of neighbours are side by side. Parts of the mask
    that are too narrow for the line have no outline. Every mask has at least one outline,
    since the depth is limited to half the largest depth of the mask.

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

    # Distances are between the centres of pixels, so that the border is at one half.
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))
    level = 0.5 + min(depth_px, (distance.max() - 0.5) / 2)
    rings = measure.find_contours(distance, level)
    return [ring[:, ::-1] - 0.5 for ring in rings]


def _segments(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds straight segments of the border, directed with the mask on the right.

    Returns:
      (S,) int64 keys of the corners where the segments start and end. A key is twice the
      number of the corner, row by row; 1 is added for one of two segments that may start at
      the same corner.
    """
    height, width = mask.shape
    padded = np.zeros((height + 2, width + 2), np.int8)
    padded[1:-1, 1:-1] = mask
    starts, ends = [], []
    # To the right if the mask is below the edge, to the left if it is above.
    across = np.diff(padded, axis=0)[:, 1:-1]
    # Downwards if the mask is to the left of the edge, upwards if it is to the right.
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
        # Where two pixels touch at a corner, the outline turns right and so stays at its
        # pixel: from down to left, left to up, up to right, right to down.
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
    """Returns (S,) the index of the segment that starts where each segment ends."""
    after = np.empty(len(starts), np.int64)
    after[np.argsort(ends)] = np.argsort(starts)
    return after


def _chains(after: list[int], corners: list[int]) -> list[list[int]]:
    """Returns closed chains of segments, each as a list of the segments' first corners."""
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
    """Splits a chain where it visits a corner again."""
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
