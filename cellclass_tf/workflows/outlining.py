"""Who outlines the cells that `predict` names: the network, an annotator, or files."""

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
        """Returns the named cells of a field, and what run.json says of their outlines."""


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
    """Makes what outlines the cells of the chosen fields.

    Args:
      outlines: 'network', an annotator's name, or a folder of label images.
      predictor: the model.
      chosen: the fields.
      settings: of the annotator.
      score_threshold: None for that which was measured with such outlines.
      label_components: of a folder, as in `import`.
      journal: remembers diameters that are estimated.
      engine: estimates them.

    Raises:
      InputError: if there is no such annotator or folder, or its weights are missing, or the
        model cannot name outlines of others.
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
        size_um, threshold = field.pixel_size_um, self.score_threshold
        return predictor.predict(
            image, pixel_size_um=size_um, score_threshold=threshold
        ), {}


@dataclasses.dataclass(frozen=True)
class _Given:
    """Outlines that are not the network's."""

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
        told = {"outlines_file": found.path, "outlines_sha256": found.sha256}
        return cells, told


def _make_annotator(
    name: str, settings: by_name.Settings, metadata: ModelMetadata
) -> Annotator:
    try:
        return by_name.make_annotator(name, settings)
    except InputError as error:
        known = [n for n in metadata.naming if n.outlines.startswith(f"{name}:")]
        told = "; ".join(f"{n.outlines}, SHA-256 {n.sha256}" for n in known)
        if not told:
            raise
        raise InputError(f"{error} The model was measured with {told}.") from error


def _measured(
    metadata: ModelMetadata, record: OutlinesRecord
) -> tuple[NamingRecord | None, tuple[str, ...]]:
    """What was measured with such outlines, or with what comes nearest, and notes."""
    found = metadata.naming_for(record.source, record.sha256)
    note = ""
    if found is None:
        note = (
            "How often calls in given outlines are right was not measured when the model "
            "was exported."
        )
    elif found.outlines == OF_DATASET and record.source != BY_FILES:
        note = (
            f"The model was not measured with the outlines of {record.source}"
            f"{f' (weights of SHA-256 {record.sha256})' if record.sha256 else ''}: its "
            "probabilities and the correction of shares are those in the outlines of its "
            "dataset. Export it with --outlines to measure it."
        )
    if note:
        logger.warning(note)
    return found, (note,) if note else ()


def _threshold(asked: float | None, measured: NamingRecord | None) -> float:
    if asked is not None:
        return asked
    return measured.score_threshold if measured else 0.0
