"""Chooses the fields that `predict` works on: fields of a study, or converted raw files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from cellclass_tf import batch
from cellclass_tf.core.manifest import REJECTED, ImageRow
from cellclass_tf.core.run_record import CONVERTED_FOLDER
from cellclass_tf.core.study import MIXED, Study
from cellclass_tf.errors import InputError
from cellclass_tf.messages import logger
from cellclass_tf.microscopy import conversion
from cellclass_tf.storage import csv_json, paths

# Value of `cell_type` that chooses all fields of a study.
ALL = "all"
# File that records the selection of fields whose results are in a folder.
_SELECTION_FILE = "selection.json"


@dataclasses.dataclass(frozen=True)
class ChosenField:
    """A field to predict.

    Attributes:
      stem: name of the field in the results: 'TYPE/NAME', or 'NAME' for a raw file.
      row: its row in the study's images.csv.
      image: path of the merged image.
      pixel_size_um: width of a pixel in µm; None if unknown.
    """

    stem: str
    row: ImageRow
    image: pathlib.Path
    pixel_size_um: float | None


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Fields that are predicted, and fields that are left out.

    Attributes:
      study: study of the fields.
      cell_type: folder of the study whose images were chosen, `ALL`, or None for raw files.
      fields: fields to predict, sorted by image.
      rejected: rows of rejected images, which are left out.
      failures: {name: reason} for raw files that could not be converted and for invalid
        rows.
      notes: what a person should know about the selection, one line each.
    """

    study: Study
    cell_type: str | None
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
    """Finds the fields to predict; raw files and merged images are converted first.

    Args:
      input: a study; or merged images or raw files (a file or a folder), which are
        converted to OUTPUT/converted.
      output: folder for the results.
      cell_type: for a study: choose only the images of this folder, or `ALL` images; None
        chooses the mixed fields, or all if there are none.
      pixel_size_um: width of a pixel in µm for all images; None: as recorded for each.
      conversion_options: options of `convert`, for raw files.
      engine: what runs the conversion of raw files.

    Raises:
      InputError: if there is nothing to predict, or `output` is a study or has the results
        of other fields.
    """
    if Study.exists(output):
        raise InputError(
            f"{output} is a study; results would be mixed up with its own files. Give "
            "another folder as --output."
        )
    is_study = Study.exists(input)
    failures: dict[str, str] = {}
    if is_study:
        study = Study.open(input)
        cell_type, rows, notes = _rows_of(study, cell_type)
        _refuse_another_selection(input, cell_type, output)
    elif cell_type:
        raise InputError(
            f"--cell_type={cell_type} chooses images of a study, but {input} is not a study."
        )
    else:
        _refuse_another_selection(input, None, output)
        study = Study.open_or_create(output / CONVERTED_FOLDER)
        converted = conversion.convert(
            input, study, cell_type=MIXED, engine=engine, **conversion_options
        )
        failures, notes = converted.failures, converted.notes
        # Files of an earlier run may have been removed from the input since.
        images = {row["image"] for rows in converted.results.values() for row in rows}
        rows = [row for row in study.rows() if row.image in images]
    accepted = [row for row in rows if row.verdict != REJECTED]
    if len(accepted) < len(rows):
        logger.warning(
            "%d of %d images are rejected in %s and are not predicted.",
            len(rows) - len(accepted),
            len(rows),
            study.manifest_path,
        )
    if not accepted and not failures:
        raise InputError(
            f"{input}: no images to predict (cell_type={cell_type}), or all of them are "
            f"rejected; see the column verdict of {study.manifest_path}."
        )
    # Not before: an input that was mistyped has no results, and is not the selection.
    _record_selection(input, cell_type, output)
    fields = []
    for row in accepted:
        # The type of raw files is unknown, so the folder's name is left out.
        stem = row.stem if is_study else row.name
        size_um = pixel_size_um or study.pixel_size_of(row)
        try:
            fields.append(ChosenField(stem, row, study.image_path(row), size_um))
        except InputError as error:
            failures[row.image] = str(error)
    rejected = [row for row in rows if row.verdict == REJECTED]
    return Chosen(study, cell_type, fields, rejected, failures, notes)


def _rows_of(
    study: Study, cell_type: str | None
) -> tuple[str, list[ImageRow], tuple[str, ...]]:
    """Returns the folder that is chosen or `ALL`, its rows, and notes for a person."""
    rows = study.rows()
    if cell_type is not None:
        return cell_type, [r for r in rows if cell_type in (ALL, r.cell_type)], ()
    mixed = [row for row in rows if row.cell_type == MIXED]
    if not mixed or len(mixed) == len(rows):
        return MIXED if mixed else ALL, rows, ()
    note = (
        f"Mixed fields only; {len(rows) - len(mixed)} fields of pure cultures were left out "
        "(--cell_type=all takes them too)."
    )
    return MIXED, mixed, (note,)


def _selection_path(output: pathlib.Path) -> pathlib.Path:
    return output / ".journal" / _SELECTION_FILE


def _selection_of(
    input: str | os.PathLike, cell_type: str | None, output: pathlib.Path
) -> dict[str, str]:
    """Returns what is recorded of a selection of fields."""
    return {
        "input": paths.recorded_path(input),
        "relative": os.path.relpath(input, output) if "://" not in str(input) else "",
        "cell_type": cell_type or "",
    }


def _record_selection(
    input: str | os.PathLike, cell_type: str | None, output: pathlib.Path
) -> None:
    """Records which fields a folder has results of, unless that was recorded before."""
    path = _selection_path(output)
    if _selection_before(path) is None:
        csv_json.write_json(path, _selection_of(input, cell_type, output))


def _refuse_another_selection(
    input: str | os.PathLike, cell_type: str | None, output: pathlib.Path
) -> None:
    """Raises InputError if a folder has the results of another selection of fields.

    With two selections in one folder, tables would mix both, and the proportions would
    belong to neither.
    """
    own = _selection_of(input, cell_type, output)
    before = _selection_before(_selection_path(output))
    if before is None:
        return
    # A study that was moved together with its results is the same selection.
    is_same = before["cell_type"] == own["cell_type"] and (
        before["input"] == own["input"] or before["relative"] == own["relative"] != ""
    )
    if not is_same:
        shown = f"cell_type={before['cell_type']} of " if before["cell_type"] else ""
        raise InputError(
            f"{output} already has results of other fields: {shown}{before['input']}. Give "
            "another folder as --output, or remove this one."
        )


def _selection_before(path: pathlib.Path) -> dict[str, str] | None:
    """Reads the recorded selection; None if there is none, as in older versions."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: str(found[name]) for name in ("input", "relative", "cell_type")}
    return None
