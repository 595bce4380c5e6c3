"""Which fields `predict` is to predict: those of a study, or raw files converted first."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import logging

from cellclass_tf import batch
from cellclass_tf.core.manifest import REJECTED, ImageRow
from cellclass_tf.core.run_record import CONVERTED_FOLDER
from cellclass_tf.core.study import MIXED, Study
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import conversion


@dataclasses.dataclass(frozen=True)
class ChosenField:
    """One field to predict.

    Attributes:
      stem: what it is called in the results: 'TYPE/NAME', or 'NAME' of a raw file.
      row: of the study's manifest.
      image: path of the merged image.
      pixel_size_um: None if unknown.
    """

    stem: str
    row: ImageRow
    image: pathlib.Path
    pixel_size_um: float | None


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What is to be predicted, and what is not.

    Attributes:
      study: of the fields.
      fields: to predict, sorted by image.
      rejected: rows that are left out, since a share of blurred cells is no share of
        cells.
      failures: why raw files could not be converted, and rows are no use, by name.
      notes: what files there were, a line for each kind.
    """

    study: Study
    fields: list[ChosenField]
    rejected: list[ImageRow]
    failures: Mapping[str, str]
    notes: tuple[str, ...] = ()


def choose_fields(
    input: str | os.PathLike,
    output: pathlib.Path,
    *,
    cell_type: str | None,
    pixel_size_um: float | None,
    conversion_options: Mapping[str, Any],
    engine: batch.Engine,
) -> Chosen:
    """Finds the fields to predict; raw files and merged images become a study first.

    Args:
      input: a study; or merged images or raw files (a file or a folder), which are
        converted to OUTPUT/converted.
      output: folder of the results.
      cell_type: of a study, only the images of this folder; None takes all.
      pixel_size_um: of all images; None for what is known of each.
      conversion_options: of `convert`, for raw files.
      engine: converts raw files.

    Raises:
      InputError: if there is nothing to predict.
    """
    is_study = Study.exists(input)
    if is_study:
        study, failures, notes = Study.open(input), {}, ()
        rows = [row for row in study.rows() if cell_type in (None, row.cell_type)]
    elif cell_type:
        raise InputError(
            f"--cell_type={cell_type} chooses images of a study, and {input} is none."
        )
    else:
        study = Study.open_or_create(output / CONVERTED_FOLDER)
        converted = conversion.convert(
            input, study, cell_type=MIXED, engine=engine, **conversion_options
        )
        failures, notes = converted.failures, converted.notes
        # Of earlier runs into this folder only what this input names is meant.
        images = {row["image"] for rows in converted.results.values() for row in rows}
        rows = [row for row in study.rows() if row.image in images]
    accepted = [row for row in rows if row.verdict != REJECTED]
    if len(accepted) < len(rows):
        logging.warning(
            "%d of %d images are rejected in %s and not predicted.",
            len(rows) - len(accepted),
            len(rows),
            study.manifest_path,
        )
    if not accepted and not failures:
        raise InputError(
            f"{input}: no images to predict (cell_type={cell_type}), or all of them are "
            f"rejected; see the column verdict of {study.manifest_path}."
        )
    fields = []
    for row in accepted:
        # The type of raw files is not known, so their folder's name says nothing.
        stem = row.stem if is_study else row.name
        size_um = pixel_size_um or study.pixel_size_of(row)
        try:
            fields.append(ChosenField(stem, row, study.image_path(row), size_um))
        except InputError as error:
            failures[row.image] = str(error)
    rejected = [row for row in rows if row.verdict == REJECTED]
    return Chosen(study, fields, rejected, failures, notes)
