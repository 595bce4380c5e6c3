"""The interface of a file format: scenes, whose planes are read one at a time."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from cellclass_tf.core.micrograph import PIXEL_SIZES_UM
from cellclass_tf.errors import InputError, one_line


@dataclasses.dataclass(frozen=True)
class Channel:
    """The metadata of one channel.

    Attributes:
      name: its name; '' if the file has none.
      emission_nm: peak wavelength of the recorded light; None if not recorded.
    """

    name: str = ""
    emission_nm: float | None = None


class PixelSize(NamedTuple):
    """The size of a square pixel according to the file.

    Attributes:
      um: width in the specimen in µm; None if it is not recorded, or cannot be used.
      problem: why the recorded size cannot be used; '' if it can, or none is recorded.
    """

    um: float | None = None
    problem: str = ""


NO_PIXEL_SIZE = PixelSize()

# Takes (t, z, c) and returns that plane, (Y, X), in the file's own grey values.
PlaneReader = Callable[[int, int, int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Scene:
    """One position in a file: T x Z x C planes of one size.

    Attributes:
      size_tzc: numbers of time points, focal planes and channels.
      size_yx: height and width in pixels according to the header.
      channels: the C channels.
      read: reads a plane.
      pixel_size: size of a pixel in the specimen.
      name: name of the position or well; '' if it has none.
      is_rgb: whether the channels are the red, green and blue of a colour image.
      loss: name of a lossy compression, such as 'JPEG'; '' for exact pixels.
      well: name of the well, such as 'B03', if the file is a plate; '' if it is none.
      copy_of: number of an earlier scene that this one shows at a smaller size; None if
        there is none.
      stage_um: (x, y) of the microscope's stage in µm according to the file; None if it is
        not recorded. The origin and the directions of the axes differ between microscopes.
    """

    size_tzc: tuple[int, int, int]
    size_yx: tuple[int, int]
    channels: tuple[Channel, ...]
    read: PlaneReader
    pixel_size: PixelSize = NO_PIXEL_SIZE
    name: str = ""
    is_rgb: bool = False
    loss: str = ""
    well: str = ""
    stage_um: tuple[float, float] | None = None
    copy_of: int | None = None


class PartOfAnother(InputError):
    """Raised for a file that only holds a part of an image that begins in another file.

    Attributes:
      whole: the file in which the image begins.
    """

    def __init__(self, path: pathlib.Path, whole: pathlib.Path) -> None:
        super().__init__(
            f"{path}: holds a part of the image that begins in {whole.name}. Read that "
            "file; this part is read with it."
        )
        self.whole = whole


@dataclasses.dataclass(frozen=True)
class Format:
    """A family of files that one library reads.

    Attributes:
      name: name of the format in messages.
      library: name of the distribution that reads it.
      extra: extra of this package that installs the library; '' if it is always there.
      suffixes: usual endings of such files in lower case, used only to find them.
      claims: takes a path and its first bytes, and returns whether the content is of
        this format. It needs no library.
      scenes: takes a path and yields its scenes; the file stays open while the generator
        is in use. It may raise any exception; `readers` turns it into an InputError.
      files: takes a path and returns the files that `scenes` reads, itself first; raises
        PartOfAnother if the file only holds a part of an image of another file.
      holds_one: whether a file never holds more than one scene.
    """

    name: str
    library: str
    extra: str
    suffixes: tuple[str, ...]
    claims: Callable[[pathlib.Path, bytes], bool]
    scenes: Callable[[pathlib.Path], Iterator[Scene]]
    files: Callable[[pathlib.Path], tuple[pathlib.Path, ...]] = lambda path: (path,)
    holds_one: bool = False


RGB = tuple(Channel(name) for name in ("red", "green", "blue"))

# SI prefixes by symbol and name, with their powers of ten; those of OME's UnitsLength.
_PREFIXES = {
    ("Y", "yotta"): 24,
    ("Z", "zetta"): 21,
    ("E", "exa"): 18,
    ("P", "peta"): 15,
    ("T", "tera"): 12,
    ("G", "giga"): 9,
    ("M", "mega"): 6,
    ("k", "kilo"): 3,
    ("h", "hecto"): 2,
    ("da", "deca"): 1,
    ("", ""): 0,
    ("d", "deci"): -1,
    ("c", "centi"): -2,
    ("m", "milli"): -3,
    ("µ", "micro"): -6,
    ("u", "micro"): -6,
    ("n", "nano"): -9,
    ("p", "pico"): -12,
    ("f", "femto"): -15,
    ("a", "atto"): -18,
    ("z", "zepto"): -21,
    ("y", "yocto"): -24,
}
_INCH_UM = 25_400.0
_MICROMETRES = {
    **{f"{symbol}m": 10.0 ** (power + 6) for (symbol, _), power in _PREFIXES.items()},
    **{
        f"{name}{metre}": 10.0 ** (power + 6)
        for (_, name), power in _PREFIXES.items()
        for metre in ("meter", "metre", "meters", "metres")
    },
    **dict.fromkeys(("µ", "micron", "microns", "micra"), 1.0),
    **dict.fromkeys(("Å", "A", "angstrom", "angstroms", "ångström", "ångströms"), 1e-4),
    **dict.fromkeys(("thou", "mil", "mils", "thous"), _INCH_UM / 1000),
    **dict.fromkeys(("li", "line", "lines"), _INCH_UM / 12),
    **dict.fromkeys(("in", "inch", "inches", '"'), _INCH_UM),
    **dict.fromkeys(("ft", "foot", "feet"), 12 * _INCH_UM),
    **dict.fromkeys(("yd", "yard", "yards"), 36 * _INCH_UM),
    **dict.fromkeys(("mi", "mile", "miles"), 63_360 * _INCH_UM),
    **dict.fromkeys(("pt", "point", "points"), _INCH_UM / 72),
    **dict.fromkeys(("ua", "au", "astronomical unit"), 149_597_870_700e6),
    **dict.fromkeys(("ly", "light year", "light years"), 9_460_730_472_580_800e6),
    **dict.fromkeys(("pc", "parsec", "parsecs"), 3.085_677_581_491_367e22),
}
# Largest distance from the origin, in µm, that a stage is believed to have.
_FARTHEST_UM = 1e6
# Larger pixels hold a whole cell. Print resolutions, of 300 to 2400 dots per inch, which
# ImageJ and other programs copy into the place of the pixel size, are all larger.
_COARSEST_UM = 10.0
# Sides of a pixel that differ by more than this part make it a rectangle.
_MOST_UNEQUAL = 0.01
# Units in files that were not calibrated.
_NO_UNITS = ("", "pixel", "pixels", "px", "reference frame", "none", "null", "unknown")


def pixel_size(x: Any, y: Any, unit_x: str, unit_y: str) -> PixelSize:
    """Converts the size of a pixel to µm.

    Units are those of OME (https://www.openmicroscopy.org, UnitsLength), by symbol or by
    English name. Uncalibrated microscopes write 0, and graphics programs write the print
    resolution, so that a width at which a light microscope shows no cells is not used. A
    height that is not recorded is taken to be the width. Areas and shapes would be wrong
    if the pixels were not square.

    Args:
      x: the width, as the file has it.
      y: the height.
      unit_x: unit of x.
      unit_y: unit of y.
    """
    width, height = _side(x, unit_x), _side(y, unit_y)
    if width.um is None or height == NO_PIXEL_SIZE:
        return width
    if height.um is None:
        return height
    if abs(width.um - height.um) > _MOST_UNEQUAL * max(width.um, height.um):
        told = f"{width.um:.4g} x {height.um:.4g} µm, pixels that are not square"
        return PixelSize(None, told)
    return width


def _side(value: Any, unit: str) -> PixelSize:
    """Converts the width or the height of a pixel to µm."""
    name, scale = _unit(unit)
    try:
        width = float(value)
    except (TypeError, ValueError):
        return NO_PIXEL_SIZE
    if not 0 < width < float("inf") or name.lower() in _NO_UNITS:
        return NO_PIXEL_SIZE
    if scale is None:
        return PixelSize(
            None, f"{width:.6g} {one_line(name)}, a unit that is not known"
        )
    least, most = PIXEL_SIZES_UM
    if not least <= width * scale <= most:
        return PixelSize(
            None,
            f"{width * scale:.4g} µm, which no light microscope has ({width:.6g} "
            f"{one_line(name)}; expected {least} to {_COARSEST_UM:.0f} µm)",
        )
    if width * scale > _COARSEST_UM:
        return PixelSize(
            None,
            f"{width * scale:.4g} µm, or {_INCH_UM / (width * scale):.0f} dots per inch, "
            "which is a resolution for printing and too coarse for cells (expected "
            f"{least} to {_COARSEST_UM:.0f} µm)",
        )
    return PixelSize(width * scale)


def channels_of(
    described: Sequence[Channel], count: int, samples: Sequence[str] = ("",)
) -> tuple[Channel, ...]:
    """Returns the channels of the planes; those that the file does not describe have no name.

    Args:
      described: the channels that the file describes; more than there are is ignored.
      count: number of channels of the pixels.
      samples: names of the samples that a pixel has in each channel, such as its colours.
        Each sample is a plane, which the file may describe alone; otherwise the samples
        of a channel share its description, and none of them is the channel.
    """
    planes = count * len(samples)
    if len(samples) > 1 and len(described) < planes:
        described = [
            dataclasses.replace(channel, name=f"{channel.name} {sample}".strip())
            for channel in channels_of(described, count)
            for sample in samples
        ]
    missing = [Channel()] * (planes - len(described))
    return (*described[:planes], *missing)


def _unit(unit: str) -> tuple[str, float | None]:
    """Returns the name of a unit of length, and how many µm it is; None if unknown."""
    # Greek mu and the micro sign look alike; ImageJ escapes the latter.
    name = unit.replace("\\u00B5", "µ").replace("\u03bc", "µ").strip().rstrip(".")
    name = name.replace("\u212b", "Å")
    # Case matters first: Mm is a megametre.
    return name, _MICROMETRES.get(name) or _MICROMETRES.get(name.lower())


def stage_um(x: Any, y: Any, unit_x: str, unit_y: str) -> tuple[float, float] | None:
    """Converts a position of the stage to µm.

    Args:
      x: the first coordinate, as the file has it.
      y: the second coordinate.
      unit_x: unit of x, as in `pixel_size`. Many programs write µm without a unit, or with
        OME's default, 'reference frame'.
      unit_y: unit of y.

    Returns:
      (x, y) in µm; None if a coordinate is missing, is not a finite number, has an unknown
      unit, or is more than 1 m.
    """
    found = []
    for value, unit in ((x, unit_x), (y, unit_y)):
        name, scale = _unit(unit)
        if name.lower() in ("", "reference frame"):
            scale = 1.0
        try:
            place = float(value) * (scale or math.nan)
        except (TypeError, ValueError, OverflowError):
            return None
        # It is False for NaN.
        if not abs(place) <= _FARTHEST_UM:
            return None
        found.append(place)
    return found[0], found[1]


def wavelength_nm(value: float | str | None) -> float | None:
    """Returns a wavelength in nm; None unless it is a number from 200 to 2000."""
    if value is None:
        return None
    try:
        wavelength = float(value)
    except (TypeError, ValueError):
        return None
    return wavelength if 200 < wavelength < 2000 else None


def channel_name(own: str | None, dye: str | None) -> str:
    """Joins the names of a channel and its dye, unless one contains the other."""
    own, dye = ((name or "").strip() for name in (own, dye))
    if dye.lower() in own.lower():
        return own
    return dye if own.lower() in dye.lower() else f"{own} {dye}"
