"""A study's label images, and what the manifest says of them, kept in step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from absl import logging

from cellclass_tf import batch, files
from cellclass_tf.cells import Cells, read_labels
from cellclass_tf.files import InputError
from cellclass_tf.manifest import COLUMNS
from cellclass_tf.study import ImageRow, Study

# Everything that writes cells/ shares this journal: after a kill it tells what made the
# labels that lie there.
JOURNAL = "annotate"


def write_cells(
    study: Study, row: ImageRow, cells: Cells, *, types_csv: bool = False
) -> dict[str, Any]:
    """Writes a field's label image, with its table of types or with none beside it.

    Returns:
      The manifest's columns that describe the file: cells, cells_sha256.
    """
    path = study.cells_path(row)
    if not types_csv:
        # First, since new labels beside an old table would be misread.
        path.with_suffix(".csv").unlink(missing_ok=True)
    cells.write(path, types_csv=types_csv)
    return {"cells": len(cells), "cells_sha256": files.sha256_of_file(path)}


def record(study: Study, outcome: batch.Outcome) -> None:
    """Brings the results of a run to the manifest, which is read anew for it.

    Args:
      study: the study.
      outcome: what was done; its results hold columns of a row by name.
    """
    rows = {row.image: row for row in study.rows()}
    study.update(
        _with(rows[image], result)
        for image, result in outcome.done.items()
        if image in rows
    )


def settled_rows(study: Study) -> list[ImageRow]:
    """Returns the rows, once they are true of the label images that lie there.

    Results of a run that was killed before it could record them are recorded now. A
    label image that someone changed without telling (by painting in it, say) is a
    correction from now on.

    Raises:
      InputError: if a changed label image cannot be read.
    """
    rows, changed = study.rows(), []
    results = batch.results(study.journal(JOURNAL))
    for index, row in enumerate(rows):
        path = study.cells_path(row)
        if not path.exists():
            continue
        found = files.sha256_of_file(path)
        if found == row.cells_sha256:
            continue
        result = results.get(row.image, {})
        if result.get("cells_sha256") == found:
            rows[index] = _with(row, result)
        elif row.cells_sha256:
            rows[index] = _edited(study, row, found)
        else:
            continue
        changed.append(rows[index])
    if changed:
        study.update(changed)
    return rows


def version_of_image(study: Study, row: ImageRow) -> Sequence:
    """What tells that a merged image has changed; it survives that the study moves."""
    path = study.image_path(row)
    return [row.image, files.sha256_of_file(path) if path.exists() else ""]


def _edited(study: Study, row: ImageRow, sha256: str) -> ImageRow:
    path = study.cells_path(row)
    try:
        labels = read_labels(path)
        count = len(Cells.from_labels(labels, study.cell_types))
    except (InputError, ValueError) as error:
        raise InputError(
            f"{path} was changed since it was annotated, and is no label image now "
            f"({error}). Mend it, or delete it to have the field annotated again."
        ) from error
    logging.warning("%s was changed by hand; it counts as corrected.", path)
    return dataclasses.replace(
        row,
        annotator_settings=f"{row.annotator}, then changed in place",
        cells=count,
        cells_sha256=sha256,
        corrected=True,
        by_hand="",
        doubts="",
    )


def _with(row: ImageRow, result: dict[str, Any]) -> ImageRow:
    columns = {name: value for name, value in result.items() if name in COLUMNS}
    return dataclasses.replace(row, **columns)
