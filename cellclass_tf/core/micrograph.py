"""Micrograph: the pixels of one field of view, and the raw file that they are from."""

from __future__ import annotations

import dataclasses

import numpy as np

from cellclass_tf.core import notebook

# Smallest and largest pixel size of a light microscope: from oversampled scanning
# microscopes to a stereo microscope with a coarse camera. Sizes that stem from a print
# resolution lie above (300 dots per inch are 85 µm).
PIXEL_SIZES_UM = (0.005, 50.0)

# Joins the paths of the raw files of one field, and their SHA-256s, in records.
FILE_SEPARATOR = "|"


@dataclasses.dataclass(frozen=True, eq=False)
class Micrograph:
    """One field of view as it was recorded.

    Attributes:
      pixels: (C, Y, X) array, one plane per channel, with the grey values of the file.
      channel_names: names of the C channels; '' if the file does not name a channel.
      emissions_nm: peak emission wavelengths of the C channels, None if not stated; or an
        empty tuple.
      pixel_size_um: width of a pixel in the specimen in µm; None if not recorded.
      pixel_size_problem: why the pixel size in the file cannot be used; '' if it can, or if
        the file records none.
      file: path of the raw file; several paths are joined by FILE_SEPARATOR.
      sha256: SHA-256 of the raw file; those of several files are joined in the same order.
      reader: name and version of the library that read the file.
      scene: index from 0 of the field in a file that holds several.
      scene_name: name of the scene in the file, such as a well.
      time: index from 0 of the time point.
      z: how a stack became one plane: '' (no stack), 'max', or 'best:K'.
      is_rgb: whether the channels are the red, green and blue of a colour image.
      well: name of the well, such as 'B03', if the file is a plate; '' if it is none.
      stage_um: (x, y) of the stage in µm according to the file; None if not recorded.
    """

    pixels: np.ndarray
    channel_names: tuple[str, ...]
    emissions_nm: tuple[float | None, ...] = ()
    pixel_size_um: float | None = None
    pixel_size_problem: str = ""
    file: str = ""
    sha256: str = ""
    reader: str = ""
    scene: int = 0
    scene_name: str = ""
    time: int = 0
    z: str = ""
    is_rgb: bool = False
    well: str = ""
    stage_um: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or len(self.channel_names) != len(self.pixels):
            raise ValueError(
                "Expected pixels (C, Y, X) and C channel names; got "
                f"{self.pixels.shape} and {len(self.channel_names)} names."
            )

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: the channels, and a table about the field."""
        height, width = self.pixels.shape[1:]
        size = "unknown" if self.pixel_size_um is None else f"{self.pixel_size_um:g} µm"
        names = [name or f"channel {i}" for i, name in enumerate(self.channel_names)]
        rows = [
            ("Channels", ", ".join(names)),
            ("Size", f"{width} x {height} px, {self.pixels.dtype}"),
            ("Pixel", size),
            ("File", self.file or "none"),
        ]
        return notebook.page([notebook.stretched(plane) for plane in self.pixels], rows)

    @property
    def size_yx(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]


def pixel_size_ratio(pixel_size_um: float | None, other_um: float | None) -> float:
    """Returns a pixel size divided by another one; 1 if one is unknown (None or 0)."""
    return pixel_size_um / other_um if pixel_size_um and other_um else 1.0
