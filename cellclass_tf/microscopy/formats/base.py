"""What every format gives: scenes, whose planes are read one at a time."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator

import numpy as np


@dataclasses.dataclass(frozen=True)
class Channel:
    """What a file says of one channel.

    Attributes:
      name: '' where the file names none.
      emission_nm: peak wavelength of the light that was recorded; None if not stated.
    """

    name: str = ""
    emission_nm: float | None = None


@dataclasses.dataclass(frozen=True)
class Scene:
    """One position in a file: T x Z x C planes of one size.

    Attributes:
      size_tzc: numbers of time points, focal planes and channels.
      size_yx: height and width in pixels, as the header claims them.
      channels: C channels.
      read: takes (t, z, c) and returns that plane, (Y, X), in the file's own numbers.
      pixel_size_um: width of a pixel in the specimen in µm; None if not recorded.
      name: of the position or well; '' if it has none.
      is_rgb: whether the channels are the red, green and blue of a colour image.
    """

    size_tzc: tuple[int, int, int]
    size_yx: tuple[int, int]
    channels: tuple[Channel, ...]
    read: Callable[[int, int, int], np.ndarray]
    pixel_size_um: float | None = None
    name: str = ""
    is_rgb: bool = False


@dataclasses.dataclass(frozen=True)
class Format:
    """A family of files that one library reads.

    Attributes:
      name: what a person calls it.
      library: name of the distribution that reads it.
      extra: extra of this package that installs the library; '' if it always is.
      suffixes: endings that such files have, lower case; only for finding them.
      claims: takes a path and its first bytes, and says whether the content is of this
        format. It needs no library.
      scenes: takes a path and yields its scenes; the file stays open while they are
        drawn. It may raise anything, which `readers` makes one clear error.
    """

    name: str
    library: str
    extra: str
    suffixes: tuple[str, ...]
    claims: Callable[[pathlib.Path, bytes], bool]
    scenes: Callable[[pathlib.Path], Iterator[Scene]]


RGB = tuple(Channel(name) for name in ("red", "green", "blue"))

_MICROMETRES = {
    "m": 1e6,
    "meter": 1e6,
    "cm": 1e4,
    "centimeter": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
}


def size_um(value: float | str | None, unit: str) -> float | None:
    """Returns a pixel's width in µm; None if it is no positive length.

    Some microscopes write 0 or 1 pixel where nothing was calibrated.
    """
    # Greek mu and the micro sign look alike; ImageJ escapes the latter.
    unit = unit.replace("\\u00B5", "µ").replace("\u03bc", "µ").strip()
    scale = _MICROMETRES.get(unit) or _MICROMETRES.get(unit.lower())
    try:
        width = float(value) * scale if scale else 0.0
    except (TypeError, ValueError):
        return None
    return width if 0 < width < float("inf") else None


def wavelength_nm(value: float | str | None) -> float | None:
    """Returns a wavelength in nm; None where 0 or a text stands for nothing."""
    try:
        return float(value) if 200 < float(value) < 2000 else None
    except (TypeError, ValueError):
        return None


def channel_name(own: str | None, dye: str | None) -> str:
    """Joins a channel's own name and its dye's; one of them if it says the other too."""
    own, dye = ((name or "").strip() for name in (own, dye))
    if dye.lower() in own.lower():
        return own
    return dye if own.lower() in dye.lower() else f"{own} {dye}"
