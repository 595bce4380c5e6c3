"""cellclass.json: how an exported model was trained, and how to read its output."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from cellclass_tf.core.micrograph import PIXEL_SIZES_UM, pixel_size_ratio
from cellclass_tf.core.type_names import problem_of
from cellclass_tf.storage.records import Record

# Name of the file beside the SavedModel.
METADATA_FILE = "cellclass.json"
# Mask threshold of models that were not calibrated. Masks fade before they reach the
# outline, above all after a short training, so that a threshold of one half would make
# cells too small.
UNCALIBRATED_MASK_THRESHOLD = 0.45
# Score threshold of models that were not calibrated.
UNCALIBRATED_SCORE_THRESHOLD = 0.3

# Smallest and largest valid values: tiles that fit a GPU, cells of a pixel up to more than
# a tile, and a wider range of temperatures than calibration tries.
_TILES_PX = (16, 4096)
_SCALES = (0.01, 20.0)
_DIAMETERS_PX = (1, 10_000)
_TEMPERATURES = (0.001, 1000.0)


@dataclasses.dataclass(frozen=True)
class Bin:
    """Predictions on held-out fields whose probabilities lie in one range.

    Attributes:
      low: lowest probability of the bin.
      high: highest probability of the bin.
      mean: mean probability of the predictions.
      right: share of the predictions that are correct.
      calls: number of predictions.
    """

    low: float
    high: float
    mean: float
    right: float
    calls: int


@dataclasses.dataclass(frozen=True)
class HeldOutField:
    """Predictions on one held-out field, compared with the ground truth.

    Attributes:
      confusion: (K, K) numbers of matched cells, by true type and predicted type.
      missed: (K,) numbers of cells that were not detected, by true type.
      invented: (K,) numbers of false positives, by predicted type.
      area: area of the field in squares of the median cell diameter; 0 if unknown.
      group: acquisition group, such as a dish; '' if unknown.
    """

    confusion: tuple[tuple[int, ...], ...]
    missed: tuple[int, ...]
    invented: tuple[int, ...]
    area: float = 0.0
    group: str = ""


@dataclasses.dataclass(frozen=True)
class CalibrationRecord:
    """Measurements on held-out fields when the model was exported.

    Attributes:
      held_out: results of each field; without composed fields, which would count the same
        cells again.
      bins: the predictions, binned by their probability.
      expected_calibration_error: error of the calibrated probabilities.
      expected_calibration_error_before: error of the network's own probabilities.
      fields: number of fields, composed ones included.
      cells: number of their cells that were matched with true cells.
      type_accuracy: share of the matched cells whose type is correct.
    """

    held_out: tuple[HeldOutField, ...]
    bins: tuple[Bin, ...]
    expected_calibration_error: float
    expected_calibration_error_before: float | None = None
    fields: int | None = None
    cells: int | None = None
    type_accuracy: float | None = None


def short_sha256(sha256: str) -> str:
    """Returns the first digits of a SHA-256, enough to identify one of many images."""
    return sha256[:16]


# Outlines of the dataset's fields: annotated, and possibly corrected.
OF_DATASET = "dataset"


@dataclasses.dataclass(frozen=True)
class NamingRecord:
    """Measurements of the classification of cells that the network did not outline.

    Attributes:
      outlines: source of the outlines of held-out cells: 'dataset' or an annotator's name.
      score_threshold: score from which on a detection counts as a cell, chosen on held-out
        fields.
      temperature: divisor of the logarithms of the probabilities.
      calibration: the measurements.
      sha256: SHA-256 of the annotator's weights; '' if it has none.
      settings: description of the annotator's settings.
    """

    outlines: str
    score_threshold: float
    temperature: float
    calibration: CalibrationRecord
    sha256: str = ""
    settings: str = ""


# Number of ways to rotate (by quarter turns) and mirror a field.
MOST_VIEWS = 8

# What classifies the cells: the detector's own head; the namer, a second network; and a
# linear classifier of the features of cellpose's network.
BY_DETECTOR, BY_NAMER, BY_CELLPOSE = CLASSIFIERS = (
    "detector",
    "namer",
    "cellpose_features",
)


@dataclasses.dataclass(frozen=True)
class NamerRecord:
    """Record of the namer, a second network that classifies crops around nuclei.

    Attributes:
      scale: pixels of a crop per pixel of the training images.
    """

    scale: float


@dataclasses.dataclass(frozen=True)
class CellposeFeaturesRecord:
    """Record of the classifier of cellpose's features.

    Attributes:
      scale: pixels of the network's input per pixel of the training images.
      sha256: SHA-256 of the file of weights, of which the model has a part.
      cells: number of training cells.
    """

    scale: float
    sha256: str = ""
    cells: int | None = None


@dataclasses.dataclass(frozen=True)
class ModelMetadata(Record):
    """Metadata of an exported model.

    Attributes:
      type_names: names of the cell types, in class order.
      tile_px: side in pixels of the network's square input tiles.
      scale: pixels of the network's input per pixel of the training images.
      model_diameter_px: median cell diameter in pixels of the network's input.
      grayscale: whether the network was trained without the nuclei channel.
      cell_diameter_px: median cell diameter in pixels of the training images.
      pixel_size_um: pixel size of the training images in µm; None if unknown.
      mask_threshold: value from which on a pixel of a predicted mask belongs to the cell.
      score_threshold: score from which on a detection counts as a cell, chosen on held-out
        fields.
      temperature: divisor of the logarithms of the probabilities.
      calibration: measurements on held-out fields with the network's own outlines; None
        if there are none.
      naming: measurements with outlines from elsewhere, one record per source of outlines.
      namer: record of the second network that classifies crops; None without one.
      cellpose_features: record of the classifier of cellpose's features; None without one.
      named_by: the classifiers whose probabilities are combined, one or several of
        `CLASSIFIERS`, in this order.
      log_likelihoods: mean logarithm of the probability of the true type on held-out
        fields, for each combination of classifiers, such as 'detector+namer'; None if
        there is only one classifier, or there were no held-out fields.
      networks: number of networks whose probabilities are averaged.
      views: number of views (rotated, mirrored, enlarged) of a field that are predicted and
        merged.
      experiment: name of the experiment that was trained.
      checkpoint: name of the exported checkpoint.
      train_steps: number of training steps.
      dataset_fingerprint: fingerprint of the training dataset.
      labelled_images: `short_sha256` of the merged images on whose cell types the model was
        trained or calibrated.
      cellclass_tf: version of cellclass_tf that exported the model.
      tensorflow: version of TensorFlow that exported the model.
    """

    NAME: ClassVar[str] = "cellclass_tf Mask R-CNN"
    VERSION: ClassVar[int] = 5
    EXPECTED: ClassVar[str] = "the metadata that `cellclass export-model` writes"
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
    cellpose_features: CellposeFeaturesRecord | None = None
    named_by: tuple[str, ...] = (BY_DETECTOR,)
    log_likelihoods: Mapping[str, float] | None = None
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
        """Raises ValueError if a number is NaN, or out of the valid range."""
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
        if self.cellpose_features is not None:
            checked["cellpose_features.scale"] = (self.cellpose_features.scale, _SCALES)
        in_order = tuple(name for name in self.classifiers if name in self.named_by)
        if not self.named_by or self.named_by != in_order:
            raise ValueError(
                f"named_by: expected some of {', '.join(self.classifiers)}, in this order; "
                f"got {', '.join(self.named_by) or 'none'}"
            )
        for name, (value, (least, most)) in checked.items():
            if not least <= value <= most:
                raise ValueError(f"{name}: expected {least} to {most}, got {value}")
        for record in (self.calibration, *(n.calibration for n in self.naming)):
            _check_held_out(record, len(self.type_names))

    @property
    def classifiers(self) -> tuple[str, ...]:
        """The classifiers that the model has, in the order of `CLASSIFIERS`."""
        has = {BY_NAMER: self.namer, BY_CELLPOSE: self.cellpose_features}
        return tuple(
            name for name in CLASSIFIERS if name not in has or has[name] is not None
        )

    def naming_of(self, outlines: str, sha256: str = "") -> NamingRecord | None:
        """Returns the measurements with the outlines of an annotator.

        Args:
          outlines: an annotator's name, or 'dataset'.
          sha256: SHA-256 of its weights. If given, the name is ignored, since the weights
            identify an annotator.

        Returns:
          The record; None if the model was not measured with such outlines.
        """
        for record in self.naming:
            if (record.sha256 == sha256) if sha256 else (record.outlines == outlines):
                return record
        return None

    def naming_for(self, outlines: str, sha256: str = "") -> NamingRecord | None:
        """Returns `naming_of` an annotator, or else that of the dataset's outlines."""
        return self.naming_of(outlines, sha256) or self.naming_of(OF_DATASET)

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Brings content to version 5, which names the classifiers.

        Version 4 added missed and invented cells.

        Raises:
          ValueError: for version 1, whose networks have other outputs.
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
        if "named_by" in content:
            return content
        content |= _classifiers_of(content.get("namer"))
        if len(content["named_by"]) > 1:
            # Before version 5 the logarithms were divided by 2, and now by its root.
            for record in (content, *content["naming"]):
                record["temperature"] = record.get("temperature", 1.0) * math.sqrt(2)
        return content

    def ratio_of(self, pixel_size_um: float | None) -> float:
        """Returns a pixel size over that of the training images; 1 if one is unknown."""
        return pixel_size_ratio(pixel_size_um, self.pixel_size_um)

    def area_in_cells(self, area_px: float, pixel_size_um: float | None) -> float:
        """Returns an area of an image in squares of the median cell diameter."""
        scale = self.scale * self.ratio_of(pixel_size_um)
        return area_px * (scale / self.model_diameter_px) ** 2


def _classifiers_of(namer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the entries of version 5 for the namer's record of an earlier version."""
    if not namer:
        return {"named_by": [BY_DETECTOR]}
    both = [BY_DETECTOR, BY_NAMER]
    named_by = namer.get("named_by", "both")
    likelihoods = namer.get("log_likelihoods") or {}
    return {
        "named_by": both if named_by == "both" else [named_by],
        "log_likelihoods": {
            "+".join(both) if name == "both" else name: value
            for name, value in likelihoods.items()
        }
        or None,
    }


def _with_held_out(calibration: dict[str, Any]) -> dict[str, Any]:
    """Returns a calibration in the format of version 4."""
    if "confusions" not in calibration:
        return calibration
    fields = [
        {"confusion": confusion, "missed": none, "invented": none}
        for confusion in calibration.pop("confusions")
        for none in ([0] * len(confusion),)
    ]
    return calibration | {"held_out": fields}


def _check_held_out(record: CalibrationRecord | None, count: int) -> None:
    """Raises ValueError unless the counts of a record are for `count` types."""
    for field in record.held_out if record else ():
        rows = (*field.confusion, field.missed, field.invented)
        is_whole = [len(row) for row in rows] == [count] * (count + 2)
        if not is_whole or min(map(min, rows)) < 0 or not field.area >= 0:
            raise ValueError(
                f"calibration.held_out: expected {count} x {count} numbers of cells, "
                f"{count} of missed and {count} of invented ones, and an area"
            )
