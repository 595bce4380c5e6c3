"""JPEG, whose compression changes pixels: read only if the user allows it."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np

from cellclass_tf.microscopy.formats import base
from cellclass_tf.storage import png


def _claims(path: pathlib.Path, head: bytes) -> bool:
    return head[:3] == b"\xff\xd8\xff"


def _scenes(path: pathlib.Path) -> Iterator[base.Scene]:
    with png.open_image(path, ("JPEG",)) as image:
        png.check_image_size(image.height, image.width, path)
        is_rgb = image.mode != "L"

        def read(t: int, z: int, c: int) -> np.ndarray:
            pixels = np.asarray(image.convert("RGB") if is_rgb else image)
            return pixels[..., c] if is_rgb else pixels

        channels = base.RGB if is_rgb else (base.Channel(),)
        size_yx = (image.height, image.width)
        yield base.Scene(
            (1, 1, len(channels)),
            size_yx,
            channels,
            read,
            is_rgb=is_rgb,
            loss="JPEG",
        )


FORMAT = base.Format(
    "JPEG",
    "pillow",
    "",
    (".jpg", ".jpeg", ".jpe", ".jfif"),
    _claims,
    _scenes,
    holds_one=True,
)
