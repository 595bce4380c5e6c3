"""Channels, pixel sizes and stage positions in the metadata of TIFF files."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from cellclass_tf.microscopy.formats import base


@functools.lru_cache(maxsize=1)
def ome_images(xml: str) -> list[ElementTree.Element]:
    """Returns the pixels (OME's `Pixels`) of the images that OME-XML describes."""
    return ElementTree.fromstring(xml).findall("{*}Image/{*}Pixels")


def channels(tiff: Any, scene: int) -> tuple[base.Channel, ...]:
    """Returns the channels of an image that its metadata describe."""
    pixels = _ome_pixels(tiff, scene)
    if pixels is not None:
        return tuple(
            base.Channel(
                base.channel_name(c.get("Name"), c.get("Fluor")),
                base.wavelength_nm(c.get("EmissionWavelength")),
            )
            for c in pixels.iterfind("{*}Channel")
        )
    if tiff.is_imagej:
        labels = (tiff.imagej_metadata or {}).get("Labels") or ()
        # A single label comes as a string.
        labels = [labels] if isinstance(labels, str) else labels
        return tuple(base.Channel(str(label or "")) for label in labels)
    plane = _metaseries_plane(tiff)
    if plane:
        name = plane.get("_IllumSetting_") or plane.get("image-name") or ""
        return (base.Channel(str(name), base.wavelength_nm(plane.get("wavelength"))),)
    if tiff.is_stk:
        found = tiff.stk_metadata or {}
        name = _illumination(found) or str(found.get("Name") or "")
        return (base.Channel(name, base.wavelength_nm(found.get("wavelength"))),)
    if tiff.is_lsm:
        colors = (tiff.lsm_metadata or {}).get("ChannelColors") or {}
        return tuple(base.Channel(str(n)) for n in colors.get("ColorNames") or ())
    return ()


def _metaseries_plane(tiff: Any) -> Mapping[str, Any]:
    """Returns the plane's metadata of a MetaSeries TIFF; nothing for other files."""
    if not tiff.is_metaseries:
        return {}
    return (tiff.metaseries_metadata or {}).get("PlaneInfo") or {}


def _illumination(stk_metadata: Mapping[str, Any]) -> str:
    """Returns the name of the light path; MetaMorph's 'Name' is the image's title."""
    properties = stk_metadata.get("PlaneProperty") or ()
    values = (p["value"] for p in properties if p["name"] == "_IllumSetting_")
    return str(next(values, ""))


def pixel_size(tiff: Any, scene: int) -> base.PixelSize:
    """Returns the size of a pixel of an image, from its metadata."""
    pixels = _ome_pixels(tiff, scene)
    if pixels is not None:
        x, y = (pixels.get(f"PhysicalSize{axis}") for axis in "XY")
        units = (pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "XY")
        return base.pixel_size(x, y, *units)
    if tiff.is_imagej:
        unit = str((tiff.imagej_metadata or {}).get("unit", ""))
        # ImageJ writes a unit of its own for y only if it differs.
        unit_y = str((tiff.imagej_metadata or {}).get("yunit", unit))
        width, height = (_imagej_side(tiff, axis) for axis in "XY")
        return base.pixel_size(width, height, unit, unit_y)
    plane = _metaseries_plane(tiff)
    if plane.get("spatial-calibration-state"):
        unit = str(plane.get("spatial-calibration-units", ""))
        x, y = (plane.get(f"spatial-calibration-{axis}") for axis in "xy")
        return base.pixel_size(x, y, unit, unit)
    if tiff.is_stk and (tiff.stk_metadata or {}).get("SpatialCalibration"):
        found = tiff.stk_metadata
        unit = str(found.get("CalibrationUnits") or "")
        x, y = found.get("XCalibration"), found.get("YCalibration")
        return base.pixel_size(x, y, unit, unit)
    if tiff.is_lsm:
        found = tiff.lsm_metadata or {}
        return base.pixel_size(
            found.get("VoxelSizeX"), found.get("VoxelSizeY"), "m", "m"
        )
    # The resolution of a plain TIFF is for printing, and not that of the specimen.
    return base.NO_PIXEL_SIZE


def _imagej_side(tiff: Any, axis: str) -> float | None:
    """Returns the size of a pixel along X or Y in ImageJ's unit; None if missing."""
    tag = tiff.pages[0].tags.get(f"{axis}Resolution")
    return None if tag is None or not tag.value[0] else tag.value[1] / tag.value[0]


def stage_um(tiff: Any, scene: int) -> tuple[float, float] | None:
    """Returns the position of an image's first plane that has one, in OME-TIFF."""
    pixels = _ome_pixels(tiff, scene)
    for plane in () if pixels is None else pixels.iterfind("{*}Plane"):
        x, y = plane.get("PositionX"), plane.get("PositionY")
        units = (plane.get(f"Position{axis}Unit", "") for axis in "XY")
        if found := base.stage_um(x, y, *units):
            return found
    return None


def _ome_pixels(tiff: Any, scene: int) -> ElementTree.Element | None:
    if not tiff.is_ome:
        return None
    found = ome_images(tiff.ome_metadata)
    return found[scene] if scene < len(found) else None
