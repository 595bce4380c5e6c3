"""run.json: the record that `predict` writes of a run."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

from cellclass_tf.core.model_metadata import (
    CalibrationRecord,
    ModelMetadata,
    NamingRecord,
    short_sha256,
)
from cellclass_tf.core.study import MIXED, Study
from cellclass_tf.storage import paths
from cellclass_tf.storage.records import Record

RUN_FILE = "run.json"
# Folder below the output of `predict`, to which it converts raw files.
CONVERTED_FOLDER = "converted"

# Sources of outlines other than an annotator.
BY_NETWORK = "network"
BY_FILES = "files"


@dataclasses.dataclass(frozen=True)
class OutlinesRecord:
    """Source of the outlines of a run's cells.

    Attributes:
      source: 'network', 'files' (label images of another program), or an annotator's name.
      folder: folder of the label images; '' for other sources.
      sha256: SHA-256 of the annotator's weights; '' without weights.
      settings: description of the annotator's settings.
    """

    source: str = BY_NETWORK
    folder: str = ""
    sha256: str = ""
    settings: str = ""


@dataclasses.dataclass(frozen=True)
class PredictedImage:
    """One image that was predicted.

    Attributes:
      stem: name of the image in cells.csv: 'TYPE/NAME', or 'NAME' for a raw file.
      image: path of the merged image below images/ of its study.
      sha256: SHA-256 of the merged image.
      labels_sha256: SHA-256 of the label image that was written.
      pixel_size_um: pixel size in µm that was used; None if unknown.
      raw_file: path of the raw file, as in the study's manifest.
      raw_sha256: SHA-256 of the raw file, as in the study's manifest.
      outlines_file: path of the label image of another program whose cells were classified.
      outlines_sha256: SHA-256 of that label image.
      compared: whether the field was compared with the model's training fields.
      unlike: how the field differs from the training fields, in words; empty if it does not.
    """

    stem: str
    image: str
    sha256: str = ""
    labels_sha256: str = ""
    pixel_size_um: float | None = None
    raw_file: str = ""
    raw_sha256: str = ""
    outlines_file: str = ""
    outlines_sha256: str = ""
    compared: bool = False
    unlike: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class RejectedImage:
    """One image that was not predicted, and the reason."""

    image: str
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class RunRecord(Record):
    """The record of a run of `predict`.

    Attributes that an older version did not record are '' or empty.

    Attributes:
      folder: path of the results at the time of the run.
      study: path of the images' study.
      model: path of the model's folder.
      model_sha256: SHA-256 of the model's files.
      model_metadata: content of the model's cellclass.json; None if it is not known.
      outlines: source of the outlines.
      settings: arguments of `predict`, by name.
      versions: versions of cellclass_tf and of libraries, by name.
      finished: end of the run, in ISO 8601.
      images: the images that were predicted.
      rejected: the images that were not predicted because the study rejects them.
      overlap_doubt: which fields may have cells in common that were counted in both; '' if
        there are none.
    """

    NAME: ClassVar[str] = "cellclass_tf predictions"
    VERSION: ClassVar[int] = 2
    EXPECTED: ClassVar[str] = "the record that `cellclass predict` writes"
    REMEDY: ClassVar[str] = "Run `cellclass predict` again."

    folder: str = ""
    study: str = ""
    model: str = ""
    model_sha256: str = ""
    model_metadata: ModelMetadata | None = None
    outlines: OutlinesRecord = OutlinesRecord()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    finished: str = ""
    images: tuple[PredictedImage, ...] = ()
    rejected: tuple[RejectedImage, ...] = ()
    overlap_doubt: str = ""

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Adds the stems of images, which version 1 did not record."""
        if not content.get("model_metadata"):
            content["model_metadata"] = None
        else:
            metadata = content["model_metadata"]
            content["model_metadata"] = ModelMetadata.upgraded(dict(metadata), 2)
        images = content.get("images", [])
        if not isinstance(images, list):
            raise TypeError("images is not a list")
        images = [dict(entry) for entry in images]
        for entry in images:
            if version < 2:
                entry["stem"] = _stem_of_version_1(content, str(entry["image"]))
            for name in (entry["image"], entry["stem"]):
                paths.inside(str(name), RUN_FILE)
        return content | {"images": images}

    def as_content(self) -> dict[str, Any]:
        """Returns the content of the file."""
        content = super().as_content()
        if self.model_metadata:
            content["model_metadata"] = self.model_metadata.as_content()
        return content

    @property
    def naming(self) -> NamingRecord | None:
        """The model's measurements with outlines of the run's source.

        If the model was not measured with such outlines, it is the measurement with those
        of its dataset. None if the network outlined the cells, or if nothing was measured.
        """
        model, outlines = self.model_metadata, self.outlines
        if model is None or outlines.source == BY_NETWORK:
            return None
        return model.naming_for(outlines.source, outlines.sha256)

    @property
    def calibration(self) -> CalibrationRecord | None:
        """The model's accuracy on held-out fields with such outlines; None if unknown."""
        if self.outlines.source == BY_NETWORK:
            model = self.model_metadata
            return None if model is None else model.calibration
        naming = self.naming
        return None if naming is None else naming.calibration

    @property
    def labelled_stems(self) -> set[str]:
        """Stems of images on whose cell types the model was trained or calibrated."""
        model = self.model_metadata
        seen = set(model.labelled_images) if model else set()
        return {
            image.stem for image in self.images if short_sha256(image.sha256) in seen
        }

    def places_of_study(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """Returns where the images' study may be now, the most likely path first.

        Args:
          folder: present path of the predictions.
        """
        found = paths.places_of(self.study, folder, self.folder)
        if _is_converted(self.study, self.settings):
            return [folder / CONVERTED_FOLDER, *found]
        return found

    def find_study(self, folder: pathlib.Path) -> Study | None:
        """Opens the study of the predicted images; returns None if it is not found.

        Raises:
          InputError: if its study.yaml is not valid.
        """
        place = next(filter(Study.exists, self.places_of_study(folder)), None)
        return None if place is None else Study.open(place)

    def places_of_model(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """Returns where the model may be now, the most likely path first."""
        return paths.places_of(self.model, folder, self.folder)


def _is_converted(study: str, settings: Mapping[str, Any]) -> bool:
    """Returns whether `predict` made the study itself, from raw files."""
    path, given = pathlib.PurePath(study), settings.get("input")
    return path.name == CONVERTED_FOLDER and path != pathlib.PurePath(str(given))


def _stem_of_version_1(content: Mapping[str, Any], image: str) -> str:
    """Returns the name in cells.csv of an image; version 1 recorded its path only."""
    stem = image.removesuffix(".png")
    if _is_converted(content.get("study", ""), content.get("settings", {})):
        return stem.removeprefix(f"{MIXED}/")
    return stem
