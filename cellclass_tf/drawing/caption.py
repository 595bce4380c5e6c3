"""Draws the caption below a picture: name, scale bar and legend."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellclass_tf.errors import one_line

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

BACKGROUND = (24, 24, 24)
INK = (255, 255, 255)


@dataclasses.dataclass(frozen=True)
class LegendEntry:
    """One entry of the legend: a sample of an outline, and its meaning.

    Attributes:
      text: meaning of the outline.
      colour: (red, green, blue), each 0 to 255.
      dashed: whether the outline is dashed.
    """

    text: str
    colour: tuple[int, int, int]
    dashed: bool = False


def draw(
    picture: np.ndarray,
    name: str,
    entries: Sequence[LegendEntry],
    pixel_size_um: float | None = None,
) -> np.ndarray:
    """Draws the caption of a picture.

    Args:
      picture: (H, W, 3) uint8 picture above the caption.
      name: name of the image, shortened if it does not fit.
      entries: entries of the legend; each row has as many as fit.
      pixel_size_um: width of a pixel of the picture in µm; None draws no scale bar.

    Returns:
      (H', W, 3) uint8.
    """
    width = picture.shape[1]
    unit = text_height(width)
    line = round(1.6 * unit)
    canvas, pen = _blank(width, line)
    entries = [dataclasses.replace(e, text=one_line(e.text)) for e in entries]
    rows = _rows(pen, entries, width, unit)
    canvas, pen = _blank(width, line * (1 + len(rows)) + unit // 2)
    middle = unit // 4 + line // 2
    bar = 0 if pixel_size_um is None else _scale_bar(pen, middle, width, pixel_size_um)
    text = fit_text(pen, one_line(name), width - bar - 2 * unit)
    pen.text((unit, middle), text, INK, anchor="lm")
    for number, row in enumerate(rows, start=1):
        for left, entry in row:
            _draw_entry(pen, left, middle + number * line, unit, entry)
    return np.asarray(canvas)


def title(width: int, text: str) -> np.ndarray:
    """Draws a centred line of text as (H', width, 3) uint8."""
    unit = text_height(width)
    canvas, pen = _blank(width, 2 * unit)
    pen.text((width // 2, unit), text, INK, anchor="mm")
    return np.asarray(canvas)


def text_height(width: int) -> int:
    """Returns the height of the text in pixels for a picture of a width in pixels."""
    return max(16, round(width / 44))


def font(size_px: int) -> ImageFont.FreeTypeFont:
    """Returns the font of all pictures in a size."""
    from PIL import ImageFont

    return ImageFont.truetype(_font_path(), size_px)


def fit_text(pen: ImageDraw.ImageDraw, text: str, room: float) -> str:
    """Cuts the start of a text that is too long, since ends of names differ more."""
    if pen.textlength(text) <= room:
        return text
    while text and pen.textlength("…" + text) > room:
        text = text[1:]
    return "…" + text


def round_length_um(longest_um: float) -> float:
    """Returns the largest of 1, 2, 5 times a power of ten up to a length."""
    power = 10.0 ** math.floor(math.log10(longest_um))
    # Because of rounding, 0.3 / 0.1, for example, is slightly less than 3.
    factor = max(f for f in (1, 2, 5) if f * power <= longest_um * (1 + 1e-9))
    return factor * power


def _blank(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (width, height), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    pen.font = font(text_height(width))
    return canvas, pen


@functools.cache
def _font_path() -> str:
    """Returns the path of the font DejaVu Sans.

    Pillow's own font lacks µ, and letters of other languages that names may contain.
    """
    import matplotlib

    return os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def _rows(
    pen: ImageDraw.ImageDraw, entries: Sequence[LegendEntry], width: int, unit: int
) -> list[list[tuple[int, LegendEntry]]]:
    """Arranges the entries in rows of (left edge, entry)."""
    rows: list[list[tuple[int, LegendEntry]]] = [[]]
    left = unit
    for entry in entries:
        needed = _text_start(unit) + math.ceil(pen.textlength(entry.text)) + unit
        if rows[-1] and left + needed > width:
            rows, left = [*rows, []], unit
        rows[-1].append((left, entry))
        left += needed
    return [row for row in rows if row]


def _text_start(unit: int) -> int:
    return round(2.1 * unit)


def _draw_entry(
    pen: ImageDraw.ImageDraw, left: int, middle: int, unit: int, entry: LegendEntry
) -> None:
    thick = max(3, unit // 4)
    right = left + round(1.6 * unit)
    dash = (right - left) / 5
    spans: list[tuple[float, float]] = [(left, right)]
    if entry.dashed:
        spans = [(left + 2 * i * dash, left + (2 * i + 1) * dash) for i in range(3)]
    for start, stop in spans:
        top = middle - thick // 2
        pen.rectangle((start, top, stop, top + thick - 1), fill=entry.colour)
    pen.text((left + _text_start(unit), middle), entry.text, INK, anchor="lm")


def _scale_bar(
    pen: ImageDraw.ImageDraw, middle: int, width: int, pixel_size_um: float
) -> int:
    """Draws the scale bar at the right edge, and returns its total width in pixels."""
    unit = text_height(width)
    length_um = round_length_um(width * pixel_size_um / 5)
    length_px = round(length_um / pixel_size_um)
    text = f"{length_um:g} µm"
    right = width - unit
    thick = max(3, unit // 4)
    top = middle - thick // 2
    pen.rectangle((right - length_px, top, right - 1, top + thick - 1), fill=INK)
    text_right = right - length_px - unit // 2
    pen.text((text_right, middle), text, INK, anchor="rm")
    return width - text_right + math.ceil(pen.textlength(text))
