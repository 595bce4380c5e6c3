"""Outlines the cells that `predict` classifies: by network, annotator, or files."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from cellclass_tf import batch
from cellclass_tf.annotation import group_diameters
from cellclass_tf.annotation.annotators import by_name
from cellclass_tf.annotation.annotators.protocol import Annotator
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.model_metadata import OF_DATASET, ModelMetadata, NamingRecord
from cellclass_tf.core.run_record import BY_FILES, BY_NETWORK, OutlinesRecord
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.outline_files import OutlineFiles
from cellclass_tf.maskrcnn.predictor import Predictor
from cellclass_tf.messages import logger
from cellclass_tf.storage import paths
from cellclass_tf.workflows.chosen_fields import Chosen, ChosenField


class Outlining(Protocol):
    """Outlines the cells of fields, and has the network classify them."""

    @property
    def record(self) -> OutlinesRecord:
        """What run.json says of the outlines."""

    @property
    def score_threshold(self) -> float:
        """The lowest score of a cell that is kept."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know, one line each."""

    def version(self, field: ChosenField) -> list[Any]:
        """Returns what the outlines of a field depend on besides its image, as JSON values."""

    def find(
        self, predictor: Predictor, field: ChosenField, image: np.ndarray
    ) -> tuple[Cells, dict[str, str]]:
        """Returns the classified cells of a field, and what run.json says of the outlines."""


def make_outlining(
    outlines: str | os.PathLike,
    predictor: Predictor,
    chosen: Chosen,
    settings: by_name.Settings,
    *,
    score_threshold: float | None,
    label_components: bool,
    journal: batch.Journal,
    engine: batch.Engine,
) -> Outlining:
    """Returns the source of outlines for the chosen fields.

    Args:
      outlines: 'network', the name of an annotator, or a folder of label images.
      predictor: the model.
      chosen: the fields.
      settings: settings of the annotator.
      score_threshold: lowest score of a cell that is kept; None for the threshold that was
        measured with such outlines.
      label_components: for a folder: treat each connected piece as a cell, as in
        `import_masks`.
      journal: records the diameters that were estimated.
      engine: what runs the estimation of diameters.

    Raises:
      InputError: if there is no such annotator or folder, if weights are missing, or if the
        model cannot classify cells in given outlines.
    """
    metadata = predictor.metadata
    if outlines == BY_NETWORK:
        if score_threshold is None:
            score_threshold = metadata.score_threshold
        return _ByNetwork(score_threshold)
    predictor.check_can_name()
    if outlines not in by_name.NAMES:
        if not pathlib.Path(outlines).is_dir():
            raise InputError(
                f"--outlines={outlines}: expected {BY_NETWORK}, "
                f"{', '.join(by_name.NAMES)} or a folder of label images."
            )
        files = OutlineFiles(
            outlines,
            chosen.study.rows(),
            chosen=[field.row for field in chosen.fields],
            label_components=label_components,
        )
        record = OutlinesRecord(BY_FILES, paths.recorded_path(outlines))
        measured, notes = _measured(metadata, record)
        return _FromFiles(
            record, measured, _threshold(score_threshold, measured), notes, files
        )
    annotator = _make_annotator(str(outlines), settings, metadata)
    diameters = {}
    if settings.diameter is None:
        rows = [field.row for field in chosen.fields]
        diameters = group_diameters.estimate_diameters(
            chosen.study, rows, annotator, journal, engine
        )
    record = OutlinesRecord(
        annotator.name, "", annotator.weights_sha256, annotator.settings
    )
    measured, notes = _measured(metadata, record)
    threshold = _threshold(score_threshold, measured)
    return _ByAnnotator(record, measured, threshold, notes, annotator, diameters)


@dataclasses.dataclass(frozen=True)
class _ByNetwork:
    score_threshold: float
    record: OutlinesRecord = dataclasses.field(default_factory=OutlinesRecord)
    notes: tuple[str, ...] = ()

    def version(self, field: ChosenField) -> list[Any]:
        return []

    def find(
        self, predictor: Predictor, field: ChosenField, image: np.ndarray
    ) -> tuple[Cells, dict[str, str]]:
        cells = predictor.predict(
            image,
            pixel_size_um=field.pixel_size_um,
            score_threshold=self.score_threshold,
        )
        return cells, {}


@dataclasses.dataclass(frozen=True)
class _Given:
    """Outlines that do not come from the network."""

    record: OutlinesRecord
    measured: NamingRecord | None
    score_threshold: float
    notes: tuple[str, ...]

    def _named(
        self,
        predictor: Predictor,
        field: ChosenField,
        image: np.ndarray,
        labels: np.ndarray,
        sure: np.ndarray | None = None,
    ) -> Cells:
        return predictor.name(
            image,
            labels,
            sure=sure,
            pixel_size_um=field.pixel_size_um,
            score_threshold=self.score_threshold,
            measured=self.measured,
        )


@dataclasses.dataclass(frozen=True)
class _ByAnnotator(_Given):
    annotator: Annotator
    diameters: Mapping[str, float]

    def version(self, field: ChosenField) -> list[Any]:
        return [self.annotator.fingerprint, self.diameters.get(field.row.group)]

    def find(
        self, predictor: Predictor, field: ChosenField, image: np.ndarray
    ) -> tuple[Cells, dict[str, str]]:
        diameter = self.diameters.get(field.row.group)
        found = self.annotator.annotate(image, diameter)
        named = self._named(predictor, field, image, found.labels, found.probabilities)
        return named, {}


@dataclasses.dataclass(frozen=True)
class _FromFiles(_Given):
    files: OutlineFiles

    def version(self, field: ChosenField) -> list[Any]:
        return self.files.version(field.row)

    def find(
        self, predictor: Predictor, field: ChosenField, image: np.ndarray
    ) -> tuple[Cells, dict[str, str]]:
        found = self.files.read(field.row)
        try:
            cells = self._named(predictor, field, image, found.labels)
        except InputError as error:
            raise InputError(f"{found.path}: {error}") from error
        return cells, {"outlines_file": found.path, "outlines_sha256": found.sha256}


def _make_annotator(
    name: str, settings: by_name.Settings, metadata: ModelMetadata
) -> Annotator:
    try:
        return by_name.make_annotator(name, settings)
    except InputError as error:
        known = [n for n in metadata.naming if n.outlines.startswith(f"{name}:")]
        measured = "; ".join(f"{n.outlines}, SHA-256 {n.sha256}" for n in known)
        if not measured:
            raise
        raise InputError(
            f"{error} The error rates of the model were measured with {measured}."
        ) from error


def _measured(
    metadata: ModelMetadata, record: OutlinesRecord
) -> tuple[NamingRecord | None, tuple[str, ...]]:
    """Returns the error rates measured with such or the most similar outlines, and notes."""
    found = metadata.naming_for(record.source, record.sha256)
    note = ""
    if found is None:
        note = (
            "It was not measured, when the model was exported, how often its calls are "
            "correct in given outlines."
        )
    elif found.outlines == OF_DATASET and record.source != BY_FILES:
        note = (
            f"The error rates of the model were not measured with the outlines of "
            f"{record.source}"
            f"{f' (weights with SHA-256 {record.sha256})' if record.sha256 else ''}. Its "
            "probabilities and the correction of proportions are valid for the outlines in "
            "its dataset. Export it with --outlines to measure them."
        )
    if note:
        logger.warning(note)
    return found, (note,) if note else ()


def _threshold(asked: float | None, measured: NamingRecord | None) -> float:
    if asked is not None:
        return asked
    return measured.score_threshold if measured else 0.0
