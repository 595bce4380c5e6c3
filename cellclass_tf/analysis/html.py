"""Renders HTML pages that contain everything they show and need no network."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np


def render(template: str, **values: Any) -> str:
    """Renders a template of pages/ with the given values, which are escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cellclass_tf.analysis", "pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = _percent
    environment.filters["image"] = _svg_source
    return environment.get_template(template).render(**values)


def jpeg_source(
    image: np.ndarray, longest_px: int, *, sharp_colours: bool = False
) -> str:
    """Returns a picture as a data URL for the `src` of an <img>.

    Args:
      image: (H, W, 3) uint8.
      longest_px: largest length of the longer side; larger pictures are reduced to it.
      sharp_colours: whether to keep colours at full resolution, for pictures whose channels
        are shown separately.
    """
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((longest_px, longest_px))
    written = io.BytesIO()
    options = {"quality": 90, "subsampling": 0} if sharp_colours else {"quality": 85}
    picture.save(written, "JPEG", optimize=True, **options)
    return _source("image/jpeg", written.getvalue())


def _svg_source(svg: str) -> str:
    return _source("image/svg+xml", svg.encode())


def _source(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"
