"""HTML of objects in notebooks: a picture, and a table below it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

# Largest width and height of a picture.
_WIDTH_PX = 480


def page(planes: Sequence[np.ndarray], rows: Iterable[Sequence[object]]) -> str:
    """Returns the HTML of pictures side by side and a table below them.

    Args:
      planes: the pictures, (H, W) uint8 each.
      rows: rows of the table; the first cell of each row is its heading.

    Returns:
      HTML without external references; the texts are escaped.
    """
    pictures = "".join(
        f'<img src="data:image/png;base64,{_png(plane)}" style="margin-right:4px">'
        for plane in planes
    )
    lines = "".join(
        f"<tr><th>{html.escape(str(first))}</th>"
        + "".join(f"<td>{html.escape(str(value))}</td>" for value in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return f"<div>{pictures}<table>{lines}</table></div>"


def stretched(plane: np.ndarray) -> np.ndarray:
    """Stretches the contrast of a plane between its 1st and 99.8th percentile.

    Args:
      plane: (H, W) of any numeric type.

    Returns:
      (H, W) uint8.
    """
    # A sample of rows and columns is enough; quantiles of all pixels take long.
    step = max(1, max(plane.shape) // 512)
    low, high = np.quantile(plane[::step, ::step], [0.01, 0.998])
    scaled = (plane.astype(np.float32) - low) / max(high - low, 1e-6)
    return np.rint(255 * scaled.clip(0, 1)).astype(np.uint8)


def _png(plane: np.ndarray) -> str:
    picture = Image.fromarray(plane)
    picture.thumbnail((_WIDTH_PX, _WIDTH_PX))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()
