"""Simulates and reads fields for benchmarks."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np

from cellclass_tf.core import cells
from cellclass_tf.datasets import simulation
from cellclass_tf.datasets.culture import field as culture_field
from cellclass_tf.storage import png

# The real HEK field was reduced from the first width to the second.
SIZE_PX, SHRUNK_PX = 1104, 844
REAL_HEK_PIXEL_SIZE_UM = simulation.PIXEL_SIZE_UM * SIZE_PX / SHRUNK_PX

_FULL_COUNTS = 1800


def merged_field(
    types: str | dict[str, float],
    seed: int,
    *,
    cells: int,
    size_px: int,
    pixel_size_um: float = 0.325,
) -> tuple[np.ndarray, np.ndarray]:
    """Simulates a merged field.

    Args:
      types: cell type, or proportions of several types.
      seed: random seed.
      cells: number of cells.
      size_px: width and height of the field.
      pixel_size_um: pixel size.

    Returns:
      The image, (H, W, 3) uint8, and its labels, (H, W) int32.
    """
    rng = np.random.default_rng(seed)
    found = culture_field.simulate_field(
        {types: 1.0} if isinstance(types, str) else types,
        size_px=size_px,
        rng=rng,
        dish=culture_field.Dish.random(rng),
        pixel_size_um=pixel_size_um,
        cells=cells,
    )
    grey = (np.clip(found.pixels / _FULL_COUNTS, 0, 1) * 255).astype(np.uint8)
    image = np.stack([np.zeros_like(grey[0]), grey[1], grey[0]], axis=-1)
    return image, found.labels


def drawn_by_hand(folder: pathlib.Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields names, merged images and labels of real fields.

    The folder has a subfolder per cell type, with NAME_img.png (red nuclei, green
    cytoplasm, 16 bits per colour) and NAME_masks.png (hand-drawn label images).
    """
    for path in sorted(folder.glob("*/*_img.png")):
        image = png.read_png(path)
        merged = np.zeros(image.shape, np.uint8)
        merged[..., 1], merged[..., 2] = image[..., 1] // 257, image[..., 0] // 257
        labels = png.read_png(path.with_name(path.name.replace("_img", "_masks")))
        yield f"{path.parent.name}/{path.stem[:-4]}", merged, contiguous(labels)


def contiguous(labels: np.ndarray) -> np.ndarray:
    """Renumbers the cells of a label image from 1 to N."""
    return cells.Cells.from_labels(labels, ("cell",)).labels
