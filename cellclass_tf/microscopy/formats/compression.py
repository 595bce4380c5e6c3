"""Tells whether the compression of pixels changed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# Bytes from the beginning of compressed pixels that say how they are compressed.
HEAD_BYTES = 65_536
# Bytes of the shortest and the longest headers of JPEG XR. The longest one has the
# widths and heights of 2 x 4095 tiles.
_LEAST_JPEG_XR, _MOST_JPEG_XR = 16, 16_500


def jpeg_xr_loss(head: bytes) -> str:
    """Returns 'JPEG XR' unless the image header says that no pixel changed; else ''.

    Layout: ITU-T T.832, image header (8.3) and image plane header (8.4). Arithmetic that
    is not scaled, with all bands and bits, is that of lossless images.
    """
    _, _, header = head.partition(b"WMPHOTO\0")
    if len(header) < _LEAST_JPEG_XR:
        return "JPEG XR"
    bits = "".join(f"{byte:08b}" for byte in header[:_MOST_JPEG_XR])
    is_tiled, is_short, has_margins, is_trimmed = (
        bits[i] == "1" for i in (8, 16, 18, 19)
    )
    place = 32 + 2 * (16 if is_short else 32)
    if is_tiled:
        others = int(bits[place : place + 12], 2) + int(
            bits[place + 12 : place + 24], 2
        )
        place += 24 + others * (8 if is_short else 16)
    place += 24 if has_margins else 0
    is_scaled, bands = bits[place + 3], bits[place + 4 : place + 8]
    is_exact = not is_trimmed and (is_scaled, bands) == ("0", "0000")
    return "" if is_exact else "JPEG XR"


def _jpeg_2000_loss(head: bytes) -> str:
    """Returns 'JPEG 2000' unless the wavelets are those of lossless images; else ''.

    Layout: ITU-T T.800, A.4 to A.6; the code stream may lie in a file of its own.
    """
    at = head.find(b"\xff\x4f\xff\x51") + 2
    while head[at : at + 2] not in (b"\xff\x52", b""):
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return "" if head[at + 13 : at + 14] == b"\x01" else "JPEG 2000"


def _webp_loss(head: bytes) -> str:
    return "" if head[12:16] == b"VP8L" else "WebP"


# By number of TIFF's compression. Those without a function are lossy, or may be.
_LOSSES: Mapping[int, str | Callable[[bytes], str]] = {
    **dict.fromkeys((6, 7, 33007, 34892), "JPEG"),
    **dict.fromkeys((33003, 33004, 33005, 34712), _jpeg_2000_loss),
    **dict.fromkeys((22610, 34934), jpeg_xr_loss),
    **dict.fromkeys((34927, 50001), _webp_loss),
    **dict.fromkeys((50002, 52546), "JPEG XL"),
    34887: "LERC",
    48124: "Jetraw",
}


def tiff_loss(page: Any) -> str:
    """Returns the name of a TIFF page's compression if it may have changed pixels; else ''.

    Args:
      page: the page, as tifffile reads it, in an open file.
    """
    found = _LOSSES.get(int(page.compression), "")
    if isinstance(found, str):
        return found
    parts = zip(page.dataoffsets, page.databytecounts, strict=False)
    for offset, size in parts:
        if size:
            page.parent.filehandle.seek(offset)
            return found(page.parent.filehandle.read(min(size, HEAD_BYTES)))
    return ""
