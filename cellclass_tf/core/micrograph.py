"""Micrograph: the pixels of one field of view and where they came from."""

from __future__ import annotations

import dataclasses

import numpy as np

from cellclass_tf.core import notebook

# Widths of a pixel that a light microscope may have: from scanning far beyond the limit
# of resolution to a stereo microscope with a coarse camera. Print resolutions lie above
# (300 dots an inch are 85 µm).
PIXEL_SIZES_UM = (0.005, 50.0)

# What joins the files of one field, and their SHA-256s, in records of where it is from.
FILE_SEPARATOR = "|"


@dataclasses.dataclass(frozen=True, eq=False)
class Micrograph:
    """One field of view, as the microscope saw it.

    Attributes:
      pixels: (C, Y, X) array, one plane a channel, in the file's own numbers.
      channel_names: C names; '' where the file names none.
      emissions_nm: C peak wavelengths of the recorded light, None where not stated; or
        nothing at all.
      pixel_size_um: width of a pixel in the specimen in µm; None if not recorded.
      pixel_size_problem: why the width that the file records is no use; '' if it is of
        use, or the file records none.
      file: path of the raw file; of several, joined by FILE_SEPARATOR.
      sha256: of the raw file, or files in the same order.
      reader: library that read it, with its version.
      scene: position in a file that holds several fields, from 0.
      scene_name: what the file calls that position, such as a well.
      time: time point, from 0.
      z: how the planes of a stack became one: '' (no stack), 'max', or 'best:K'.
      is_rgb: whether the channels are the red, green and blue of a colour image.
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

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or len(self.channel_names) != len(self.pixels):
            raise ValueError(
                "Expected pixels (C, Y, X) and C channel names; got "
                f"{self.pixels.shape} and {len(self.channel_names)} names."
            )

    def _repr_html_(self) -> str:
        """What a notebook shows: the channels, and what is known of the field."""
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
