"""cellclass.json: what an exported model was trained on, and how its output is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from cellclass_tf.core.micrograph import PIXEL_SIZES_UM
from cellclass_tf.core.type_names import problem_of
from cellclass_tf.storage.records import Record

# Beside the SavedModel.
METADATA_FILE = "cellclass.json"
# Of models that were not calibrated. Where a mask ends: masks fade before the outline is
# reached, more so after a short training, so that one half would draw cells too small.
UNCALIBRATED_MASK_THRESHOLD = 0.45
# The score from which on a detection is a cell.
UNCALIBRATED_SCORE_THRESHOLD = 0.3

# What a network may have: tiles that fit a GPU, cells that are neither grains nor more
# than a tile, and the temperatures that calibration tries with room to spare.
_TILES_PX = (16, 4096)
_SCALES = (0.01, 20.0)
_DIAMETERS_PX = (1, 10_000)
_TEMPERATURES = (0.001, 1000.0)


@dataclasses.dataclass(frozen=True)
class Bin:
    """Calls of about one probability on held-out fields.

    Attributes:
      low: lowest probability of the bin.
      high: highest one.
      mean: their mean probability.
      right: the share of them that is right.
      calls: their number.
    """

    low: float
    high: float
    mean: float
    right: float
    calls: int


@dataclasses.dataclass(frozen=True)
class HeldOutField:
    """What became of the cells of one held-out field.

    Attributes:
      confusion: (K, K) cells by true type and called type.
      missed: (K,) cells by true type that were not found.
      invented: (K,) found cells by called type that are none.
      area: of the field, in squares of the diameter of a median cell; 0 if unknown.
      group: acquisition group, such as a dish; '' if unknown.
    """

    confusion: tuple[tuple[int, ...], ...]
    missed: tuple[int, ...]
    invented: tuple[int, ...]
    area: float = 0.0
    group: str = ""


@dataclasses.dataclass(frozen=True)
class CalibrationRecord:
    """What was measured on held-out fields when the model was exported.

    Attributes:
      fields: number of the fields, composed ones among them.
      cells: number of their cells that were matched with true ones.
      type_accuracy: share of these that got their type.
      held_out: each field that is no composition of others, so that it has each cell once.
      expected_calibration_error_before: of the probabilities as the network gives them.
      expected_calibration_error: of the calibrated ones.
      bins: the calls by their probability.
    """

    held_out: tuple[HeldOutField, ...]
    bins: tuple[Bin, ...]
    expected_calibration_error: float
    expected_calibration_error_before: float | None = None
    fields: int | None = None
    cells: int | None = None
    type_accuracy: float | None = None


def short_sha256(sha256: str) -> str:
    """Returns the first digits of a SHA-256, by which an image of thousands is known."""
    return sha256[:16]


# Outlines as the fields of the dataset have them: annotated, and maybe corrected.
OF_DATASET = "dataset"


@dataclasses.dataclass(frozen=True)
class NamingRecord:
    """What was measured of naming cells that something else outlined.

    Attributes:
      outlines: who outlined the held-out cells: 'dataset', or an annotator's name.
      sha256: of that annotator's weights; '' where it has none.
      settings: of that annotator, in words.
      score_threshold: the score from which on held-out fields say that there is a cell.
      temperature: by which the logarithms of probabilities are divided.
      calibration: the figures.
    """

    outlines: str
    score_threshold: float
    temperature: float
    calibration: CalibrationRecord
    sha256: str = ""
    settings: str = ""


# In which a field can be seen: quarter turns, and their mirror images.
MOST_VIEWS = 8

# Who names the cells: the detector's own head, the namer, or both together, by the
# geometric mean of their probabilities.
BY_DETECTOR, BY_NAMER, BY_BOTH = NAMED_BY = ("detector", "namer", "both")


@dataclasses.dataclass(frozen=True)
class NamerRecord:
    """How cells are named by crops around their nuclei.

    Attributes:
      scale: pixels of a crop per pixel of the training images.
      named_by: who names the cells: 'detector', 'namer' or 'both'.
      log_likelihoods: mean logarithm of the probability of the true type on held-out
        fields, for each of these three; None if there were no such fields.
    """

    scale: float
    named_by: str = BY_BOTH
    log_likelihoods: Mapping[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class ModelMetadata(Record):
    """What belongs to an exported model.

    Attributes:
      type_names: names of the cell types, in class order.
      tile_px: side of the square tiles that the network takes.
      scale: network pixels per pixel of the training images.
      model_diameter_px: of a median cell, in the network's pixels.
      cell_diameter_px: the same in pixels of the training images.
      pixel_size_um: of the training images; None if unknown.
      grayscale: whether the network was trained without nuclei.
      mask_threshold: the height at which masks end.
      score_threshold: the score from which on held-out fields say that there is a cell.
      temperature: by which the logarithms of probabilities are divided.
      calibration: what was measured on held-out fields, with the network's outlines; None
        if nothing was.
      naming: the same with outlines of others, one for each kind of them.
      namer: how cells are named by crops; None of models that lack a namer.
      networks: number of networks whose types are averaged.
      views: number of views (rotated, mirrored, enlarged) of a field that are predicted and merged.
      experiment: name of the experiment that was trained.
      checkpoint: name of the exported checkpoint.
      train_steps: of the training.
      dataset_fingerprint: of the training's dataset.
      labelled_images: `short_sha256` of the merged images whose cells' types the model was
        trained or calibrated with.
      cellclass_tf: version with which it was exported.
      tensorflow: the same.
    """

    NAME: ClassVar[str] = "cellclass_tf Mask R-CNN"
    VERSION: ClassVar[int] = 4
    EXPECTED: ClassVar[str] = "what `python -m experiments.export` writes of a model"
    REMEDY: ClassVar[str] = "Export the model again."

    type_names: tuple[str, ...]
    tile_px: int
    scale: float
    model_diameter_px: float
    grayscale: bool
    cell_diameter_px: float | None = None
    pixel_size_um: float | None = None
    mask_threshold: float = UNCALIBRATED_MASK_THRESHOLD
    score_threshold: float = UNCALIBRATED_SCORE_THRESHOLD
    temperature: float = 1.0
    calibration: CalibrationRecord | None = None
    naming: tuple[NamingRecord, ...] = ()
    namer: NamerRecord | None = None
    networks: int = 1
    views: int = 1
    experiment: str = ""
    checkpoint: str = ""
    train_steps: int | None = None
    dataset_fingerprint: str = ""
    labelled_images: tuple[str, ...] = ()
    cellclass_tf: str = ""
    tensorflow: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError if a number is out of the range of any network, or is NaN."""
        if problem := problem_of(self.type_names):
            raise ValueError(f"type_names: {problem}")
        checked = {
            "tile_px": (self.tile_px, _TILES_PX),
            "scale": (self.scale, _SCALES),
            "mask_threshold": (self.mask_threshold, (0, 1)),
            "score_threshold": (self.score_threshold, (0, 1)),
            "temperature": (self.temperature, _TEMPERATURES),
            "views": (self.views, (1, MOST_VIEWS)),
            "model_diameter_px": (self.model_diameter_px, (1, self.tile_px)),
        }
        if self.cell_diameter_px is not None:
            checked["cell_diameter_px"] = (self.cell_diameter_px, _DIAMETERS_PX)
        if self.pixel_size_um is not None:
            checked["pixel_size_um"] = (self.pixel_size_um, PIXEL_SIZES_UM)
        for i, naming in enumerate(self.naming):
            checked |= {
                f"naming.{i}.score_threshold": (naming.score_threshold, (0, 1)),
                f"naming.{i}.temperature": (naming.temperature, _TEMPERATURES),
            }
        if self.namer is not None:
            checked["namer.scale"] = (self.namer.scale, _SCALES)
            if self.namer.named_by not in NAMED_BY:
                raise ValueError(
                    f"namer.named_by: expected one of {', '.join(NAMED_BY)}, got "
                    f"{self.namer.named_by!r}"
                )
        for name, (value, (least, most)) in checked.items():
            if not least <= value <= most:
                raise ValueError(f"{name}: expected {least} to {most}, got {value}")
        for record in (self.calibration, *(n.calibration for n in self.naming)):
            _check_held_out(record, len(self.type_names))

    def naming_of(self, outlines: str, sha256: str = "") -> NamingRecord | None:
        """What was measured with the outlines of an annotator, by its weights.

        Args:
          outlines: an annotator's name, or 'dataset'.
          sha256: of its weights; where it is given, the name is of no matter.

        Returns:
          The record; None if the model was not exported with such outlines.
        """
        # One that has weights is known by them alone.
        for record in self.naming:
            if (record.sha256 == sha256) if sha256 else (record.outlines == outlines):
                return record
        return None

    def naming_for(self, outlines: str, sha256: str = "") -> NamingRecord | None:
        """What was measured with such outlines, or else with those of the dataset."""
        return self.naming_of(outlines, sha256) or self.naming_of(OF_DATASET)

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Refuses models of version 1, whose network gives other outputs.

        Before version 4 it was not told which cells were missed or invented.
        """
        if version < 2:
            raise ValueError(f"its format is {content.get('format', 'not named')!r}")
        calibration = content.get("calibration")
        if calibration:
            bins = [
                {"low": part.get("from"), "high": part.get("to")} | part
                for part in calibration["bins"]
            ]
            content["calibration"] = _with_held_out(calibration | {"bins": bins})
        content["naming"] = [
            dict(record) | {"calibration": _with_held_out(dict(record["calibration"]))}
            for record in content.get("naming", ())
        ]
        return content

    def ratio_of(self, pixel_size_um: float | None) -> float:
        """An image's pixel size over that of the training images; 1 if one is unknown."""
        trained = self.pixel_size_um
        return pixel_size_um / trained if pixel_size_um and trained else 1.0

    def area_in_cells(self, area_px: float, pixel_size_um: float | None) -> float:
        """An area of an image, in squares of the diameter of a median cell."""
        scale = self.scale * self.ratio_of(pixel_size_um)
        return area_px * (scale / self.model_diameter_px) ** 2


def _with_held_out(calibration: dict[str, Any]) -> dict[str, Any]:
    """A calibration as version 4 has it."""
    if "confusions" not in calibration:
        return calibration
    fields = [
        {"confusion": confusion, "missed": none, "invented": none}
        for confusion in calibration.pop("confusions")
        for none in ([0] * len(confusion),)
    ]
    return calibration | {"held_out": fields}


def _check_held_out(record: CalibrationRecord | None, count: int) -> None:
    """Raises ValueError unless a record counts the cells of so many types."""
    for field in record.held_out if record else ():
        rows = (*field.confusion, field.missed, field.invented)
        is_whole = [len(row) for row in rows] == [count] * (count + 2)
        if not is_whole or min(map(min, rows)) < 0 or not field.area >= 0:
            raise ValueError(
                f"calibration.held_out: expected {count} x {count} numbers of cells, "
                f"{count} of missed and {count} of invented ones, and an area"
            )
