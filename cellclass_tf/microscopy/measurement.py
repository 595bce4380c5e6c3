"""The measurements of a raw file that pass from the first pass of `convert` to the second."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from cellclass_tf.microscopy.contrast import Key, key_of
from cellclass_tf.microscopy.quality.figures import Figures
from cellclass_tf.storage.records import Record


@dataclasses.dataclass(frozen=True)
class FieldMeasurement:
    """The measurements of one field, made before its channels are merged.

    Attributes:
      scene: position in the file, from 0.
      time: time point, from 0.
      z: how the planes of a stack became one; see `Micrograph`.
      nuclei_channel: name of the nuclei channel, or its index if it has no name.
      cytoplasm_channel: the same for the cytoplasm channel.
      figures: quality measurements.
      histogram: index of its histogram in the file of histograms; None for an 8-bit
        colour image, which keeps its contrast.
      pixel_size_problem: see `Micrograph`.
      well: see `Micrograph`; fields that earlier versions measured have none.
      bits: number of bits of a pixel, 8 or 16.
    """

    scene: int
    time: int
    z: str
    nuclei_channel: str
    cytoplasm_channel: str
    figures: Figures
    histogram: int | None = None
    pixel_size_problem: str = ""
    well: str = ""
    bits: int = 16

    def contrast_key(self, group: str) -> Key:
        """Returns the key that fields with the same contrast limits share."""
        return key_of(
            group, self.nuclei_channel, self.cytoplasm_channel, self.z, self.bits
        )

    def as_of_earlier_versions(self) -> dict[str, Any]:
        """Returns the values as earlier versions recorded them, for fingerprints."""
        content = dataclasses.asdict(self)
        del content["well"], content["bits"]
        return content

    @property
    def suffix(self) -> str:
        """Suffix of the image's name that tells the fields of one file apart."""
        places = (("s", self.scene), ("t", self.time))
        return "".join(f"_{letter}{place}" for letter, place in places if place)


@dataclasses.dataclass(frozen=True)
class FileMeasurement(Record):
    """The measurements of all fields of a raw file.

    Attributes:
      histograms: name of the file that holds their histograms.
      fields: measurements of the fields, in the file's order.
      colour_scenes: scenes that are left out, see `readers.colour_scenes`.
    """

    NAME: ClassVar[str] = "cellclass_tf measurement"
    EXPECTED: ClassVar[str] = "measurements of a raw file by `cellclass convert`"
    REMEDY: ClassVar[str] = "Delete .journal/measure.jsonl of the study."

    histograms: str
    fields: tuple[FieldMeasurement, ...]
    colour_scenes: tuple[str, ...] = ()
