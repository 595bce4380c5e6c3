"""Draws many fields in one picture, the worst first, so that a person can judge them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellclass_tf.core.manifest import REJECTED, words_of_reason
from cellclass_tf.drawing import caption

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

# The largest number of fields on one sheet.
MOST_FIELDS = 40

_COLUMNS = 4
_VIEW_PX, _GAP_PX, _TEXT_PX, _TITLE_PX = 236, 12, 15, 24
_TILE_PX = 2 * _VIEW_PX + 4
_REJECTED_INK, _QUIET_INK = (240, 130, 40), (170, 170, 170)


@dataclasses.dataclass(frozen=True)
class SheetField:
    """One field of a contact sheet.

    Attributes:
      name: name of the image.
      thumbnail: its views, made by `thumbnail`.
      verdict: 'accepted' or 'rejected'.
      reason: why it is rejected; '' if it is not.
      figures: its measurements in one line.
    """

    name: str
    thumbnail: np.ndarray
    verdict: str
    reason: str
    figures: str


def thumbnail(merged: np.ndarray) -> np.ndarray:
    """Makes two views of a field: the whole field, and a detail at full size.

    A reduced field always looks sharp, so that focus can only be judged at full size. The
    detail lies where the field has most structure. Grey values are brightened in the same
    way for all fields, 255 (v / 255)^0.7, so that fields of one contrast can be compared.
    Nuclei are light blue, since pure blue is dark on a screen.

    Args:
      merged: (H, W, 3) uint8.

    Returns:
      (236, 476, 3) uint8.
    """
    views = np.full((_VIEW_PX, _TILE_PX, 3), caption.BACKGROUND, np.uint8)
    whole = _reduce(merged)
    top, left = ((_VIEW_PX - n) // 2 for n in whole.shape[:2])
    views[top : top + whole.shape[0], left : left + whole.shape[1]] = _colour(whole)
    detail = _detail(merged)
    height, width = detail.shape[:2]
    views[:height, -_VIEW_PX : _TILE_PX - _VIEW_PX + width] = _colour(detail)
    return views


def draw(title: str, fields: Sequence[SheetField], total: int) -> np.ndarray:
    """Draws the fields in the given order, with a frame around rejected ones.

    Args:
      title: title of the sheet.
      fields: the fields to draw, at most MOST_FIELDS.
      total: number of fields in the group.

    Returns:
      (H, 1960, 3) uint8.
    """
    from PIL import Image, ImageDraw

    rows = -(-len(fields) // _COLUMNS)
    step_y = _VIEW_PX + 3 * (_TEXT_PX + 5) + _GAP_PX + 6
    head = 2 * _TITLE_PX + 2 * _TEXT_PX
    width = _COLUMNS * (_TILE_PX + _GAP_PX) + _GAP_PX
    canvas = Image.new(
        "RGB", (width, head + rows * step_y + _GAP_PX), caption.BACKGROUND
    )
    pen = ImageDraw.Draw(canvas)
    _draw_head(pen, title, fields, total, width)
    pen.font = caption.font(_TEXT_PX)
    for number, field in enumerate(fields):
        row, column = divmod(number, _COLUMNS)
        left = _GAP_PX + column * (_TILE_PX + _GAP_PX)
        _draw_field(canvas, pen, field, left, head + row * step_y)
    return np.asarray(canvas)


def draw_beside(cultures: Mapping[str, Sequence[SheetField]]) -> np.ndarray:
    """Draws fields of each culture in a column, all in the same contrast.

    Args:
      cultures: a few fields of each culture, by its name.

    Returns:
      (H, W, 3) uint8.
    """
    from PIL import Image, ImageDraw

    rows = max(len(fields) for fields in cultures.values())
    step_y = _VIEW_PX + 2 * (_TEXT_PX + 5) + _GAP_PX
    head = 3 * _TITLE_PX + _TEXT_PX
    width = len(cultures) * (_TILE_PX + _GAP_PX) + _GAP_PX
    canvas = Image.new("RGB", (width, head + rows * step_y), caption.BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    for column, (name, fields) in enumerate(cultures.items()):
        left = _GAP_PX + column * (_TILE_PX + _GAP_PX)
        pen.font = caption.font(_TITLE_PX)
        pen.text((left, _GAP_PX), caption.fit_text(pen, name, _TILE_PX), caption.INK)
        pen.font = caption.font(_TEXT_PX)
        if not column:
            text = "The same contrast everywhere: dishes should look alike."
            text = caption.fit_text(pen, text, width - 2 * _GAP_PX)
            pen.text((left, _GAP_PX + 1.5 * _TITLE_PX), text, _QUIET_INK)
        for row, field in enumerate(fields):
            top = head + row * step_y
            canvas.paste(Image.fromarray(field.thumbnail), (left, top))
            for number, text in enumerate((field.name, field.figures)):
                y = top + _VIEW_PX + 4 + number * (_TEXT_PX + 5)
                ink = _QUIET_INK if number else caption.INK
                pen.text((left, y), caption.fit_text(pen, text, _TILE_PX), ink)
    return np.asarray(canvas)


def _draw_head(
    pen: ImageDraw.ImageDraw,
    title: str,
    fields: Sequence[SheetField],
    total: int,
    width: int,
) -> None:
    shown = (
        f"all {total} fields"
        if len(fields) == total
        else f"{len(fields)} worst of {total:,} fields"
    )
    rejected = sum(field.verdict == REJECTED for field in fields)
    pen.font = caption.font(_TITLE_PX)
    name = caption.fit_text(pen, title, width * 0.6)
    text = f"{name}: {shown}, {rejected} of them rejected"
    pen.text((_GAP_PX, _GAP_PX), text, caption.INK)
    pen.font = caption.font(_TEXT_PX)
    text = (
        "Worst first. Left: the whole field, right: a detail at full size; cytoplasm "
        "green, nuclei light blue. To change a verdict, write accepted or rejected into "
        "the column verdict of images.csv."
    )
    pen.text((_GAP_PX, _GAP_PX + 1.5 * _TITLE_PX), text, _QUIET_INK)


def _draw_field(
    canvas: Image.Image,
    pen: ImageDraw.ImageDraw,
    field: SheetField,
    left: int,
    top: int,
) -> None:
    from PIL import Image

    canvas.paste(Image.fromarray(field.thumbnail), (left, top))
    is_rejected = field.verdict == REJECTED
    colour = _REJECTED_INK if is_rejected else (70, 70, 70)
    around = 4 if is_rejected else 1
    box = (left - around, top - around, left + _TILE_PX + around - 1)
    pen.rectangle((*box, top + _VIEW_PX + around - 1), outline=colour, width=around)
    lines = (
        (field.name, caption.INK),
        (
            _fit_reason(pen, field.reason or field.verdict),
            _REJECTED_INK if is_rejected else _QUIET_INK,
        ),
        (field.figures, _QUIET_INK),
    )
    for number, (text, ink) in enumerate(lines):
        y = top + _VIEW_PX + 6 + number * (_TEXT_PX + 5)
        pen.text((left, y), caption.fit_text(pen, text, _TILE_PX), ink)


def _fit_reason(pen: ImageDraw.ImageDraw, reason: str) -> str:
    """Returns the reasons, without their numbers if these do not fit."""
    if pen.textlength(reason) <= _TILE_PX:
        return reason
    return "; ".join(words_of_reason(reason))


def _reduce(merged: np.ndarray) -> np.ndarray:
    """Returns the whole field at the size of the view, averaged over areas."""
    from PIL import Image

    height, width = merged.shape[:2]
    scale = _VIEW_PX / max(height, width)
    if scale >= 1:
        return merged[:_VIEW_PX, :_VIEW_PX]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Reducing by a whole number first is fast.
    step = max(1, int(1 / scale))
    small = Image.fromarray(merged).reduce(step)
    return np.asarray(small.resize(size, Image.Resampling.BOX))


def _detail(merged: np.ndarray) -> np.ndarray:
    """Returns the part with most structure, of a grid of parts as large as the view."""
    rows, columns = (max(1, n // _VIEW_PX) for n in merged.shape[:2])
    height, width = (min(n, _VIEW_PX) for n in merged.shape[:2])
    step = max(1, height // 32)
    grid = merged[: rows * height, : columns * width, 1:]
    parts = grid.reshape(rows, height, columns, width, 2)[:, ::step, :, ::step]
    structure = parts.astype(np.float32).sum(axis=-1).var(axis=(1, 3))
    row, column = np.unravel_index(int(np.argmax(structure)), structure.shape)
    top, left = row * height, column * width
    return merged[top : top + height, left : left + width]


def _colour(merged: np.ndarray) -> np.ndarray:
    lifted = (255 * (np.arange(256) / 255) ** 0.7).astype(np.uint16)[merged]
    cytoplasm, nuclei = lifted[..., 1], lifted[..., 2]
    colours = (nuclei // 3, cytoplasm + nuclei // 2, nuclei)
    return np.stack([np.minimum(c, 255) for c in colours], -1).astype(np.uint8)
