"""Fields that benchmarks draw or read."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np

from cellclass_tf.core import cells
from cellclass_tf.datasets import simulation
from cellclass_tf.datasets.culture import field as culture_field
from cellclass_tf.storage import png

# The real HEK field has been shrunk from the one width to the other.
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
    """Draws a field, of one type or of shares of several, as it would be merged.

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

    The folder has one a cell type, with NAME_img.png (red nuclei, green cytoplasm, 16 bit
    a colour) and NAME_masks.png (label images drawn by hand).
    """
    for path in sorted(folder.glob("*/*_img.png")):
        image = png.read_png(path)
        merged = np.zeros(image.shape, np.uint8)
        merged[..., 1], merged[..., 2] = image[..., 1] // 257, image[..., 0] // 257
        labels = png.read_png(path.with_name(path.name.replace("_img", "_masks")))
        yield f"{path.parent.name}/{path.stem[:-4]}", merged, contiguous(labels)


def contiguous(labels: np.ndarray) -> np.ndarray:
    """Numbers the cells of a label image anew, from 1 on."""
    return cells.Cells.from_labels(labels, ("cell",)).labels
