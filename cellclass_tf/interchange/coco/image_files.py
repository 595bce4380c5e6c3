"""Finds the images that COCO files list, and reads them as merged images."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cellclass_tf import errors
from cellclass_tf.errors import InputError
from cellclass_tf.storage import png

if TYPE_CHECKING:
    from PIL import Image

_FORMATS = ("PNG", "JPEG", "TIFF")
_GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
# EXIF tag of the rotation that puts an image upright; 1 is no rotation.
_ORIENTATION = 0x0112


def find(file_name: str, json_path: pathlib.Path) -> pathlib.Path:
    """Finds the image that a COCO file lists.

    These folders are searched: the folder of the JSON file, the folder above it, `images`
    in both, and in the folder above the one with the name of the JSON file (cells_train
    for cells_train.json, train2017 for instances_train2017.json).

    Raises:
      InputError: if the image is in none of them, or if its path leads out of them.
    """
    check_name(file_name, json_path)
    for base, folder in _folders(json_path):
        path = folder / file_name
        if not path.is_file():
            continue
        if not path.resolve().is_relative_to(base.resolve()):
            raise InputError(
                f"{json_path}: image {file_name}: {path} is a link that leads out of "
                f"{base}. Put a copy of the image there."
            )
        return path
    looked_in = ", ".join(dict.fromkeys(str(f) for _, f in _folders(json_path)))
    raise InputError(
        f"{json_path}: image {file_name}: no such file in {looked_in}. Copy it there."
    )


def check_name(file_name: str, json_path: pathlib.Path) -> None:
    """Raises InputError if a file name could lead out of the folders of a COCO file."""
    path = pathlib.PurePosixPath(file_name)
    leads_out = (
        path.is_absolute()
        or ".." in path.parts
        or "\\" in file_name
        or not file_name.isprintable()
        or pathlib.PureWindowsPath(file_name).drive
    )
    if leads_out or not path.name:
        raise InputError(
            f"{json_path}: image {errors.one_line(file_name)}: expected a path below the "
            "COCO file's folder, with / and without .. in it. Change it in the file."
        )


def _folders(json_path: pathlib.Path) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """Yields (base, folder): the folders to search, and the base they must stay in."""
    beside = json_path.parent
    above = beside.parent
    yield beside, beside
    yield beside, beside / "images"
    yield above, above / json_path.stem
    yield above, above / json_path.stem.removeprefix("instances_")
    yield above, above / "images"
    yield above, above


def read_colours(path: str | os.PathLike, shape_yx: tuple[int, int]) -> np.ndarray:
    """Reads an 8-bit PNG, JPEG or TIFF with its own colours, as (H, W, 3) uint8."""
    grey_or_colour = _read(path, shape_yx)
    if grey_or_colour.ndim == 3:
        return grey_or_colour
    return np.repeat(grey_or_colour[..., np.newaxis], 3, axis=2)


def read_merged(path: str | os.PathLike, shape_yx: tuple[int, int]) -> np.ndarray:
    """Reads an 8-bit PNG, JPEG or TIFF as a merged image.

    Args:
      path: path of the image.
      shape_yx: expected height and width.

    Returns:
      (H, W, 3) uint8. A colour image whose red channel is all 0 is returned unchanged; of
      others, the luminance (ITU-R BT.601) becomes green, and red and blue are 0.

    Raises:
      InputError: if the file is not such an image, has another size, or is stored rotated.
    """
    pixels = _read(path, shape_yx)
    if pixels.ndim == 2:
        return _in_green(pixels)
    if not pixels[..., 0].any():
        return pixels
    from PIL import Image

    return _in_green(np.asarray(Image.fromarray(pixels).convert("L")))


def _read(path: str | os.PathLike, shape_yx: tuple[int, int]) -> np.ndarray:
    """Returns (H, W) or (H, W, 3) uint8."""
    from PIL import Image, UnidentifiedImageError

    try:
        with png.open_image(path, _FORMATS) as image:
            png.check_image_size(image.height, image.width, path)
            _check(image, path, shape_yx)
            is_grey = image.mode in _GREY_MODES
            return np.asarray(image.convert("L" if is_grey else "RGB"))
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: expected {', '.join(_FORMATS)}.") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path}: the image cannot be decoded ({error}). Copy it again from its "
            "source."
        ) from error


def _check(
    image: Image.Image, path: str | os.PathLike, shape_yx: tuple[int, int]
) -> None:
    if (image.height, image.width) != shape_yx:
        raise InputError(
            f"{path}: the image has {image.height} x {image.width} px, but its COCO file "
            f"says {shape_yx[0]} x {shape_yx[1]} (height x width). The outlines would not "
            "fit; use the image that they were drawn on."
        )
    if image.mode not in (*_GREY_MODES, *_COLOUR_MODES):
        raise InputError(
            f"{path}: expected an image with 8 bits per channel, got mode {image.mode}. "
            "Run `cellclass convert` on it first, then import the COCO file."
        )
    planes = getattr(image, "n_frames", 1)
    if planes > 1:
        raise InputError(f"{path}: expected one plane, got {planes}.")
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation != 1:
        raise InputError(
            f"{path}: the image is stored rotated (EXIF orientation {orientation}), and "
            "programs differ in the orientation of the outlines. Save it upright, and draw "
            "the outlines on the upright image."
        )


def _in_green(luminance: np.ndarray) -> np.ndarray:
    merged = np.zeros((*luminance.shape, 3), np.uint8)
    merged[..., 1] = luminance
    return merged
