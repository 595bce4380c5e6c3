"""PNG: one grey or colour plane, such as the merged images of this library."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

from cellclass_tf.microscopy.formats import base
from cellclass_tf.storage import png


def _claims(path: pathlib.Path, head: bytes) -> bool:
    return head.startswith(b"\x89PNG")


def _scenes(path: pathlib.Path) -> Iterator[base.Scene]:
    image = png.read_png(path)
    is_rgb = image.ndim == 3
    height, width = image.shape[:2]
    channels = base.RGB if is_rgb else (base.Channel(),)
    yield base.Scene(
        (1, 1, len(channels)),
        (height, width),
        channels,
        lambda t, z, c: image[..., c] if is_rgb else image,
        is_rgb=is_rgb,
    )


FORMAT = base.Format("PNG", "pillow", "", (".png",), _claims, _scenes, holds_one=True)
