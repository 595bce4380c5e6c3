"""Reads two-channel fields out of TIFF, OME-TIFF, ImageJ hyperstacks and PNG."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pathlib
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np

from cellclass_tf import files
from cellclass_tf.files import InputError
from cellclass_tf.micrograph import Micrograph

PROJECTIONS = ("max", "best", "none")
RGB = ("red", "green", "blue")
SUFFIXES = (".tif", ".tiff", ".png")

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MICROMETRES = {"µm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}
# A few pages beyond these axes would be a guess at what they mean.
_KNOWN_AXES = set("TZCYXS")


def read_micrographs(
    path: str | os.PathLike, *, projection: str = "max"
) -> Iterator[Micrograph]:
    """Yields every field of view of a file: one a scene and time point.

    Args:
      path: a TIFF, OME-TIFF, ImageJ hyperstack or PNG; chosen by its first bytes.
      projection: what to do with a Z stack: 'max' takes the brightest plane at every
        pixel, 'best' the one sharpest plane (largest variance of the Laplacian,
        Pech-Pacheco et al. 2000, of all channels), 'none' refuses stacks.

    Raises:
      InputError: if the file is broken, of no known format, or has axes of no known
        meaning.
    """
    if projection not in PROJECTIONS:
        raise InputError(
            f"Unknown projection {projection!r}; known are {', '.join(PROJECTIONS)}."
        )
    path = pathlib.Path(path)
    head = _first_bytes(path)
    if head.startswith(b"\x89PNG"):
        yield _read_png(path)
    elif head[:4] in _TIFF_SIGNATURES:
        yield from _read_tiff(path, projection)
    else:
        raise InputError(
            f"{path}: expected a TIFF or a PNG, but the first bytes are {head[:8]!r}. "
            "Export the field as OME-TIFF from the microscope's software."
        )


def read_micrograph(
    path: str | os.PathLike, *, projection: str = "max", scene: int = 0, time: int = 0
) -> Micrograph:
    """Reads one field of view; see `read_micrographs`.

    Raises:
      InputError: as `read_micrographs`, and if there is no such scene or time.
    """
    found = []
    for micrograph in read_micrographs(path, projection=projection):
        if (micrograph.scene, micrograph.time) == (scene, time):
            return micrograph
        found.append((micrograph.scene, micrograph.time))
    raise InputError(f"{path}: no scene {scene}, time {time}; it holds {found}.")


def _first_bytes(path: pathlib.Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(16)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}).") from error


def _read_png(path: pathlib.Path) -> Micrograph:
    image = files.read_png(path)
    rgb = image.ndim == 3
    pixels = np.moveaxis(image, -1, 0) if rgb else image[np.newaxis]
    return Micrograph(
        pixels,
        RGB if rgb else ("",),
        file=str(path),
        sha256=files.sha256_of_file(path),
        is_rgb=rgb,
    )


def _read_tiff(path: pathlib.Path, projection: str) -> Iterator[Micrograph]:
    import tifffile

    sha256 = files.sha256_of_file(path)
    try:
        with _collected_errors() as errors, tifffile.TiffFile(path) as tiff:
            for scene, series in enumerate(tiff.series):
                _check_whole(path, series, errors)
                for field in _fields_of_series(path, tiff, series, scene, projection):
                    yield dataclasses.replace(field, sha256=sha256)
    except InputError:
        raise
    # The reader meets broken files with errors of many kinds.
    except Exception as error:
        raise InputError(
            f"{path}: the TIFF cannot be read ({type(error).__name__}: {error}). It may "
            "be truncated: copy it again from the microscope."
        ) from error


@contextlib.contextmanager
def _collected_errors() -> Iterator[list[str]]:
    """Collects what tifffile only logs, such as pages that lie beyond the file's end."""
    errors: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: errors.append(record.getMessage())
    logger = logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield errors
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _check_whole(path: pathlib.Path, series, errors: list[str]) -> None:
    """Raises InputError if the pixels are not all there; tifffile would go on."""
    size = path.stat().st_size
    ends = [
        offset + count
        for page in series.pages
        if page is not None
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
    ]
    if errors or max(ends, default=0) > size:
        reason = errors[0] if errors else f"{max(ends)} bytes expected, {size} there"
        raise InputError(
            f"{path}: the TIFF is broken or truncated ({reason}). Copy it again from the "
            "microscope."
        )


def _fields_of_series(path, tiff, series, scene, projection) -> Iterator[Micrograph]:
    axes, shape = series.axes, series.shape
    strange = [
        a for a, n in zip(axes, shape, strict=True) if n > 1 and a not in "TZCYXS"
    ]
    if strange or "Y" not in axes or "X" not in axes:
        raise InputError(
            f"{path}: the axes {axes} {shape} are not among T, Z, C, Y, X (and RGB "
            "samples). Export it as OME-TIFF, which names its axes."
        )
    sizes = dict(zip(axes, shape, strict=True))
    files.check_image_size(sizes["Y"], sizes["X"], path)
    planes = _to_tzcyx(series.asarray(), axes)
    names, pixel_size_um = _channel_names(tiff, scene), _pixel_size_um(tiff, scene)
    is_rgb = sizes.get("S", 1) in (3, 4) and sizes.get("C", 1) == 1
    planes = planes[:, :, :3] if is_rgb else planes
    names = RGB if is_rgb else (names + ("",) * planes.shape[2])[: planes.shape[2]]
    for time, stack in enumerate(planes):
        pixels, z = _project(stack, projection, path)
        yield Micrograph(
            pixels, names, pixel_size_um, str(path), "", scene, time, z, is_rgb
        )


def _to_tzcyx(array: np.ndarray, axes: str) -> np.ndarray:
    """Returns (T, Z, C, Y, X), colour samples counted as channels."""
    keep = [i for i, a in enumerate(axes) if a in _KNOWN_AXES]
    drop = tuple(i for i in range(len(axes)) if i not in keep)
    array = array.squeeze(axis=drop) if drop else array
    axes = "".join(axes[i] for i in keep)
    for axis in "TZCS":
        if axis not in axes:
            array, axes = array[np.newaxis], axis + axes
    array = array.transpose([axes.index(a) for a in "TZCSYX"])
    return array.reshape(*array.shape[:2], -1, *array.shape[-2:])


def _project(stack: np.ndarray, projection: str, path) -> tuple[np.ndarray, str]:
    """Makes (Z, C, Y, X) one (C, Y, X) plane and says how."""
    if len(stack) == 1:
        return stack[0], ""
    if projection == "none":
        raise InputError(
            f"{path}: a stack of {len(stack)} planes. Choose --projection=max (brightest "
            "plane at every pixel) or --projection=best (sharpest plane)."
        )
    if projection == "max":
        return stack.max(axis=0), "max"
    best = int(np.argmax([_sharpness(plane) for plane in stack]))
    return stack[best], f"best:{best}"


def _sharpness(plane: np.ndarray) -> float:
    from scipy import ndimage

    return sum(float(ndimage.laplace(c.astype(np.float32)).var()) for c in plane)


def _channel_names(tiff, scene: int) -> tuple[str, ...]:
    pixels = _ome_pixels(tiff, scene)
    if pixels is not None:
        return tuple(c.get("Name") or "" for c in pixels.iterfind("{*}Channel"))
    labels = (tiff.imagej_metadata or {}).get("Labels") or ()
    return tuple(str(label or "") for label in labels)


def _pixel_size_um(tiff, scene: int) -> float | None:
    pixels = _ome_pixels(tiff, scene)
    if pixels is not None:
        size, unit = pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit", "µm")
        scale = _MICROMETRES.get(unit)
        return float(size) * scale if size and scale and float(size) > 0 else None
    if not tiff.is_imagej:
        # A plain TIFF's resolution is for printing and says nothing of the specimen.
        return None
    unit = _unescaped(str((tiff.imagej_metadata or {}).get("unit", "")))
    tag = tiff.pages[0].tags.get("XResolution")
    if unit not in _MICROMETRES or tag is None or not tag.value[0]:
        return None
    return tag.value[1] / tag.value[0] * _MICROMETRES[unit]


def _unescaped(unit: str) -> str:
    return re.sub(r"\\u00B5|\\u03BC|μ", "µ", unit, flags=re.IGNORECASE)


def _ome_pixels(tiff, scene: int) -> ElementTree.Element | None:
    if not tiff.is_ome:
        return None
    found = ElementTree.fromstring(tiff.ome_metadata).findall("{*}Image/{*}Pixels")
    return found[scene] if scene < len(found) else None
