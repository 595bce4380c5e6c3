"""Tells what the samples of a TIFF's pixels are: grey values, or red, green and blue."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from cellclass_tf.errors import InputError

# Numbers of TIFF's photometric interpretation.
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_PHOTOMETRIC_TAG = 262
# JPEG compression, whose YCbCr tifffile turns into RGB.
_JPEG = (6, 7, 33007, 34892)
# Numbers of TIFF's extra samples that mean transparency.
_ALPHA = (1, 2)
# Weights of red, green and blue in brightness (ITU-R BT.601), and the part of its range
# by which the brightness of a colour map may fall.
_WEIGHTS, _MOST_FALL = (0.299, 0.587, 0.114), 0.05


def sample_names(path: pathlib.Path, page: Any) -> tuple[str, ...]:
    """Returns the names of the samples of each pixel; '' for grey values.

    Args:
      path: the file, for messages.
      page: the page, as tifffile reads it.

    Raises:
      InputError: if samples are neither grey values nor red, green and blue, as those of
        CMYK, or numbers of colours in a colour map.
    """
    kind = _kind(page)
    grey = ("",) * page.samplesperpixel
    if kind == _WHITE_IS_ZERO:
        _check_white(path, page)
        return grey
    if kind == _PALETTE:
        _check_colour_map(path, page)
        return grey
    if kind == _BLACK_IS_ZERO:
        return grey
    if kind != _RGB and not (kind == _YCBCR and page.compression in _JPEG):
        raise InputError(
            f"{path}: the pixels are {_name(kind)}; expected grey values, or red, green "
            "and blue. Export the field as OME-TIFF of grey values from the "
            "microscope's software."
        )
    colours = ("red", "green", "blue")
    if page.samplesperpixel == 3:
        return colours
    if page.samplesperpixel == 4 and page.extrasamples[:1] and _has_alpha(page):
        return (*colours, "alpha")
    # The meaning of a further sample is not recorded, so that it may be a channel.
    return grey


def black(page: Any) -> np.ndarray | None:
    """Returns the grey value of black if 0 is white; None if 0 is black."""
    if _kind(page) != _WHITE_IS_ZERO:
        return None
    return page.dtype.type(2**page.bitspersample - 1)


def _kind(page: Any) -> int:
    """Returns the photometric interpretation.

    ImageJ writes that 0 is white for images that it only shows inverted. tifffile
    returns 0 for pages that lack the entry.
    """
    kind = int(page.photometric)
    is_kept = page.parent.is_imagej or _PHOTOMETRIC_TAG not in page.tags
    return _BLACK_IS_ZERO if kind == _WHITE_IS_ZERO and is_kept else kind


def _has_alpha(page: Any) -> bool:
    return int(page.extrasamples[0]) in _ALPHA


def _name(kind: int) -> str:
    import tifffile

    names = {known.value: known.name for known in tifffile.PHOTOMETRIC}
    names |= {5: "CMYK", _YCBCR: "YCbCr", 8: "CIE L*a*b*"}
    return names.get(kind, f"of the photometric interpretation {kind}")


def _check_white(path: pathlib.Path, page: Any) -> None:
    if page.dtype.kind != "u":
        raise InputError(
            f"{path}: 0 means white, and the pixels are {page.dtype}, in which no value "
            "means black; expected whole numbers without a sign. Export the field as "
            "OME-TIFF of 16 bit."
        )


def _check_colour_map(path: pathlib.Path, page: Any) -> None:
    """Raises InputError unless higher numbers of colours are brighter colours.

    The first and the last colour may be any, since some programs mark pixels without
    light and saturated ones by them.
    """
    if page.colormap is not None:
        brightness = np.asarray(_WEIGHTS) @ page.colormap.astype(float)
        inner = brightness[1:-1]
        fall = np.maximum.accumulate(inner) - inner
        if fall.max() <= _MOST_FALL * np.ptp(inner):
            return
    raise InputError(
        f"{path}: the pixels are numbers of colours in a colour map, of which higher ones "
        "are not brighter, so that they are no grey values. Save the image as grey "
        "values or as RGB, not with indexed colours."
    )
