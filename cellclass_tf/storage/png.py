"""Reads and writes PNG files, and checks that images are safe to open."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
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

_PNG_PALETTE = 3


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
            head = file.read(26)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}).") from error
    if head[:8] != _PNG_SIGNATURE or len(head) < 26:
        raise InputError(
            f"{path}: expected a PNG, but the first bytes are {head[:8]!r}."
        )
    width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
    check_image_size(height, width, path)
    if depth == 16 and colour not in (0, 4):
        return _decode_deep_png(path)
    return _decode_png(path, colour)


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
        In micrographs they are rare: without the search for them, writing takes two thirds
        of the time, and the file is smaller.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(
        buffer,
        format="PNG",
        compress_level=1,
        compress_type=zlib.Z_RLE if runs else zlib.Z_HUFFMAN_ONLY,
    )
    return buffer.getvalue()


def _decode_png(path: str | os.PathLike, colour: int) -> np.ndarray:
    from PIL import Image

    try:
        with open_image(path) as image:
            if colour == _PNG_PALETTE:
                return np.asarray(image.convert("RGB"))
            pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path}: the PNG cannot be decoded ({error}). Copy it again from its source."
        ) from error
    if pixels.dtype == np.int32:
        pixels = pixels.astype(np.uint16)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels = pixels[..., :-1]
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def _decode_deep_png(path: str | os.PathLike) -> np.ndarray:
    """Decodes a PNG with 16 bits per colour, which Pillow would reduce to 8 bits."""
    import cv2

    with open(path, "rb") as file:
        content = np.frombuffer(file.read(), np.uint8)
    try:
        pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.ndim != 3:
        raise InputError(
            f"{path}: the PNG cannot be decoded. Copy it again from its source."
        )
    # OpenCV's order is blue, green, red, and possibly alpha.
    return np.ascontiguousarray(pixels[..., 2::-1])
