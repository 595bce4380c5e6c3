"""Measures the brightness of cells in raw counts above the background of their field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import grey_levels

# Names of the second and the third channel of a merged image.
CHANNELS = ("cytoplasm", "nuclei")
# Contrast limits: the raw counts that became the grey levels 0 and 255.
Limits = tuple[float, float]
# If less than this fraction of a field is outside of cells, the background is taken from
# its darkest pixels.
_LEAST_BACKGROUND = 0.02
# Quantile of all pixels that is then the background.
_DARKEST = 0.01


def columns() -> tuple[str, ...]:
    """Returns the names of the columns of `counts_of`, in order."""
    kinds = ("mean", "integrated")
    return tuple(f"{kind}_{channel}_counts" for channel in CHANNELS for kind in kinds)


def counts_of(
    cells: Cells,
    image: np.ndarray | None,
    limits: Mapping[str, Limits] | None,
    means: Mapping[str, Sequence[float]],
) -> dict[str, Sequence[float | None] | np.ndarray]:
    """Returns the mean and the sum of each cell's raw counts above the background.

    Grey levels are linear in the raw counts between the contrast limits, so they can be
    converted back. A single grey level is exact to 1/255 of the range of the limits, and the
    mean of many pixels is more exact. Pixels beyond the limits were clipped; the columns
    `nuclei_clipped` and `cytoplasm_clipped` of images.csv say how many. The background is
    the median of the pixels outside of all cells, or the 1st percentile of the field if
    there are hardly any such pixels.

    Args:
      cells: N cells of a field.
      image: (H, W, 3) uint8 merged image; None if unknown.
      limits: contrast limits by channel; None if unknown.
      means: (N,) mean grey level of each cell, by channel.

    Returns:
      {column: (N,) values} for each of `columns()`; the values are None if image or limits
      are unknown.
    """
    if image is None or limits is None:
        return dict.fromkeys(columns(), [None] * len(cells))
    found: dict[str, Sequence[float | None] | np.ndarray] = {}
    for place, channel in enumerate(CHANNELS, start=1):
        plane = image[..., place]
        levels, share = grey_levels.levels_outside(plane, cells.labels), 0.5
        if levels.sum() < _LEAST_BACKGROUND * plane.size:
            levels, share = grey_levels.levels_of(plane), _DARKEST
        low, high = limits[channel]
        above = (
            (np.asarray(means[channel]) - _quantile(levels, share)) * (high - low) / 255
        )
        found[f"mean_{channel}_counts"] = above
        found[f"integrated_{channel}_counts"] = above * cells.areas_px
    return found


def _quantile(levels: np.ndarray, share: float) -> float:
    """Returns a quantile of grey levels, interpolated within a level.

    The values that were rounded to a level are assumed to be spread evenly around it.

    Args:
      levels: (256,) number of pixels with each grey level.
      share: fraction of the pixels below the quantile.
    """
    below = np.concatenate([[0], np.cumsum(levels)])
    wanted = share * below[-1]
    level = int(np.searchsorted(below[1:], wanted))
    inside = (wanted - below[level]) / max(levels[level], 1)
    return level + inside - 0.5
