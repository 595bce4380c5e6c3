"""OME-Zarr (OME-NGFF 0.1 to 0.5): single images, plates and Bio-Formats series."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy.formats import base
from cellclass_tf.storage import png

_MARKS = (".zattrs", ".zgroup", "zarr.json")
_METADATA = (*_MARKS, ".zarray", ".zmetadata")
_KNOWN_AXES = "tzcyx"
# Larger chunks are refused unless the array itself is about as large.
_USUAL_CHUNK_PX = 4_000_000


def _claims(path: pathlib.Path, head: bytes) -> bool:
    return path.is_dir() and any((path / mark).is_file() for mark in _MARKS)


def _scenes(path: pathlib.Path) -> Iterator[base.Scene]:
    """Yields one scene for each image: the only one, a field of a well, or a series.

    Only the full resolution is read. In this format a missing chunk has the array's fill
    value, so that lost chunks cannot be told from empty ones.
    """
    found = False
    for place, well in _images(path):
        found = True
        yield _scene(path, place, well)
    if not found:
        raise InputError(
            f"{path}: a Zarr folder without an OME-NGFF image (no 'multiscales', "
            "'plate' or 'bioformats2raw.layout'). Give the folder that holds the image."
        )


def _images(root: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Yields the paths of images below the root ('' is the root itself), and their wells.

    The name of a well is '' if the images are not those of a plate.
    """
    attributes = _attributes(root, "")
    if "multiscales" in attributes:
        yield "", ""
    elif "plate" in attributes:
        for well in attributes["plate"]["wells"]:
            fields = _attributes(root, well["path"])["well"]["images"]
            # A well is named by its row and its column, as in B03.
            name = well["path"].replace("/", "")
            for field in fields:
                yield f"{well['path']}/{field['path']}", name
    elif "bioformats2raw.layout" in attributes:
        names = _attributes(root, "OME").get("series")
        if names is None:
            folders = (f.name for f in root.iterdir() if f.name.isdecimal())
            names = sorted(folders, key=int)
        yield from ((name, "") for name in names)


def _group(root: pathlib.Path, place: str) -> Any:
    import zarr

    # Consolidated metadata at the root might differ from those of the groups.
    return zarr.open_group(_inside(root, place), mode="r", use_consolidated=False)


def _attributes(root: pathlib.Path, place: str) -> dict[str, Any]:
    if place and not _inside(root, place).is_dir():
        return {}
    attributes = dict(_group(root, place).attrs)
    # Since NGFF 0.5 all metadata are below one key.
    return attributes.get("ome", attributes)


def _inside(root: pathlib.Path, place: str) -> pathlib.Path:
    """Returns the folder of a place, which must be below the root.

    Raises:
      InputError: if the metadata point elsewhere, such as '../x' or a link.
    """
    folder = root / place
    if ".." in place or not folder.resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"{root}: its metadata point out of the folder ({place!r}), where no image "
            "is read. Export it again."
        )
    return folder


def _scene(root: pathlib.Path, place: str, well: str) -> base.Scene:
    attributes = _attributes(root, place)
    if not attributes.get("multiscales"):
        raise InputError(
            f"{root}: the image {place!r}, which the metadata name, is missing. Copy it "
            "again."
        )
    image = attributes["multiscales"][0]
    level = image["datasets"][0]
    array = _array(root, f"{place}/{level['path']}" if place else level["path"])
    axes = _axes(image, array.ndim)
    names = [axis["name"].lower() for axis in axes]
    sizes = dict(zip(names, array.shape, strict=True))
    strange = [name for name, size in sizes.items() if name not in _KNOWN_AXES]
    if any(sizes[name] > 1 for name in strange) or not {"y", "x"} <= set(names):
        raise InputError(
            f"{root}: the axes {', '.join(names)} {array.shape} of {place or 'the image'} are not "
            "among t, c, z, y, x."
        )
    size_yx = sizes["y"], sizes["x"]
    png.check_image_size(*size_yx, root)
    count = sizes.get("c", 1)
    return base.Scene(
        (sizes.get("t", 1), sizes.get("z", 1), count),
        size_yx,
        _channels(attributes, count),
        _plane_reader(array, names),
        _pixel_size(image, level, axes),
        name=place or str(image.get("name") or ""),
        well=well,
        stage_um=_stage_um(level, axes),
    )


def _axes(image: dict[str, Any], ndim: int) -> list[dict[str, Any]]:
    axes = image.get("axes")
    if axes is None and ndim == len(_KNOWN_AXES):
        # NGFF 0.1 and 0.2 always have these axes.
        axes = list("tczyx")
    return [{"name": axis} if isinstance(axis, str) else axis for axis in axes or ()]


def _array(root: pathlib.Path, place: str) -> Any:
    """Opens an array after checking that its chunks are safe to read.

    Raises:
      InputError: if its values are not grey values, its chunks are far larger than the
        image, its codec could run code, or it has no chunk.
    """
    import zarr

    array = zarr.open_array(_inside(root, place), mode="r")
    codecs = [type(codec).__name__ for codec in (*array.filters, *array.compressors)]
    settings = str(array.metadata.to_dict()).lower()
    if array.dtype.kind not in "iufb" or "pickle" in settings:
        raise InputError(
            f"{root}: {place} holds {array.dtype}, stored with "
            f"{', '.join(codecs) or 'no codec'}; expected grey values. Export it again."
        )
    chunk = math.prod(array.chunks)
    if chunk > max(_USUAL_CHUNK_PX, 4 * min(array.size, png.MAX_IMAGE_PIXELS)):
        raise InputError(
            f"{root}: {place} has {array.shape} px in chunks of {array.chunks}, which are "
            "far larger. Store it again with chunks of about a plane."
        )
    if chunk > png.MAX_IMAGE_PIXELS:
        raise InputError(
            f"{root}: {place} has chunks of {array.chunks}, more than the "
            f"{png.MAX_IMAGE_PIXELS:,} px that can be read. Store it again with chunks "
            "of about a plane."
        )
    _check_chunks(root, array, _inside(root, place))
    return array


def _check_chunks(root: pathlib.Path, array: Any, folder: pathlib.Path) -> None:
    """Raises InputError if there is no chunk, or a Blosc chunk with a wrong length."""
    found = False
    is_blosc = "blosc" in str(array.compressors[-1:]).lower() and array.shards is None
    for path in folder.rglob("*"):
        if path.name in _METADATA or not path.is_file():
            continue
        found = True
        if not is_blosc:
            continue
        with open(path, "rb") as file:
            header = file.read(16)
        # Blosc trusts the length in the header, and would read beyond the end.
        size = path.stat().st_size
        if len(header) < 16 or int.from_bytes(header[12:], "little") != size:
            raise InputError(
                f"{root}: the chunk {path.relative_to(root)} is broken or truncated. "
                "Copy it again."
            )
    if not found:
        raise InputError(
            f"{root}: {folder.relative_to(root)} holds no pixels. Copy it again."
        )


def _plane_reader(array: Any, names: list[str]) -> base.PlaneReader:
    is_turned = names.index("x") < names.index("y")

    def read(t: int, z: int, c: int) -> np.ndarray:
        place = {"t": t, "z": z, "c": c, "y": slice(None), "x": slice(None)}
        plane = np.asarray(array[tuple(place.get(name, 0) for name in names)])
        return plane.T if is_turned else plane

    return read


def _pixel_size(
    image: dict[str, Any], level: dict[str, Any], axes: list[dict[str, Any]]
) -> base.PixelSize:
    """Returns the size of a pixel: the scale of the level times that of all levels."""
    at = {axis["name"].lower(): place for place, axis in enumerate(axes)}
    x, y, is_known = 1.0, 1.0, False
    for holder in (level, image):
        for change in holder.get("coordinateTransformations") or ():
            if change.get("type") == "scale" and "scale" in change:
                scale, is_known = change["scale"], True
                x, y = x * scale[at["x"]], y * scale[at["y"]]
    if not is_known:
        return base.NO_PIXEL_SIZE
    units = (str(axes[at[name]].get("unit") or "") for name in "xy")
    return base.pixel_size(x, y, *units)


def _stage_um(
    level: dict[str, Any], axes: list[dict[str, Any]]
) -> tuple[float, float] | None:
    """Returns the translation of the full resolution, if there is one."""
    at = {axis["name"].lower(): place for place, axis in enumerate(axes)}
    for change in level.get("coordinateTransformations") or ():
        if change.get("type") == "translation":
            moved = change.get("translation")
            if isinstance(moved, list) and len(moved) == len(axes):
                x, y = at["x"], at["y"]
                units = (str(axes[i].get("unit") or "") for i in (x, y))
                return base.stage_um(moved[x], moved[y], *units)
    return None


def _channels(attributes: dict[str, Any], count: int) -> tuple[base.Channel, ...]:
    known = (attributes.get("omero") or {}).get("channels") or ()
    channels = [base.Channel(str(channel.get("label") or "")) for channel in known]
    return base.channels_of(channels, count)


FORMAT = base.Format("OME-Zarr", "zarr", "zarr", (".zarr",), _claims, _scenes)
