"""What the first pass of `convert` tells the second one of a raw file."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from cellclass_tf.microscopy.contrast import Key
from cellclass_tf.microscopy.quality.figures import Figures
from cellclass_tf.storage.records import Record


@dataclasses.dataclass(frozen=True)
class FieldMeasurement:
    """What is known of one field before it is merged.

    Attributes:
      scene: position in the file, from 0.
      time: time point, from 0.
      z: how the planes of a stack became one; see `Micrograph`.
      nuclei_channel: name, or index where it has none.
      cytoplasm_channel: the same.
      figures: of its quality.
      histogram: place of its histogram in the file of histograms; None of an 8-bit
        colour image, which keeps its contrast.
      pixel_size_problem: see `Micrograph`.
    """

    scene: int
    time: int
    z: str
    nuclei_channel: str
    cytoplasm_channel: str
    figures: Figures
    histogram: int | None = None
    pixel_size_problem: str = ""

    def contrast_key(self, group: str) -> Key:
        """What the field has in common with those that share its contrast limits."""
        projection = self.z.split(":")[0]
        return Key(group, self.nuclei_channel, self.cytoplasm_channel, projection)

    @property
    def suffix(self) -> str:
        """What tells the fields of one file apart in their images' names."""
        places = (("s", self.scene), ("t", self.time))
        return "".join(f"_{letter}{place}" for letter, place in places if place)


@dataclasses.dataclass(frozen=True)
class FileMeasurement(Record):
    """What is known of all fields of a raw file.

    Attributes:
      histograms: name of the file that holds their histograms.
      fields: in the file's order.
      colour_scenes: those that are left out, see `readers.colour_scenes`.
    """

    NAME: ClassVar[str] = "cellclass_tf measurement"
    EXPECTED: ClassVar[str] = "what `cellclass convert` measured of a file"
    REMEDY: ClassVar[str] = "Delete .journal/measure.jsonl of the study."

    histograms: str
    fields: tuple[FieldMeasurement, ...]
    colour_scenes: tuple[str, ...] = ()
