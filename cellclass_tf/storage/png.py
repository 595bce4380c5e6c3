"""Reads and writes PNG files, and checks that images are safe to open."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from cellclass_tf import process_state
from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic, paths

# Twice a field of 10,000 x 10,000 px, for which the library is made. A file whose header
# claims more is rejected as a possible decompression bomb before its pixels are read.
MAX_IMAGE_PIXELS = 200_000_000

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Signature, and the header up to the colour type.
_HEADER_BYTES = 26

# The fastest level; a better one needs several times as long for a few percent.
_LEVEL = 1


def check_image_size(height: int, width: int, path: str | os.PathLike) -> None:
    """Raises InputError if an image's header claims more pixels than a field has."""
    if height * width > MAX_IMAGE_PIXELS:
        raise InputError(
            f"{path}: the header claims {height} x {width} px, more than the limit of "
            f"{MAX_IMAGE_PIXELS:,} px. Split the field into tiles."
        )


@contextlib.contextmanager
def open_image(
    path: str | os.PathLike, formats: tuple[str, ...] | None = None
) -> Iterator[Any]:
    """Opens an image of up to `MAX_IMAGE_PIXELS` with Pillow, and yields it.

    Raises:
      PIL.Image.DecompressionBombError: if the header claims far more pixels.
    """
    from PIL import Image

    # Pillow compares with its limit when it opens a file, not when it reads the pixels.
    with process_state.pillow_pixel_limit(MAX_IMAGE_PIXELS):
        image = Image.open(path, formats=formats)
    with image:
        yield image


def read_png(path: str | os.PathLike) -> np.ndarray:
    """Reads a PNG as it is stored.

    Returns:
      (H, W) or (H, W, 3), uint8 or uint16. An alpha channel is dropped.

    Raises:
      InputError: if the file is not a PNG, is damaged, or is too large.
    """
    if not os.path.lexists(path):
        raise InputError(
            f"{path} does not exist. Make it again, or remove its row in the table."
        )
    paths.check_is_file(path)
    try:
        with open(path, "rb") as file:
            # The header is checked before the pixels are read.
            _check_header(file.read(_HEADER_BYTES), path)
            file.seek(0)
            content = file.read()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}).") from error
    return _decoded(content, path)


def is_transparent(path: str | os.PathLike) -> bool:
    """Returns whether pixels of a PNG differ in transparency, which `read_png` drops."""
    with open_image(path) as image:
        bands = image.getbands()
        if "A" not in bands:
            return False
        least, most = image.getextrema()[bands.index("A")]
    return least < most


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes (H, W) uint8 or uint16, or (H, W, 3) uint8, whole or not at all."""
    atomic.write_bytes(path, encode_png(image))


def encode_png(image: np.ndarray, *, runs: bool = False) -> bytes:
    """Returns an image as the bytes of a PNG.

    Args:
      image: (H, W) uint8 or uint16, or (H, W, 3) uint8.
      runs: whether to compress runs of equal pixels, which are frequent in label images.
        In micrographs they are rare: without the search for them, the file is smaller.
    """
    import imagecodecs

    strategy = imagecodecs.PNG.STRATEGY
    encoded = imagecodecs.png_encode(
        np.ascontiguousarray(image),
        level=_LEVEL,
        strategy=strategy.RLE if runs else strategy.HUFFMAN_ONLY,
        # One filter for all rows: trying all of them takes twice the time.
        filter=imagecodecs.PNG.FILTER.UP,
    )
    return bytes(encoded)


def _check_header(head: bytes, path: str | os.PathLike) -> None:
    if head[:8] != _PNG_SIGNATURE or len(head) < _HEADER_BYTES:
        raise InputError(
            f"{path}: expected a PNG, but the first bytes are {head[:8]!r}."
        )
    width, height = struct.unpack(">II", head[16:24])
    check_image_size(height, width, path)


def _decoded(content: bytes, path: str | os.PathLike) -> np.ndarray:
    import imagecodecs

    try:
        pixels = imagecodecs.png_decode(content)
    except imagecodecs.PngError as error:
        raise InputError(
            f"{path}: the PNG cannot be decoded ({error}). Copy it again from its source."
        ) from error
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels = pixels[..., :-1]
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
