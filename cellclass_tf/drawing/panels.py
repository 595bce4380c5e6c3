"""Makes the panels of a figure from a merged image, with print colours and resolution."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

import numpy as np

from cellclass_tf.drawing import palette
from cellclass_tf.drawing.vector import MM_PER_INCH

_GREEN, _BLUE, _MAGENTA = (0, 255, 0), (0, 0, 255), (255, 0, 255)
CYTOPLASM, NUCLEI = "cytoplasm", "nuclei"
_PLANE_OF = {CYTOPLASM: 1, NUCLEI: 2}
# Colours of the channels in each panel, by the name of the choice.
_LOOKS: dict[str, tuple[dict[str, palette.Colour], ...]] = {
    "magenta_green": ({CYTOPLASM: _GREEN, NUCLEI: _MAGENTA},),
    "merged": ({CYTOPLASM: _GREEN, NUCLEI: _BLUE},),
    "grey": ({CYTOPLASM: palette.WHITE}, {NUCLEI: palette.WHITE}),
    "grey_cytoplasm": ({CYTOPLASM: palette.WHITE},),
    "grey_nuclei": ({NUCLEI: palette.WHITE},),
}
Channels = Literal["magenta_green", "merged", "grey", "grey_cytoplasm", "grey_nuclei"]
CHANNELS = get_args(Channels)
# The resolution that journals ask for, in pixels per inch.
DPI = 300


@dataclasses.dataclass(frozen=True)
class Panel:
    """One panel of a figure.

    Attributes:
      pixels: (H, W, 3) uint8.
      colours: colours of its channels, by name.
    """

    pixels: np.ndarray
    colours: dict[str, palette.Colour]

    @property
    def title(self) -> str:
        """Name of the channel if there is only one, else ''."""
        return next(iter(self.colours)) if len(self.colours) == 1 else ""


def panel_count(channels: str) -> int:
    """Returns the number of panels side by side."""
    return len(_LOOKS[channels])


def panels_of(image: np.ndarray, channels: str) -> list[Panel]:
    """Draws the channels of a merged image.

    Args:
      image: (H, W, 3) uint8: 0, cytoplasm, nuclei.
      channels: one of CHANNELS. The colours of two channels in one panel are added, so
        that magenta and green give white.
    """
    found = []
    for colours in _LOOKS[channels]:
        pixels = np.zeros_like(image)
        for name, colour in colours.items():
            for place in range(3):
                if colour[place]:
                    pixels[..., place] = image[..., _PLANE_OF[name]]
        found.append(Panel(pixels, dict(colours)))
    return found


def pixel_factor(width_px: int, width_mm: float) -> tuple[int, int]:
    """Returns integer factors for an image to get at least DPI, and less than twice DPI.

    Pixels are repeated or averaged in whole blocks, without interpolation.

    Returns:
      (r, f): each pixel is repeated r times in both directions, after blocks of f x f
      pixels are averaged; one of the two is 1.
    """
    native_dpi = width_px / (width_mm / MM_PER_INCH)
    if native_dpi < DPI:
        return math.ceil(DPI / native_dpi), 1
    return 1, math.floor(native_dpi / DPI)


def averaged(image: np.ndarray, factor: int) -> np.ndarray:
    """Averages blocks of pixels.

    Args:
      image: (H, W, 3) uint8.
      factor: height and width of a block; those at the right and lower edge may be cut.

    Returns:
      (ceil(H / factor), ceil(W / factor), 3) uint8.
    """
    from PIL import Image

    if factor == 1:
        return image
    return np.asarray(Image.fromarray(image).reduce(factor))
