"""Which fields `predict` is to predict: those of a study, or raw files converted first."""

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


# Value of `cell_type` for all fields of a study.
ALL = "all"
# Which fields the results in a folder are of.
SELECTION_FILE = "selection.json"


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What is to be predicted, and what is not.

    Attributes:
      study: of the fields.
      cell_type: folder of the study whose images were chosen, `ALL`, or None for files.
      fields: to predict, sorted by image.
      rejected: rows that are left out, since a share of blurred cells is no share of
        cells.
      failures: why raw files could not be converted, and rows are no use, by name.
      notes: what files there were, a line for each kind.
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
    """Finds the fields to predict; raw files and merged images become a study first.

    Args:
      input: a study; or merged images or raw files (a file or a folder), which are
        converted to OUTPUT/converted.
      output: folder of the results.
      cell_type: of a study, only the images of this folder, or `ALL`; None takes the mixed
        fields, or all if there are none.
      pixel_size_um: of all images; None for what is known of each.
      conversion_options: of `convert`, for raw files.
      engine: converts raw files.

    Raises:
      InputError: if there is nothing to predict, or `output` is a study or has the results
        of other fields.
    """
    if Study.exists(output):
        raise InputError(
            f"{output} is a study, in which results would be lost among its own files. "
            "Give another folder as --output."
        )
    is_study = Study.exists(input)
    notes: tuple[str, ...] = ()
    if is_study:
        study, failures = Study.open(input), {}
        rows = study.rows()
        if cell_type is None:
            cell_type = MIXED if any(row.cell_type == MIXED for row in rows) else ALL
            pure = sum(row.cell_type != MIXED for row in rows)
            if cell_type == MIXED and pure:
                left = f"{pure} fields of pure cultures were left out"
                notes = (
                    f"Mixed fields only; {left} (--cell_type=all takes them too).",
                )
        rows = [row for row in rows if cell_type in (ALL, row.cell_type)]
        keep_selection(input, cell_type, output)
    elif cell_type:
        raise InputError(
            f"--cell_type={cell_type} chooses images of a study, and {input} is none."
        )
    else:
        keep_selection(input, None, output)
        study = Study.open_or_create(output / CONVERTED_FOLDER)
        converted = conversion.convert(
            input, study, cell_type=MIXED, engine=engine, **conversion_options
        )
        failures, notes = converted.failures, converted.notes
        # The input may have lost files since an earlier run.
        images = {row["image"] for rows in converted.results.values() for row in rows}
        rows = [row for row in study.rows() if row.image in images]
    accepted = [row for row in rows if row.verdict != REJECTED]
    if len(accepted) < len(rows):
        logger.warning(
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
    return Chosen(study, cell_type, fields, rejected, failures, notes)


def keep_selection(
    input: str | os.PathLike, cell_type: str | None, output: pathlib.Path
) -> None:
    """Records of which fields the results in a folder are; refuses other ones.

    Of two selections in one folder the tables would mix both, and the proportions be those
    of neither.

    Raises:
      InputError: if the folder has the results of another selection.
    """
    own = {
        "input": paths.recorded_path(input),
        "relative": os.path.relpath(input, output) if "://" not in str(input) else "",
        "cell_type": cell_type or "",
    }
    path = output / ".journal" / SELECTION_FILE
    before = _selection_before(path)
    if before is None:
        csv_json.write_json(path, own)
        return
    # A study that was moved together with its results is the same one.
    is_same = before["cell_type"] == own["cell_type"] and (
        before["input"] == own["input"] or before["relative"] == own["relative"] != ""
    )
    if not is_same:
        shown = f"cell_type={before['cell_type']} of " if before["cell_type"] else ""
        raise InputError(
            f"{output} has the results of other fields: {shown}{before['input']}. Give "
            "another folder as --output, or remove this one."
        )


def _selection_before(path: pathlib.Path) -> dict[str, str] | None:
    """The selection that is recorded; None if an older version recorded none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(path.read_text(encoding="utf-8"))
        return {name: str(told[name]) for name in ("input", "relative", "cell_type")}
    return None
