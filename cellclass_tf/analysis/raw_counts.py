"""How bright cells are in the numbers of the raw file, above the field's background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import grey_levels

# Channels of a merged image, from its second on.
CHANNELS = ("cytoplasm", "nuclei")
# (low, high) in raw numbers that grey levels 0 and 255 of a merged image stand for.
Limits = tuple[float, float]
# With less background than this the darkest pixels are taken for it.
_LEAST_BACKGROUND = 0.02
_DARKEST = 0.01


def columns() -> tuple[str, ...]:
    """Names of the columns of `counts_of`, in order."""
    kinds = ("mean", "integrated")
    return tuple(f"{kind}_{channel}_counts" for channel in CHANNELS for kind in kinds)


def counts_of(
    cells: Cells,
    image: np.ndarray | None,
    limits: Mapping[str, Limits] | None,
    means: Mapping[str, Sequence[float]],
) -> dict[str, Sequence[float | None] | np.ndarray]:
    """Returns the mean and the sum of each cell's raw counts above the background.

    Grey levels are a straight line between the contrast limits of the raw counts, so that
    they can be turned back: means are as exact as 1/255 of the range, less what many pixels
    average out. Pixels beyond the limits were cut, which `nuclei_clipped` and
    `cytoplasm_clipped` of the manifest tell of. The background is the median of the pixels
    outside of all cells; where there are hardly any, the field's 1st percentile.

    Args:
      cells: of the field.
      image: (H, W, 3) uint8 merged image; None if it is not known.
      limits: of each of CHANNELS; None if the raw numbers are not known.
      means: (N,) mean grey level of each cell, by channel.

    Returns:
      (N,) of each of `columns()`; None where they are not known.
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
    """A quantile of grey levels, by how many pixels have each; exact between levels.

    A level stands for all values that are rounded to it, evenly spread.
    """
    below = np.concatenate([[0], np.cumsum(levels)])
    wanted = share * below[-1]
    level = int(np.searchsorted(below[1:], wanted))
    inside = (wanted - below[level]) / max(levels[level], 1)
    return level + inside - 0.5
