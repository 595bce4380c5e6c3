"""Draws a field's channels side by side, so that a person can identify them."""

from __future__ import annotations

import numpy as np

from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.drawing import caption

_VIEW_PX, _GAP_PX, _TEXT_PX, _COLUMNS = 360, 14, 18, 5
_MOST_CHANNELS = 20
_QUIET_INK = (190, 190, 190)


def draw(micrograph: Micrograph) -> np.ndarray:
    """Draws each channel in a contrast of its own, below its index and name.

    Args:
      micrograph: pixels (C, Y, X); only the first 20 channels are drawn.

    Returns:
      (H, W, 3) uint8.
    """
    from PIL import Image, ImageDraw

    count = min(len(micrograph.pixels), _MOST_CHANNELS)
    columns = min(count, _COLUMNS)
    step_x, step_y = _VIEW_PX + _GAP_PX, _VIEW_PX + 3 * _TEXT_PX + 2 * _GAP_PX
    width = max(columns * step_x + _GAP_PX, 2 * step_x + _GAP_PX)
    height = -(-count // columns) * step_y + 4 * _TEXT_PX
    canvas = Image.new("RGB", (width, height), caption.BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    pen.font = caption.font(_TEXT_PX)
    for index in range(count):
        row, column = divmod(index, columns)
        left, top = _GAP_PX + column * step_x, _GAP_PX + row * step_y
        name = micrograph.channel_names[index] or "(no name)"
        pen.text(
            (left, top), f"{index}: {caption.fit_text(pen, name, 0.85 * _VIEW_PX)}"
        )
        pen.text((left, top + 1.4 * _TEXT_PX), _emission(micrograph, index), _QUIET_INK)
        view = Image.fromarray(_view(micrograph.pixels[index]))
        canvas.paste(view, (left, top + 3 * _TEXT_PX))
    lines = (
        caption.fit_text(pen, micrograph.file, width - 2 * _GAP_PX),
        "Set the channels: --nuclei=INDEX --cytoplasm=INDEX",
    )
    for number, text in enumerate(lines, start=1):
        place = (_GAP_PX, height - (3 - number) * 1.6 * _TEXT_PX)
        pen.text(place, text, caption.INK if number == 2 else _QUIET_INK)
    return np.asarray(canvas)


def _emission(micrograph: Micrograph, index: int) -> str:
    emissions = micrograph.emissions_nm or (None,) * len(micrograph.pixels)
    emission = emissions[index]
    return f"{emission:g} nm" if emission else "emission not recorded"


def _view(plane: np.ndarray) -> np.ndarray:
    """Returns a plane, stretched from its 1st to 99.8th percentile, as (h, w) uint8."""
    from PIL import Image

    # Subsampling first keeps the percentiles of large planes fast.
    step = max(1, max(plane.shape) // (2 * _VIEW_PX))
    small = plane[::step, ::step].astype(np.float32)
    low, high = np.percentile(small, (1, 99.8))
    stretched = np.clip((small - low) * (255 / max(high - low, 1)), 0, 255)
    view = Image.fromarray(stretched.astype(np.uint8))
    scale = _VIEW_PX / max(view.size)
    width, height = (max(1, round(n * scale)) for n in view.size)
    how = Image.Resampling.BILINEAR if scale < 1 else Image.Resampling.NEAREST
    return np.asarray(view.resize((width, height), how))
