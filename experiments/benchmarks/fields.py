"""Fields that benchmarks draw."""

from __future__ import annotations

import numpy as np

from cellclass_tf.datasets.culture import field as culture_field

_FULL_COUNTS = 1800


def merged_field(
    cell_type: str, seed: int, *, cells: int, size_px: int, pixel_size_um: float = 0.325
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a pure field, as it would be merged.

    Returns:
      The image, (H, W, 3) uint8, and its labels, (H, W) int32.
    """
    rng = np.random.default_rng(seed)
    found = culture_field.simulate_field(
        {cell_type: 1.0},
        size_px=size_px,
        rng=rng,
        dish=culture_field.Dish.random(rng),
        pixel_size_um=pixel_size_um,
        cells=cells,
    )
    grey = (np.clip(found.pixels / _FULL_COUNTS, 0, 1) * 255).astype(np.uint8)
    image = np.stack([np.zeros_like(grey[0]), grey[1], grey[0]], axis=-1)
    return image, found.labels
