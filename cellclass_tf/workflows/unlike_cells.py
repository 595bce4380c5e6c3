"""Draws cells that look unlike the training cells, beside the most similar of those."""

from __future__ import annotations

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.drawing import caption
from cellclass_tf.maskrcnn import familiarity

_SHOWN_CELLS, _NEAREST = 6, 3
_ENLARGED = 3
_GAP_PX = 12
_GAMMA = 0.6


def draw(
    image: np.ndarray,
    cells: Cells,
    distances: np.ndarray,
    known: familiarity.Familiarity,
    scale: float,
    name: str,
) -> np.ndarray:
    """Draws the most unusual cells of a field, each with the most similar training cells.

    Args:
      image: (H, W, 3) uint8 merged image.
      cells: N cells with features.
      distances: (N,) distances of the cells from the training cells; 1 is the limit.
      known: the model's training cells.
      scale: pixels of the network per pixel of the image.
      name: name of the field.

    Returns:
      (H', W', 3) uint8; each cell is in the middle of its picture, all pictures have the
      same contrast, cytoplasm is green and nuclei are blue.

    Raises:
      ValueError: if the cells have no features.
    """
    from PIL import Image, ImageDraw

    if cells.features is None:
        raise ValueError(f"{name}: expected cells with features.")
    shown = np.argsort(-distances, kind="stable")[:_SHOWN_CELLS]
    nearest = known.nearest(cells.features[shown], _NEAREST)
    side = familiarity.PICTURE_PX * _ENLARGED
    step, unit = side + _GAP_PX, 16
    width = _GAP_PX + (1 + _NEAREST) * step + _GAP_PX
    head = 4 * unit
    canvas = Image.new(
        "RGB", (width, head + len(shown) * (step + unit)), caption.BACKGROUND
    )
    pen = ImageDraw.Draw(canvas)
    pen.font = caption.font(unit - 3)
    title = caption.fit_text(pen, name, width - 2 * _GAP_PX)
    pen.text((_GAP_PX, _GAP_PX // 2), title, caption.INK)
    pen.text((_GAP_PX, 2 * unit), "this field", caption.INK)
    pen.text((2 * _GAP_PX + step, 2 * unit), "most similar training cells", caption.INK)
    for row, (index, known_cells) in enumerate(zip(shown, nearest, strict=True)):
        top = head + row * (step + unit)
        own = familiarity.picture_of(image, cells, index, scale)
        label = f"cell {index + 1}, {distances[index]:.1f} × limit"
        panels = [(own, label)]
        for number in known_cells:
            of_type = cells.type_names[known.type_ids[number] - 1]
            panels.append((known.pictures[number], of_type))
        for column, (planes, text) in enumerate(panels):
            left = _GAP_PX + column * step + (_GAP_PX if column else 0)
            merged = np.concatenate([np.zeros_like(planes[..., :1]), planes], axis=-1)
            # The same gamma for all pictures, so that brightness can be compared.
            pixels = np.round(255 * (merged / 255) ** _GAMMA).astype(np.uint8)
            pixels = pixels.repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)
            canvas.paste(Image.fromarray(pixels), (left, top))
            pen.text(
                (left, top + side + 2), caption.fit_text(pen, text, side), caption.INK
            )
    return np.asarray(canvas)
