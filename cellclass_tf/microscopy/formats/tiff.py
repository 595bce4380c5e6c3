"""TIFF and formats based on it: OME-TIFF, ImageJ hyperstacks, STK, LSM, MetaSeries."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy.formats import (
    base,
    compression,
    ome_files,
    smaller_copies,
    tiff_colours,
    tiff_metadata,
)
from cellclass_tf.storage import png, tiff_log

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# The meaning of other axes would be a guess.
_KNOWN_AXES = "TZCYXS"
# tifffile's letters for an axis without a description. Up to this many pages are taken
# for channels; more of them may be a stack or a time series.
_UNKNOWN_AXES, _MOST_UNKNOWN = "IQ", 4


def _claims(path: pathlib.Path, head: bytes) -> bool:
    return head[:4] in _SIGNATURES


def _scenes(path: pathlib.Path) -> Iterator[base.Scene]:
    import tifffile

    with tiff_log.errors() as errors, contextlib.ExitStack() as stack:
        parts = ome_files.look(path)
        xml = None if parts is None else parts.xml
        tiff = stack.enter_context(tifffile.TiffFile(path, omexml=xml))
        # An LSM's other series holds thumbnails.
        found = tiff.series[:1] if tiff.is_lsm else tiff.series
        images = (
            len(tiff_metadata.ome_images(tiff.ome_metadata))
            if tiff.is_ome
            else len(found)
        )
        if len(found) != images:
            reason = (
                errors[0] if errors else "tifffile cannot tell where the planes are"
            )
            raise InputError(
                f"{path}: its metadata describe {images} images, of which {len(found)} "
                f"can be read ({reason}). Export it again as OME-TIFF."
            )
        for series in found:
            _check_whole(path, series, errors)
        copies = _smaller_copies(path, tiff, found)
        for number, series in enumerate(found):
            scene = _scene(path, tiff, series, number)
            yield dataclasses.replace(scene, copy_of=copies.get(number))


def _files(path: pathlib.Path) -> tuple[pathlib.Path, ...]:
    with tiff_log.errors():
        parts = ome_files.look(path)
    return (path,) if parts is None else parts.paths


def _check_whole(path: pathlib.Path, series: Any, errors: list[str]) -> None:
    """Raises InputError if pixels are missing, for which tifffile would return zeros."""
    ends: dict[str, int] = {}
    for page in filter(None, series.pages):
        parts = zip(page.dataoffsets, page.databytecounts, strict=False)
        file = page.parent.filehandle.path
        ends[file] = max(ends.get(file, 0), *(sum(part) for part in parts), 0)
    missing = sum(page is None for page in series.pages)
    if missing:
        errors.append(f"{missing} of {len(series.pages)} planes are missing")
    for file, end in ends.items():
        if end > os.path.getsize(file):
            there = f"{os.path.getsize(file)} there"
            errors.append(f"{os.path.basename(file)}: {end} bytes expected, {there}")
    if errors:
        raise InputError(
            f"{path}: the TIFF is broken or truncated ({errors[0]}). Copy it again from the "
            "microscope."
        )


def _scene(path: pathlib.Path, tiff: Any, series: Any, number: int) -> base.Scene:
    axes, shape = _axes_of(series), series.shape
    sizes = dict(zip(axes, shape, strict=True))
    strange = [a for a, n in sizes.items() if n > 1 and a not in _KNOWN_AXES]
    if strange or "Y" not in axes or "X" not in axes:
        raise InputError(
            f"{path}: the axes {axes} {shape} are not among T, Z, C, Y, X (and RGB "
            f"samples); up to {_MOST_UNKNOWN} grey pages without a description are "
            "taken for channels. Export it as OME-TIFF, which names its axes, or colour "
            "pictures as a file each."
        )
    times, depth, count, samples = (sizes.get(axis, 1) for axis in "TZCS")
    names = tiff_colours.sample_names(path, series.keyframe)
    if len(names) != samples:
        names = ("",) * samples
    is_rgb = names[:1] == ("red",) and count == 1
    channels = base.channels_of(tiff_metadata.channels(tiff, number), count, names)
    with _opened([series.keyframe]):
        loss = compression.tiff_loss(series.keyframe)
    return base.Scene(
        (times, depth, 3 if is_rgb else count * samples),
        (sizes["Y"], sizes["X"]),
        base.RGB if is_rgb else channels,
        _plane_reader(path, series, samples),
        tiff_metadata.pixel_size(tiff, number),
        name=str(series.name or "") if tiff.is_ome else "",
        is_rgb=is_rgb,
        loss=loss,
        stage_um=tiff_metadata.stage_um(tiff, number),
    )


def _smaller_copies(
    path: pathlib.Path, tiff: Any, found: Sequence[Any]
) -> dict[int, int]:
    """Returns the larger image of each image that shows another at a smaller size."""
    shapes = (dict(zip(s.axes, s.shape, strict=True)) for s in found)
    sizes = [(shape.get("Y", 1), shape.get("X", 1)) for shape in shapes]
    return smaller_copies.find(
        path, sizes, lambda number: _scene(path, tiff, found[number], number)
    )


def _axes_of(series: Any) -> str:
    """Returns the axes as letters; a few grey pages without a description are channels."""
    unknown = [a for a in series.axes if a in _UNKNOWN_AXES]
    # Several colour pictures are not the channels of one field.
    if len(unknown) != 1 or {"C", "S"} & set(series.axes):
        return series.axes
    if series.shape[series.axes.index(unknown[0])] > _MOST_UNKNOWN:
        return series.axes
    return series.axes.replace(unknown[0], "C")


def _plane_reader(path: pathlib.Path, series: Any, samples: int) -> base.PlaneReader:
    """Returns a function that reads a plane; colour samples count as channels."""
    axes = _axes_of(series)
    inner = "".join(axis for axis in axes if axis in "YXS")
    outer = [(a, n) for a, n in zip(axes, series.shape, strict=True) if a not in "YXS"]
    whole = None if _one_page_a_plane(series, inner, outer) else _whole(path, series)

    top = tiff_colours.black(series.keyframe)

    # A page holds all colours of a pixel, so that three calls read the same page.
    @functools.lru_cache(maxsize=1)
    def page(index: tuple[int, ...]) -> np.ndarray:
        if whole is not None:
            return whole[index]
        number = np.ravel_multi_index(index, [n for _, n in outer]) if outer else 0
        found = series.pages[int(number)]
        with _opened([found]):
            plane = found.asarray()
        sizes = [n for a, n in zip(axes, series.shape, strict=True) if a in inner]
        return plane.reshape(sizes)

    def read(t: int, z: int, c: int) -> np.ndarray:
        wanted = {"T": t, "Z": z, "C": c // samples}
        plane = page(tuple(wanted.get(axis, 0) for axis, _ in outer))
        if "S" in inner:
            plane = np.take(plane, c % samples, axis=inner.index("S"))
        return plane if top is None else top - plane

    return read


@contextlib.contextmanager
def _opened(pages: Iterable[Any]) -> Iterator[None]:
    """Opens the files of pages, since tifffile closes all files but the first."""
    with contextlib.ExitStack() as stack:
        for page in pages:
            handle = page.parent.filehandle
            if handle.closed:
                handle.open()
                stack.callback(handle.close)
        yield


def _one_page_a_plane(series: Any, inner: str, outer: list[tuple[str, int]]) -> bool:
    """Whether each plane is a page of the file, so that it can be read alone."""
    pages = int(np.prod([n for _, n in outer], dtype=np.int64))
    ordered = "".join(a for a in series.axes if a in "YXS") == series.axes[len(outer) :]
    return ordered and len(series.pages) == pages


def _whole(path: pathlib.Path, series: Any) -> np.ndarray:
    """Reads a series whose planes cannot be read one by one; (..., Y, X [, S]) order."""
    png.check_image_size(series.size, 1, path)
    with _opened(series.pages):
        array, axes = series.asarray(), series.axes
    order = [i for i, a in enumerate(axes) if a not in "YXS"]
    order += [i for i, a in enumerate(axes) if a in "YXS"]
    return array.transpose(order)


FORMAT = base.Format(
    "TIFF, OME-TIFF, ImageJ, STK, LSM",
    "tifffile",
    "",
    (".tif", ".tiff", ".stk", ".lsm"),
    _claims,
    _scenes,
    _files,
)
