"""Leica LIF: a project of images, of which those in X and Y are fields."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np

from cellclass_tf.errors import InputError
from cellclass_tf.messages import logger
from cellclass_tf.microscopy.formats import base

_MARK, _SECOND_MARK = b"\x70\x00\x00\x00", b"\x2a"
# M numbers the tiles of a mosaic, S the samples of a colour.
_KNOWN_AXES = "TZCMYXS"
# Tags of red, green and blue; that of grey is 0.
_COLOUR_TAGS = ("1", "2", "3")
# The middle of a wider detection band does not identify a stain.
_WIDEST_BAND_NM = 100.0


def _claims(path: pathlib.Path, head: bytes) -> bool:
    return head.startswith(_MARK) and head[8:9] == _SECOND_MARK


def _scenes(path: pathlib.Path) -> Iterator[base.Scene]:
    """Yields one scene for each image, or for each mosaic tile of it.

    Images of other kinds, such as XZ series, are left out with a warning.

    Raises:
      InputError: if no image can be used; the message has the reason for each image.
    """
    import liffile

    with liffile.LifFile(path) as file:
        good, reasons = [], []
        for image in file.images:
            reason = _reason_against(image)
            reasons += [f"{image.name!r}: {reason}"] if reason else []
            good += [] if reason else [image]
        if reasons and good:
            logger.warning(
                "%s: %d of %d images are left out: %s.",
                path,
                len(reasons),
                len(reasons) + len(good),
                "; ".join(reasons),
            )
        if not good:
            raise InputError(
                f"{path}: no image of the file is a field in X and Y of known channels "
                f"({'; '.join(reasons) or 'it holds none'})."
            )
        for image in good:
            yield from _tiles(image)


def _reason_against(image: Any) -> str:
    """Returns the reason why an image is not a field; '' if it is one."""
    if image.is_flim:
        return "fluorescence lifetimes, not brightness"
    stored = image.memory_block.size
    try:
        sizes, plane = image.sizes, "".join(image.frames.frame_dims)
        needed = image.nbytes
    # One image that the library cannot read must not hide the others.
    except (AssertionError, KeyError, ValueError) as error:
        return f"not understood ({type(error).__name__}: {error})"
    size = ", ".join(f"{axis} {count}" for axis, count in sizes.items())
    if "λ" in sizes or "Λ" in sizes:
        return f"a lambda scan ({size})"
    if plane not in ("YX", "YXS"):
        return f"its planes are {plane or 'nothing'}, not Y and X ({size})"
    strange = [axis for axis in sizes if axis not in _KNOWN_AXES]
    if strange:
        return f"axes of unknown meaning ({size})"
    # The library would continue with the pixels of the next image.
    return f"{stored} of its {needed} bytes are there" if stored < needed else ""


def _tiles(image: Any) -> Iterator[base.Scene]:
    sizes = image.sizes
    is_rgb = "C" not in sizes and _are_colours(image.xml_element)
    count = sizes.get("C", 1) * sizes.get("S", 1)
    places = _stage_places(image.xml_element, sizes.get("M", 1))
    for tile in range(sizes.get("M", 1)):
        yield base.Scene(
            (sizes.get("T", 1), sizes.get("Z", 1), count),
            (sizes["Y"], sizes["X"]),
            base.RGB if is_rgb else _channels(image.xml_element, count),
            _plane_reader(image, tile),
            _pixel_size(image.xml_element),
            name=f"{image.name} tile {tile}" if "M" in sizes else image.name,
            is_rgb=is_rgb,
            stage_um=places[tile],
        )


def _are_colours(xml: ElementTree.Element) -> bool:
    """Whether the channels are red, green and blue, and not three grey ones."""
    described = xml.iterfind(
        "./Data/Image/ImageDescription/Channels/ChannelDescription"
    )
    tags = sorted(channel.get("ChannelTag") or "" for channel in described)
    return tags == list(_COLOUR_TAGS)


def _stage_places(
    xml: ElementTree.Element, count: int
) -> list[tuple[float, float] | None]:
    """Returns the position of each tile; None for all if there are not as many."""
    tiles = xml.findall("./Data/Image/Attachment[@Name='TileScanInfo']/Tile")
    if len(tiles) != count:
        return [None] * count
    return [base.stage_um(t.get("PosX"), t.get("PosY"), "m", "m") for t in tiles]


def _plane_reader(image: Any, tile: int) -> base.PlaneReader:
    samples = image.sizes.get("S", 1)

    def read(t: int, z: int, c: int) -> np.ndarray:
        place = {"T": t, "Z": z, "C": c // samples, "M": tile}
        place = {axis: at for axis, at in place.items() if axis in image.sizes}
        plane = image.frame(**place)
        return plane[..., c % samples] if "S" in image.sizes else plane

    return read


def _pixel_size(xml: ElementTree.Element) -> base.PixelSize:
    (x, unit_x), (y, unit_y) = (_side(xml, number) for number in (1, 2))
    return base.pixel_size(x, y, unit_x, unit_y)


def _side(xml: ElementTree.Element, number: int) -> tuple[float | None, str]:
    """Returns a pixel's size along a dimension (1 is X, 2 is Y), and its unit."""
    found = xml.find(
        "./Data/Image/ImageDescription/Dimensions/"
        f"DimensionDescription[@DimID='{number}']"
    )
    if found is None:
        return None, ""
    # The length is measured from the middle of the first pixel to that of the last.
    try:
        steps = int(found.get("NumberOfElements", "")) - 1
        return float(found.get("Length", "")) / steps, found.get("Unit") or ""
    except (ValueError, ZeroDivisionError):
        return None, ""


def _channels(xml: ElementTree.Element, count: int) -> tuple[base.Channel, ...]:
    """Returns the channels in the order in which they are stored.

    The dye is that of the channel itself (LAS X), of the camera's settings or of the
    confocal's active detectors. Settings are used only if there are as many as channels.
    A channel without a dye is named by the colour that the user chose.
    """
    described = sorted(
        xml.iterfind("./Data/Image/ImageDescription/Channels/ChannelDescription"),
        key=lambda entry: int(entry.get("BytesInc") or 0),
    )
    hardware = next(
        (found for found in _hardware(xml) if len(found) == len(described)),
        [base.Channel()] * len(described),
    )
    channels = []
    for entry, setting in zip(described, hardware, strict=True):
        keys = (node.findtext("Key") for node in entry.iterfind("ChannelProperty"))
        values = (node.findtext("Value") for node in entry.iterfind("ChannelProperty"))
        dye = dict(zip(keys, values, strict=True)).get("DyeName") or setting.name
        name = dye.removeprefix("Leica/") or entry.get("LUTName") or ""
        channels.append(base.Channel(name, setting.emission_nm))
    return base.channels_of(channels, count)


def _hardware(xml: ElementTree.Element) -> Iterator[list[base.Channel]]:
    """Yields the channels in the settings of the camera, and then of the confocal."""
    yield [
        base.Channel(
            info.get("UserDefName") or info.get("FluoCubeName") or "",
            base.wavelength_nm(info.get("EmissionWavelength")),
        )
        for info in xml.iterfind("./Data/Image//WideFieldChannelInfo")
    ]
    settings = xml.findall(
        "./Data/Image//LDM_Block_Sequential_List/ATLConfocalSettingDefinition"
    ) or xml.findall("./Data/Image/Attachment/ATLConfocalSettingDefinition")
    yield [
        _of_band(setting.find(f".//MultiBand[@Channel='{detector.get('Channel')}']"))
        for setting in settings
        for detector in setting.iterfind(".//Detector[@IsActive='1']")
    ]


def _of_band(band: ElementTree.Element | None) -> base.Channel:
    if band is None:
        return base.Channel()
    low, high = (
        base.wavelength_nm(band.get(f"{side}World")) for side in ("Left", "Right")
    )
    middle = None
    if low and high and 0 < high - low <= _WIDEST_BAND_NM:
        middle = (low + high) / 2
    return base.Channel(band.get("DyeName") or "", middle)


FORMAT = base.Format("Leica LIF", "liffile", "lif", (".lif",), _claims, _scenes)
