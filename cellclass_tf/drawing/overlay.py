"""Draws a field with every cell outlined in the colour of its type, and a legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellclass_tf.core.cells import UNCERTAIN_BELOW, UNKNOWN, Cells
from cellclass_tf.drawing import caption, palette, picture


def draw_overlay(
    image: np.ndarray,
    cells: Cells,
    *,
    name: str = "",
    pixel_size_um: float | None = None,
    min_probability: float = UNCERTAIN_BELOW,
    marked: np.ndarray | None = None,
) -> np.ndarray:
    """Draws the outlines of the cells on the image, and a caption below it.

    The picture is for viewing, not for measuring, since `picture.brighten` changes its
    brightness. Outlines are solid for types of at least `min_probability`, and dashed for
    others. A field less than 800 px wide is enlarged by an integer factor.

    Args:
      image: (H, W, 3) uint8 merged image.
      cells: the cells of the field.
      name: name of the image for the caption.
      pixel_size_um: width of a pixel in µm, for a scale bar; None draws none.
      min_probability: probability of a type from which on the outline is solid.
      marked: (N,) bool, the cells to mark; others are outlined in dark grey. None marks
        all cells.

    Returns:
      (s * H + caption, s * W, 3) uint8 for the enlargement s.

    Raises:
      ValueError: if the image does not have the size of the label image.
    """
    if image.shape != (*cells.labels.shape, 3) or image.dtype != np.uint8:
        raise ValueError(
            f"{name}: expected a merged image {(*cells.labels.shape, 3)} of uint8 for "
            f"these cells; got {image.shape} of {image.dtype}."
        )
    canvas, scale = picture.canvas_of(image)
    _draw_outlines(canvas, cells, scale, min_probability, marked)
    size_um = None if pixel_size_um is None else pixel_size_um / scale
    legend = _legend(cells, min_probability)
    return np.concatenate([canvas, caption.draw(canvas, name, legend, size_um)])


def comparison(
    image: np.ndarray,
    true: Cells,
    predicted: Cells,
    *,
    name: str = "",
    pixel_size_um: float | None = None,
    titles: Sequence[str] = ("truth", "prediction"),
    marked: Sequence[np.ndarray | None] = (None, None),
) -> np.ndarray:
    """Draws the annotated cells, and the predicted ones to the right of them.

    Args:
      image: (H, W, 3) uint8 merged image.
      true: the annotated cells.
      predicted: the predicted cells, of the same types.
      name: name of the image for the captions.
      pixel_size_um: width of a pixel in µm, for a scale bar; None draws none.
      titles: titles above the two pictures.
      marked: the cells to mark in each picture; see `draw_overlay`.

    Returns:
      (H', W', 3) uint8.

    Raises:
      ValueError: if the types or the sizes of the two differ.
    """
    if true.type_names != predicted.type_names:
        raise ValueError(
            f"{name}: expected the same types on both sides, since the order gives the "
            f"colours; got {true.type_names} and {predicted.type_names}."
        )
    panels = []
    sides = zip(titles, (true, predicted), marked, strict=True)
    for title, cells, few in sides:
        panel = draw_overlay(
            image, cells, name=name, pixel_size_um=pixel_size_um, marked=few
        )
        panels.append(np.concatenate([caption.title(panel.shape[1], title), panel]))
    return picture.side_by_side(panels)


def _draw_outlines(
    canvas: np.ndarray,
    cells: Cells,
    scale: int,
    min_probability: float,
    marked: np.ndarray | None,
) -> None:
    width = picture.outline_width(canvas.shape[:2])
    probabilities = cells.called_probabilities
    for index, type_id in enumerate(cells.type_ids.tolist()):
        dash = 6 * width if probabilities[index] < min_probability else None
        colour = palette.colour_of_type(type_id)
        if marked is not None and not marked[index]:
            colour, dash = palette.UNMARKED, None
        pen = picture.Pen(colour, width, dash)
        picture.outline_cell(canvas, cells, index, scale, pen)


def _legend(cells: Cells, min_probability: float) -> list[caption.LegendEntry]:
    counts = np.bincount(cells.type_ids, minlength=len(cells.type_names) + 1)
    named = enumerate(cells.type_names, start=1)
    entries = [
        caption.LegendEntry(f"{name} {counts[i]}", palette.colour_of_type(i))
        for i, name in named
    ]
    if counts[0]:
        entries.append(caption.LegendEntry(f"{UNKNOWN} {counts[0]}", palette.UNKNOWN))
    uncertain = int((cells.called_probabilities < min_probability).sum())
    if uncertain:
        text = f"probability below {min_probability:g}: {uncertain}"
        entries.append(caption.LegendEntry(text, palette.WHITE, dashed=True))
    return entries
