"""Pictures of a field: every cell outlined in the colour of its type, with a legend."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cellclass_tf import caption
from cellclass_tf.analysis.cell_table import UNCERTAIN_BELOW, called_probabilities
from cellclass_tf.cells import UNKNOWN, Cells

# Okabe and Ito (https://jfly.uni-koeln.de/color), told apart with any colour vision.
# First those that stand out from green and blue cells; black would vanish. Three of Paul
# Tol's light scheme (https://personal.sron.nl/~pault) make ten.
PALETTE = (
    (230, 159, 0),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (86, 180, 233),
    (255, 170, 187),
    (187, 204, 51),
    (153, 221, 255),
    (0, 158, 115),
    (0, 114, 178),
)
UNKNOWN_COLOUR = (211, 211, 211)

# Fields narrower than this are drawn with larger pixels, since a legend needs room.
_MIN_WIDTH = 800
_GAP = 12


def draw_overlay(
    image: np.ndarray,
    cells: Cells,
    *,
    name: str = "",
    pixel_size_um: float | None = None,
) -> np.ndarray:
    """Draws the outlines of the cells on the image, and a caption below it.

    The picture is for looking, not for measuring: its brightness is `brightened`. Solid
    outlines are calls of at least 0.7 probability, dashed ones are below. A field less
    than 800 px wide is enlarged by a whole number.

    Args:
      image: (H, W, 3) uint8 merged image.
      cells: the cells of the field.
      name: what stands in the caption.
      pixel_size_um: width of a pixel in µm, for a scale bar; None draws none.

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
    scale = max(1, -(-_MIN_WIDTH // image.shape[1]))
    canvas = brightened(image)
    if scale > 1:
        canvas = canvas.repeat(scale, axis=0).repeat(scale, axis=1)
    _draw_outlines(canvas, cells, scale)
    size_um = None if pixel_size_um is None else pixel_size_um / scale
    return np.concatenate([canvas, caption.draw(canvas, name, _legend(cells), size_um)])


def comparison(
    image: np.ndarray,
    true: Cells,
    predicted: Cells,
    *,
    name: str = "",
    pixel_size_um: float | None = None,
    titles: Sequence[str] = ("truth", "prediction"),
) -> np.ndarray:
    """Draws the annotated cells and, to the right of them, the predicted ones.

    Args:
      image: (H, W, 3) uint8 merged image.
      true: the annotated cells.
      predicted: the predicted cells, of the same types.
      name: what stands in the captions.
      pixel_size_um: width of a pixel in µm, for a scale bar; None draws none.
      titles: what stands above the two.

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
    for title, cells in zip(titles, (true, predicted), strict=True):
        panel = draw_overlay(image, cells, name=name, pixel_size_um=pixel_size_um)
        panels.append(np.concatenate([caption.title(panel.shape[1], title), panel]))
    height = max(panel.shape[0] for panel in panels)
    panels = [_padded_to(panel, height) for panel in panels]
    gap = np.full((height, _GAP, 3), caption.BACKGROUND, np.uint8)
    return np.concatenate([panels[0], gap, panels[1]], axis=1)


def brightened(image: np.ndarray) -> np.ndarray:
    """Lifts the brightness of a dark field for viewing.

    In each channel v becomes 255 ((v - b) / (w - b))^0.7, cut to 0 and 255. Black b is
    the 10th percentile of the field, at most 32, so that a field full of cells keeps
    them; white w is the 99.8th, at least 48 above b, so that noise alone stays dark.

    Args:
      image: (H, W, 3) uint8.

    Returns:
      (H, W, 3) uint8.
    """
    from PIL import Image

    # About a million pixels are enough for a percentile.
    step = max(1, round((image.shape[0] * image.shape[1] / 1e6) ** 0.5))
    sample = image[::step, ::step]
    blacks, whites = np.percentile(sample, (10, 99.8), axis=(0, 1))
    blacks = np.minimum(blacks, 32)
    levels = (np.arange(256)[:, None] - blacks) / np.maximum(whites - blacks, 48)
    table = np.round(255 * np.clip(levels, 0, 1) ** 0.7).astype(np.uint8)
    # Pillow looks up bytes by bytes; indices of NumPy take eight times the field.
    return np.array(Image.fromarray(image).point(table.T.ravel().tolist()))


def colour_of_type(type_id: int) -> tuple[int, int, int]:
    """Returns the (red, green, blue) of a type; 0 is unknown. Colours repeat after ten."""
    return PALETTE[(type_id - 1) % len(PALETTE)] if type_id else UNKNOWN_COLOUR


@dataclasses.dataclass(frozen=True)
class _Pen:
    """How one cell is outlined; lengths in pixels of the picture."""

    colour: tuple[int, int, int]
    width: int
    dash: int | None


def _draw_outlines(canvas: np.ndarray, cells: Cells, scale: int) -> None:
    """Draws inside each cell's own pixels, so that neighbours keep their outlines.

    One cell's box at a time, which keeps the memory small for any field.
    """
    width = outline_width(canvas.shape[:2])
    probabilities = called_probabilities(cells)
    for index, type_id in enumerate(cells.type_ids.tolist()):
        top, left, bottom, right = (cells.boxes_yxyx[index] * scale).tolist()
        mask = cells.mask(index).repeat(scale, axis=0).repeat(scale, axis=1)
        dash = 6 * width if probabilities[index] < UNCERTAIN_BELOW else None
        pen = _Pen(colour_of_type(type_id), width, dash)
        _stroke(canvas[top:bottom, left:right], mask, pen)


def outline_width(size_yx: tuple[int, int]) -> int:
    """Returns the width of outlines in pixels: at least 2, and 1 of 400."""
    return max(2, round(max(size_yx) / 400))


def _stroke(crop: np.ndarray, mask: np.ndarray, pen: _Pen) -> None:
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    rim = mask & (depth <= pen.width)
    # A dark line inside the outline sets it off from bright cells.
    crop[mask & ~rim & (depth <= pen.width + 1)] //= 3
    if pen.dash is not None:
        gaps = rim & _between_dashes(mask, pen.dash)
        crop[gaps] //= 3
        rim &= ~gaps
    crop[rim] = pen.colour


def _between_dashes(mask: np.ndarray, dash: int) -> np.ndarray:
    """Returns (h, w) bool: sectors around the cell's centre, about `dash` px long."""
    y, x = np.nonzero(mask)
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    angle = np.arctan2(rows - y.mean(), columns - x.mean()) / (2 * np.pi)
    around = 2 * np.sqrt(np.pi * y.size)
    dashes = max(4, round(around / (2 * dash)))
    return (angle * dashes) % 1 < 0.4


def _legend(cells: Cells) -> list[caption.Entry]:
    counts = np.bincount(cells.type_ids, minlength=len(cells.type_names) + 1)
    named = enumerate(cells.type_names, start=1)
    entries = [
        caption.Entry(f"{name} {counts[i]}", colour_of_type(i)) for i, name in named
    ]
    if counts[0]:
        entries.append(caption.Entry(f"{UNKNOWN} {counts[0]}", UNKNOWN_COLOUR))
    uncertain = int((called_probabilities(cells) < UNCERTAIN_BELOW).sum())
    if uncertain:
        text = f"probability below {UNCERTAIN_BELOW}: {uncertain}"
        entries.append(caption.Entry(text, (255, 255, 255), dashed=True))
    return entries


def _padded_to(panel: np.ndarray, height: int) -> np.ndarray:
    shape = (height - panel.shape[0], panel.shape[1], 3)
    return np.concatenate([panel, np.full(shape, caption.BACKGROUND, np.uint8)])
