"""Zeiss CZI: each mosaic tile of a scene becomes a field of its own."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy.formats import base, compression

_SIGNATURE = b"ZISRAWFILE"
_KNOWN_AXES = "TZCS"
_COLOURS = ("Bgr24", "Bgr48")
_GREYS = ("Gray8", "Gray16", "Gray32Float")

# Offsets and sizes in bytes.
_DIRECTORY_AT = 84
_SEGMENT_HEADER, _ENTRIES_AT, _COPY_AT = 32, 160, 16
_BLOCK_AT, _COUNT_AT, _ENTRY_HEADER, _DIMENSION = 6, 28, 32, 20
# X, Y, M and the nine other dimensions of CZI.
_MOST_DIMENSIONS = 12

# In a sub-block: the fixed part, in which the size of its metadata comes first, fills
# at least so many bytes. Pixels follow the metadata.
_FIXED_PART = 256
# Numbers of lossy compression; of the second there is a lossless kind, too.
_JPEG, _JPEG_XR = 1, 4

_Rectangle = tuple[int, int, int, int]


@dataclasses.dataclass
class _Tile:
    """One camera field.

    Attributes:
      scene: number of its scene; None if the file has no scenes.
      planes: place (x, y, width, height) of each plane by (t, z, c).
      pixel_types: pixel types of its planes.
      losses: names of lossy compression of its planes.
    """

    scene: int | None
    planes: dict[tuple[int, int, int], _Rectangle]
    pixel_types: set[str]
    losses: set[str]


def _claims(path: pathlib.Path, head: bytes) -> bool:
    return head.startswith(_SIGNATURE)


def _scenes(path: pathlib.Path) -> Iterator[base.Scene]:
    """Yields one scene for each mosaic tile.

    Tiles of a mosaic overlap, commonly by 10 %. The library reads pixels by place and not
    by tile: where tiles overlap, all of them show the pixels of the tile with the highest
    number. A cell in an overlap is therefore in two fields; see `analysis.overlaps`.
    """
    from pylibCZIrw import czi

    pixels_at = _places_of_pixels(path)
    with czi.open_czi(str(path)) as file:
        tiles = _tiles(path, file, pixels_at)
        channels, names, pixel_size = _metadata(file.raw_metadata)
        several = {tile.scene: 0 for tile in tiles}
        for tile in tiles:
            several[tile.scene] += 1
        number = dict.fromkeys(several, 0)
        for tile in tiles:
            name = names.get(tile.scene, "")
            if several[tile.scene] > 1:
                name = f"{name or f'scene {tile.scene or 0}'} tile {number[tile.scene]}"
            number[tile.scene] += 1
            yield _scene(path, file, tile, channels, pixel_size, name)


def _places_of_pixels(path: pathlib.Path) -> list[int]:
    """Returns where the pixels of each sub-block begin in the file.

    Layout: CZI file format 1.2, file header, sub-block directory and entry DV.

    Raises:
      InputError: if a sub-block claims dimensions that it cannot have. The library does
        not check such a count, and crashes the interpreter.
    """

    def number(at: int, size: int) -> int:
        file.seek(at)
        return int.from_bytes(file.read(size), "little", signed=True)

    places = []
    with open(path, "rb") as file:
        directory = number(_DIRECTORY_AT, 8)
        at = directory + _ENTRIES_AT
        for entry in range(number(directory + _SEGMENT_HEADER, 4)):
            count = number(at + _COUNT_AT, 4)
            block = number(at + _BLOCK_AT, 8) + _SEGMENT_HEADER
            # Each sub-block begins with a copy of its entry.
            if (
                not 0 < count <= _MOST_DIMENSIONS
                or number(block + _COPY_AT + _COUNT_AT, 4) != count
            ):
                raise InputError(
                    f"{path}: the CZI is broken or truncated (entry {entry} of its list "
                    "of sub-blocks). Copy it again from the microscope."
                )
            entry_size = _ENTRY_HEADER + _DIMENSION * count
            fixed_part = max(_FIXED_PART, _COPY_AT + entry_size)
            places.append(block + fixed_part + number(block, 4))
            at += entry_size
    return places


def _loss(path: pathlib.Path, number: int, place: int) -> str:
    """Returns the name of a sub-block's compression if it changed pixels; '' if not."""
    if number == _JPEG:
        return "JPEG"
    if number != _JPEG_XR:
        return ""
    with open(path, "rb") as file:
        file.seek(place)
        return compression.jpeg_xr_loss(file.read(compression.HEAD_BYTES))


def _tiles(path: pathlib.Path, file: Any, pixels_at: list[int]) -> list[_Tile]:
    """Lists the tiles of the sub-block directory, without reading pixels."""
    blocks = []

    def note(index: int, block: Any) -> bool:
        place, stored = block.logicalRect, block.physicalSize
        # Blocks stored at a smaller size belong to the pyramid of previews.
        if (place.w, place.h) == (stored.w, stored.h):
            mosaic = block.mIndex if block.is_mindex_valid() else None
            rectangle = (place.x, place.y, place.w, place.h)
            told = (
                block.pixelType.name,
                _loss(path, block.compressionModeRaw, pixels_at[index]),
            )
            blocks.append((block.coordinate.to_dict(), mosaic, rectangle, *told))
        return True

    file.enumerate_subblocks(note)
    _check_axes(path, [where for where, *_ in blocks])
    tiles: dict[tuple, _Tile] = {}
    for where, mosaic, rectangle, kind, loss in blocks:
        # A tile without a number is identified by its place.
        name = (mosaic,) if mosaic is not None else (-1, *rectangle[1::-1])
        key = (where.get("S", 0), *name)
        tile = tiles.setdefault(key, _Tile(where.get("S"), {}, set(), set()))
        tile.planes[tuple(where.get(axis, 0) for axis in "TZC")] = rectangle
        tile.pixel_types.add(kind)
        tile.losses |= {loss} - {""}
    return [tiles[key] for key in sorted(tiles)]


def _check_axes(path: pathlib.Path, coordinates: list[dict[str, int]]) -> None:
    if not coordinates:
        raise InputError(f"{path}: the CZI holds no image. Export the field again.")
    for axis in sorted({axis for where in coordinates for axis in where}):
        count = len({where.get(axis, 0) for where in coordinates})
        if axis not in _KNOWN_AXES and count > 1:
            raise InputError(
                f"{path}: {count} images along the axis {axis}, which is not supported (R "
                "rotation, I illumination, H phase, V view, B block). Process the file in "
                "ZEN to one image, or export OME-TIFF."
            )


def _scene(
    path: pathlib.Path,
    file: Any,
    tile: _Tile,
    channels: list[base.Channel],
    pixel_size: base.PixelSize,
    name: str,
) -> base.Scene:
    times, depths, colours = (
        sorted(set(values)) for values in zip(*tile.planes, strict=True)
    )
    _check_tile(path, tile, len(times) * len(depths) * len(colours), name)
    is_rgb = tile.pixel_types <= set(_COLOURS)
    known = [channels[c] if c < len(channels) else base.Channel() for c in colours]

    def read(t: int, z: int, c: int) -> np.ndarray:
        colour = 0 if is_rgb else c
        where = (times[t], depths[z], colours[colour])
        pixels = file.read(
            roi=tile.planes[where],
            plane=dict(zip("TZC", where, strict=True)),
            scene=tile.scene,
        )
        # Colours are stored as blue, green, red.
        return np.array(pixels[..., 2 - c if is_rgb else 0])

    x, y, width, height = next(iter(tile.planes.values()))
    # Tiles have places in pixels, which all scenes of the file share.
    um = pixel_size.um or math.nan
    return base.Scene(
        (len(times), len(depths), 3 if is_rgb else len(colours)),
        (height, width),
        base.RGB if is_rgb else tuple(known),
        read,
        pixel_size,
        name=name,
        is_rgb=is_rgb,
        loss=" and ".join(sorted(tile.losses)),
        stage_um=base.stage_um(x * um, y * um, "µm", "µm"),
    )


def _check_tile(path: pathlib.Path, tile: _Tile, expected: int, name: str) -> None:
    where = f"{path}: {name or 'the image'}"
    if len(tile.planes) < expected:
        raise InputError(
            f"{where} has {len(tile.planes)} planes; {expected} are needed for all time "
            "points, depths and channels. The acquisition was stopped, or channels differ "
            "in their stacks. Cut out the complete part in ZEN (Create Image Subset)."
        )
    if len({rectangle[2:] for rectangle in tile.planes.values()}) > 1:
        raise InputError(f"{where} has planes of different sizes. Export OME-TIFF.")
    colours = len({c for _, _, c in tile.planes})
    one_kind = len(tile.pixel_types) == 1 and tile.pixel_types <= set(_COLOURS + _GREYS)
    if not one_kind or (tile.pixel_types <= set(_COLOURS) and colours > 1):
        raise InputError(
            f"{where} has {colours} channels of {', '.join(sorted(tile.pixel_types))} "
            f"pixels; expected one of {', '.join(_GREYS)}, or one colour picture "
            f"({', '.join(_COLOURS)}). Export the field as OME-TIFF."
        )


def _metadata(
    xml: str,
) -> tuple[list[base.Channel], dict[int | None, str], base.PixelSize]:
    """Returns channels, names of scenes by number, and the size of a pixel."""
    root = ElementTree.fromstring(xml)
    dimensions = "./Metadata/Information/Image/Dimensions"
    channels = [
        base.Channel(
            base.channel_name(entry.get("Name"), entry.findtext("Fluor")),
            base.wavelength_nm(entry.findtext("EmissionWavelength")),
        )
        for entry in root.iterfind(f"{dimensions}/Channels/Channel")
    ]
    names: dict[int | None, str] = {
        int(index): entry.get("Name") or ""
        for entry in root.iterfind(f"{dimensions}/S/Scenes/Scene")
        if (index := entry.get("Index") or "").isdecimal()
    }
    x, y = (
        root.findtext(f"./Metadata/Scaling/Items/Distance[@Id='{axis}']/Value")
        for axis in "XY"
    )
    return channels, names, base.pixel_size(x, y, "m", "m")


FORMAT = base.Format("Zeiss CZI", "pylibCZIrw", "czi", (".czi",), _claims, _scenes)
