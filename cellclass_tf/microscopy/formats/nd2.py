"""Nikon ND2: frames that hold all channels, in loops over time, position and Z."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cellclass_tf.errors import InputError
from cellclass_tf.microscopy.formats import base

_SIGNATURE = b"\xda\xce\xbe\x0a"
# Files of NIS-Elements before 3.0 begin like any JPEG 2000 file, so that only the ending
# identifies them.
_OLD_SIGNATURE = b"\x00\x00\x00\x0cjP  "
_KNOWN_AXES = "TPZCYXS"


def _claims(path: pathlib.Path, head: bytes) -> bool:
    is_old = head.startswith(_OLD_SIGNATURE) and path.suffix.lower() == ".nd2"
    return head.startswith(_SIGNATURE) or is_old


def _scenes(path: pathlib.Path) -> Iterator[base.Scene]:
    """Yields one scene for each stage position."""
    import nd2

    with nd2.ND2File(path) as file:
        strange = [axis for axis in file.sizes if axis not in _KNOWN_AXES]
        if strange:
            raise InputError(
                f"{path}: the loops {dict(file.sizes)} are not all among T (time), P "
                "(position), Z and C. Export the field as OME-TIFF."
            )
        frames = {
            tuple(index.get(axis, 0) for axis in "PTZ"): number
            for number, index in enumerate(file.loop_indices)
        } or {(0, 0, 0): 0}
        names = _position_names(file)
        for position in range(file.sizes.get("P", 1)):
            name = names[position] if position < len(names) else ""
            yield _scene(path, file, frames, position, name)


def _scene(
    path: pathlib.Path,
    file: Any,
    frames: Mapping[tuple[int, ...], int],
    position: int,
    name: str,
) -> base.Scene:
    sizes, attributes = file.sizes, file.attributes
    count = attributes.componentCount
    frame_shape = (
        attributes.channelCount or 1,
        sizes["Y"],
        sizes["X"],
        file.components_per_channel,
    )

    # A frame holds every channel.
    @functools.lru_cache(maxsize=1)
    def frame(t: int, z: int) -> np.ndarray:
        number = frames[position, t, z]
        pixels = file.read_frame(number).reshape(frame_shape)
        if _is_made_up(pixels):
            raise InputError(
                f"{path}: frame {number} (position {position}, time {t}, plane {z}) is "
                "missing. The file is truncated, or the acquisition was stopped: copy "
                "it again, or save the complete part in NIS-Elements."
            )
        return pixels

    def read(t: int, z: int, c: int) -> np.ndarray:
        channel, sample = divmod(c, frame_shape[3])
        return np.array(frame(t, z)[channel, :, :, sample])

    is_rgb = file.components_per_channel == 3 and count == 3
    return base.Scene(
        (sizes.get("T", 1), sizes.get("Z", 1), count),
        (sizes["Y"], sizes["X"]),
        base.RGB if is_rgb else _channels(file, *frame_shape[::3]),
        read,
        _pixel_size(file),
        name=name,
        is_rgb=is_rgb,
        stage_um=_stage_um(file, position, frames[position, 0, 0]),
    )


def _is_made_up(pixels: np.ndarray) -> bool:
    """Whether the library filled in a frame that is not in the file.

    The library fills such a frame with zeros. A frame in the file may be black, too (as
    those of confocals), but then its memory belongs to the file.
    """
    owner = pixels
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return owner.base is None and not pixels.any()


def _channels(file: Any, count: int, samples: int) -> tuple[base.Channel, ...]:
    known = [entry.channel for entry in file.metadata.channels or ()]
    channels = [
        base.Channel(c.name or "", base.wavelength_nm(c.emissionLambdaNm))
        for c in known
    ]
    colours = ("red", "green", "blue") if samples == 3 else ("",) * samples
    return base.channels_of(channels, count, colours)


def _pixel_size(file: Any) -> base.PixelSize:
    """Returns the size of a pixel; uncalibrated files state 1 µm, which is ignored."""
    for entry in file.metadata.channels or ():
        if not entry.volume.axesCalibrated[0]:
            return base.NO_PIXEL_SIZE
    voxel = file.voxel_size()
    return base.pixel_size(voxel.x, voxel.y, "µm", "µm")


def _position_names(file: Any) -> list[str]:
    for loop in file.experiment:
        if loop.type == "XYPosLoop":
            return [point.name or "" for point in loop.parameters.points]
    return []


def _stage_um(file: Any, position: int, frame: int) -> tuple[float, float] | None:
    """Returns the stage's position: that of the loop, or else that of the first frame."""
    points = [
        point
        for loop in file.experiment
        if loop.type == "XYPosLoop"
        for point in loop.parameters.points
    ]
    try:
        if points:
            place = points[position].stagePositionUm
        else:
            (first, *_) = file.frame_metadata(frame).channels
            place = first.position.stagePositionUm
        return base.stage_um(place.x, place.y, "µm", "µm")
    # Old files and damaged metadata have no position.
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None


FORMAT = base.Format("Nikon ND2", "nd2", "nd2", (".nd2",), _claims, _scenes)
