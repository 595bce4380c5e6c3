"""run.json: what `predict` recorded of a run."""

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
# Where `predict` converts raw files to, below its output.
CONVERTED_FOLDER = "converted"


# Who outlined the cells, where no annotator did.
BY_NETWORK = "network"
BY_FILES = "files"


@dataclasses.dataclass(frozen=True)
class OutlinesRecord:
    """Who outlined the cells of a run.

    Attributes:
      source: 'network', 'files' of another program, or an annotator's name.
      folder: of the files.
      sha256: of the annotator's weights.
      settings: of the annotator, in words.
    """

    source: str = BY_NETWORK
    folder: str = ""
    sha256: str = ""
    settings: str = ""


@dataclasses.dataclass(frozen=True)
class PredictedImage:
    """One image that was predicted.

    Attributes:
      stem: what cells.csv calls it: 'TYPE/NAME', or 'NAME' of a raw file.
      image: path of the merged image below images/ of its study.
      sha256: of the merged image.
      labels_sha256: of the label image that was written.
      pixel_size_um: with which it was predicted; None if unknown.
      raw_file: as in the study's manifest.
      raw_sha256: the same.
      outlines_file: the label image of another program that was named.
      outlines_sha256: of that file.
      compared: whether the field was compared with the model's training fields.
      unlike: why it does not resemble them, in words; empty if it does.
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
    """One image that was left out, and why."""

    image: str
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class RunRecord(Record):
    """What `predict` recorded of a run; '' or empty where an older version did not.

    Attributes:
      folder: of the results, as it was then.
      study: folder of the images' study.
      model: folder of the model.
      model_sha256: of its files.
      model_metadata: the model's cellclass.json; None if it is not known.
      outlines: who outlined the cells.
      settings: the arguments of `predict`, by name.
      versions: of cellclass_tf and libraries, by name.
      finished: when, in ISO 8601.
      images: that were predicted.
      rejected: that were left out since the study rejects them.
    """

    NAME: ClassVar[str] = "cellclass_tf predictions"
    VERSION: ClassVar[int] = 2
    EXPECTED: ClassVar[str] = "what `cellclass predict` records of a run"
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

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Gives the images of version 1 their stems."""
        if not content.get("model_metadata"):
            content["model_metadata"] = None
        else:
            metadata = content["model_metadata"]
            content["model_metadata"] = ModelMetadata.upgraded(dict(metadata), 2)
        images = content.get("images", [])
        if not isinstance(images, list):
            raise TypeError("images is no list")
        images = [dict(entry) for entry in images]
        for entry in images:
            if version < 2:
                entry["stem"] = _stem_of_version_1(content, str(entry["image"]))
            for name in (entry["image"], entry["stem"]):
                paths.inside(str(name), RUN_FILE)
        return content | {"images": images}

    def as_content(self) -> dict[str, Any]:
        """Returns what the file holds."""
        content = super().as_content()
        if self.model_metadata:
            content["model_metadata"] = self.model_metadata.as_content()
        return content

    @property
    def naming(self) -> NamingRecord | None:
        """What was measured in outlines that are not the network's.

        If the model was not measured with outlines of this kind, in those of its dataset;
        None if the network outlined the cells, or nothing was measured.
        """
        model, outlines = self.model_metadata, self.outlines
        if model is None or outlines.source == BY_NETWORK:
            return None
        return model.naming_for(outlines.source, outlines.sha256)

    @property
    def calibration(self) -> CalibrationRecord | None:
        """How often calls were right on held-out fields, in such outlines."""
        if self.outlines.source == BY_NETWORK:
            model = self.model_metadata
            return None if model is None else model.calibration
        naming = self.naming
        return None if naming is None else naming.calibration

    @property
    def labelled_stems(self) -> set[str]:
        """Fields whose cells' types the model was trained or calibrated with."""
        model = self.model_metadata
        seen = set(model.labelled_images) if model else set()
        return {
            image.stem for image in self.images if short_sha256(image.sha256) in seen
        }

    def places_of_study(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """Returns where the images' study may be now, the likeliest place first.

        Args:
          folder: of the predictions, now.
        """
        found = paths.places_of(self.study, folder, self.folder)
        if _is_converted(self.study, self.settings):
            return [folder / CONVERTED_FOLDER, *found]
        return found

    def find_study(self, folder: pathlib.Path) -> Study | None:
        """Opens the study of the predicted images; None if it is not to be found.

        Raises:
          InputError: if its study.yaml is broken.
        """
        place = next(filter(Study.exists, self.places_of_study(folder)), None)
        return None if place is None else Study.open(place)

    def places_of_model(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """Returns where the model may be now, the likeliest place first."""
        return paths.places_of(self.model, folder, self.folder)


def _is_converted(study: str, settings: Mapping[str, Any]) -> bool:
    """Whether `predict` made the study itself, from raw files."""
    path, given = pathlib.PurePath(study), settings.get("input")
    return path.name == CONVERTED_FOLDER and path != pathlib.PurePath(str(given))


def _stem_of_version_1(content: Mapping[str, Any], image: str) -> str:
    """What cells.csv calls an image, of which version 1 recorded the path alone."""
    stem = image.removesuffix(".png")
    if _is_converted(content.get("study", ""), content.get("settings", {})):
        return stem.removeprefix(f"{MIXED}/")
    return stem
