"""Measures an exported model on its training data and on held-out fields.

The result is written to the model: thresholds and temperature, which classifiers are
combined, and statistics by which unfamiliar fields are recognised.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.model_metadata import (
    BY_DETECTOR,
    METADATA_FILE,
    OF_DATASET,
    ModelMetadata,
    NamingRecord,
)
from cellclass_tf.maskrcnn import (
    calibration,
    config,
    familiarity,
    postprocessing,
    predictor,
    reliability,
)
from cellclass_tf.maskrcnn.input import reading
from cellclass_tf.messages import logger
from cellclass_tf.splits.assignment import COMPOSED

RELIABILITY_FILE = "reliability.png"
# Gains of cytoplasm and nuclei at which classifiers are compared, and the maximum number of
# fields for it.
_GAINS = ((1.0, 1.0), (0.6, 1.0), (1.6, 1.0), (1.0, 0.6), (1.0, 1.6))
_MOST_TRIED = 24
# Maximum number of fields of a split for the statistics of the training cells.
_MOST_LOOKED_AT = 100


class HeldOutAnnotator(Protocol):
    """A segmentation method for held-out fields; see `annotators.protocol.Annotator`."""

    name: str
    weights_sha256: str
    settings: str

    def annotate(self, image: np.ndarray) -> Any:
        """Returns `labels`, (H, W) int32, and `probabilities`, (N,) or None."""


def measure(
    folder: pathlib.Path,
    task_config: config.CellMaskRCNNTask,
    dataset: tfds.core.Path,
    annotators: Sequence[HeldOutAnnotator],
) -> None:
    """Calibrates an exported model on held-out fields, and writes the results to it.

    Args:
      folder: folder of the model.
      task_config: parameters of its training run (the first, if there are several).
      dataset: folder of the dataset version that it was trained on.
      annotators: segmentation methods whose outlines will be classified, in addition to
        the outlines of the dataset.
    """
    model = predictor.Predictor.load(folder)
    data = task_config.validation_data
    splits = (data.tfds_split, COMPOSED)
    held_out = functools.partial(_held_out, task_config, dataset, splits)

    if len(model.metadata.classifiers) > 1:
        model.metadata = _choose_naming(model, held_out())
    _familiarize(model, folder, task_config, dataset)
    calibrator, named = _predicted(model, held_out(), annotators)
    # The fields are read again, so that they need not be kept in memory.
    again = held_out()

    def rename(cells: Cells) -> Cells:
        field = next(again)
        return model.with_all_classifiers(
            field.image, cells, pixel_size_um=field.pixel_size_um
        )

    is_alone = model.metadata.named_by == (BY_DETECTOR,)
    fitted = calibrator.fit(None if is_alone else rename)
    metadata = dataclasses.replace(
        model.metadata, naming=tuple(_naming_records(named, annotators))
    )
    if fitted is None or fitted.mask_threshold is None:
        logger.warning(
            "The model is not calibrated: the dataset has no validation fields, or no "
            "cell of known type was found in them. Scores and probabilities are the "
            "network's own."
        )
    else:
        metadata = dataclasses.replace(
            metadata,
            mask_threshold=fitted.mask_threshold,
            score_threshold=fitted.score_threshold,
            temperature=fitted.temperature,
            calibration=fitted.record(),
        )
        _show(fitted, folder / RELIABILITY_FILE)
    metadata.write(folder / METADATA_FILE)


def _predicted(
    model: predictor.Predictor,
    fields: Iterator[reading.Field],
    annotators: Sequence[HeldOutAnnotator],
) -> tuple[calibration.Calibrator, list[list[calibration.Matched]]]:
    """Predicts held-out fields without calibration.

    Returns:
      The calibrator with the detections of all fields; and for the outlines of the dataset,
      then for those of each annotator, the classified cells of each field.
    """
    calibrator = calibration.Calibrator(model.type_names)
    named: list[list[calibration.Matched]] = [[] for _ in range(1 + len(annotators))]
    for field in fields:
        true, size_um = field.cells, field.pixel_size_um
        area = model.metadata.area_in_cells(true.labels.size, size_um)
        origin = calibration.Origin(field.group, area, field.split == COMPOSED)
        detections = model.detect(
            field.image,
            scale=model.scale_for(size_um),
            score_threshold=postprocessing.SCORE_THRESHOLD,
        )
        calibrator.add(detections, true, origin)
        outlined = [(true.labels, None)]
        for annotator in annotators:
            found = annotator.annotate(field.image)
            outlined.append((found.labels, found.probabilities))
        for matched, (labels, sure) in zip(named, outlined, strict=True):
            cells = model.name_uncalibrated(
                field.image, labels, sure=sure, pixel_size_um=size_um
            )
            matched.append(calibration.Matched.of(true, cells, origin=origin))
    return calibrator, named


def _show(fitted: calibration.Calibration, path: pathlib.Path) -> None:
    """Draws the reliability, and logs what was fitted."""
    drawn = reliability.png_of(
        fitted.before,
        fitted.after,
        temperature=fitted.temperature,
        fields=fitted.fields,
    )
    path.write_bytes(drawn)
    logger.info(
        "Calibrated on %d cells of %d held-out fields: mask threshold %.2f, score "
        "threshold %.2f, temperature %.2f, expected calibration error %.3f (%.3f before "
        "calibration).",
        fitted.cells,
        fitted.fields,
        fitted.mask_threshold,
        fitted.score_threshold,
        fitted.temperature,
        fitted.after.expected_error,
        fitted.before.expected_error,
    )


def _held_out(
    task_config: config.CellMaskRCNNTask,
    dataset: tfds.core.Path,
    splits: Sequence[str],
) -> Iterator[reading.Field]:
    """Returns the fields for calibration, one at a time."""
    fields = itertools.chain.from_iterable(
        fields_of(task_config, dataset, split) for split in splits
    )
    return itertools.islice(fields, calibration.MOST_FIELDS)


def _choose_naming(
    model: predictor.Predictor, fields: Iterator[reading.Field]
) -> ModelMetadata:
    """Chooses the classifiers by the types of the annotated held-out cells.

    Mixed dishes are seldom imaged with the same settings as the pure ones. On unchanged
    held-out fields, the winner could be a network that relies on brightness, so the fields
    are also classified at other gains of either channel.

    Returns:
      The model's metadata with the choice; unchanged if a type has no such cells.
    """
    named: dict[str, list[np.ndarray]] = {n: [] for n in model.metadata.classifiers}
    true_ids: list[np.ndarray] = []
    for field in itertools.islice(fields, _MOST_TRIED):
        labels, size_um = field.cells.labels, field.pixel_size_um
        known = field.cells.type_ids > 0
        for gains in _GAINS:
            brighter = field.image * np.array((1, *gains), np.float32)
            seen = np.clip(brighter, 0, 255).astype(np.uint8)
            for name, found in named.items():
                if name == BY_DETECTOR:
                    cells = model.name_by_detector(seen, labels, pixel_size_um=size_um)
                    probabilities = cells.probabilities
                else:
                    probabilities = model.probabilities_by(
                        name, seen, labels, pixel_size_um=size_um
                    )
                found.append(probabilities[known])
            true_ids.append(field.cells.type_ids[known])
    seen_types = set(np.concatenate(true_ids).tolist()) if true_ids else set()
    missing = [
        name
        for number, name in enumerate(model.metadata.type_names, start=1)
        if number not in seen_types
    ]
    if missing:
        logger.warning(
            "The held-out fields have no cells of %s, so that all classifiers of the model "
            "are used: which of them are better is not known.",
            ", ".join(missing),
        )
        return model.metadata
    chosen, likelihoods = calibration.choose_naming(
        {name: np.concatenate(found) for name, found in named.items()},
        np.concatenate(true_ids),
        repeats=len(_GAINS),
    )
    logger.info(
        "Cells are classified by: %s (mean log-likelihood of the held-out types: %s).",
        " and ".join(chosen),
        ", ".join(f"{name} {value:.4f}" for name, value in likelihoods.items()),
    )
    return dataclasses.replace(
        model.metadata, named_by=chosen, log_likelihoods=likelihoods
    )


def _familiarize(
    model: predictor.Predictor,
    folder: pathlib.Path,
    task_config: config.CellMaskRCNNTask,
    dataset: tfds.core.Path,
) -> None:
    """Writes the statistics of the dataset's cells; see `familiarity`."""
    gathered = familiarity.Familiarizer()
    splits = task_config.validation_data.tfds_split, task_config.train_data.tfds_split
    for split in filter(None, splits):
        fields = fields_of(task_config, dataset, split)
        for field in itertools.islice(fields, _MOST_LOOKED_AT):
            # The features are those of the detector.
            cells = model.name_by_detector(
                field.image, field.cells.labels, pixel_size_um=field.pixel_size_um
            )
            cells = dataclasses.replace(cells, type_ids=field.cells.type_ids)
            scale = model.scale_for(field.pixel_size_um)
            gathered.add(
                field.image,
                cells,
                field.group,
                scale,
                grayscale=model.metadata.grayscale,
            )
    found = gathered.fit()
    if found is not None:
        found.write(folder / familiarity.FAMILIARITY_FILE)


def _naming_records(
    named: Sequence[Sequence[calibration.Matched]],
    annotators: Sequence[HeldOutAnnotator],
) -> Iterator[NamingRecord]:
    """Yields the calibration for the dataset's outlines and for those of each annotator."""
    for fields, annotator in zip(named, (None, *annotators), strict=True):
        found = calibration.calibrate_named(fields)
        if found is None:
            continue
        record = NamingRecord(
            annotator.name if annotator else OF_DATASET,
            found.score_threshold,
            found.temperature,
            found.record(),
            annotator.weights_sha256 if annotator else "",
            annotator.settings if annotator else "",
        )
        logger.info(
            "Cells in the outlines of %s: %d cells of %d held-out fields, type accuracy "
            "%.3f, temperature %.2f, expected calibration error %.3f.",
            record.outlines,
            found.cells,
            found.fields,
            found.accuracy,
            found.temperature,
            found.after.expected_error,
        )
        yield record


def fields_of(
    task_config: config.CellMaskRCNNTask, dataset: tfds.core.Path, split: str
) -> Iterator[reading.Field]:
    """Yields the fields of a split; none if the dataset has no such split."""
    builder = tfds.builder_from_directory(dataset)
    if split not in builder.info.splits:
        return
    # DATA_DIR/NAME/CONFIG/VERSION
    data_dir = os.fspath(dataset.parents[2])
    data = task_config.validation_data.replace(tfds_data_dir=data_dir)
    yield from reading.decoded_fields(data, split, task_config.type_names)
