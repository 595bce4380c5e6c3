"""A study's label images, and what the manifest says of them, kept in step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

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


class Settled(NamedTuple):
    """The manifest, true of the label images that lie there.

    Attributes:
      rows: sorted by image, without those of `failures`.
      failures: why a label image that was changed is no use, by image.
    """

    rows: list[ImageRow]
    failures: dict[str, str]


def settle(study: Study) -> Settled:
    """Makes the manifest true of the label images that lie there, and reads it.

    Results of a run that was killed before it could record them are recorded now. A
    label image that someone changed without telling (by painting in it, say) is a
    correction from now on.
    """
    rows, changed, failures = [], [], {}
    results = batch.results(study.journal(JOURNAL))
    for row in study.rows():
        try:
            settled = _settled(study, row, results.get(row.image, {}))
        except InputError as error:
            failures[row.image] = str(error)
            continue
        rows.append(settled)
        if settled != row:
            changed.append(settled)
    if changed:
        study.update(changed)
    return Settled(rows, failures)


def version_of_image(study: Study, row: ImageRow) -> Sequence:
    """What tells that a merged image has changed; it survives that the study moves."""
    path = study.image_path(row)
    return [row.image, files.sha256_of_file(path) if path.exists() else ""]


def _settled(study: Study, row: ImageRow, result: dict[str, Any]) -> ImageRow:
    path = study.cells_path(row)
    found = files.sha256_of_file(path) if path.exists() else row.cells_sha256
    if found == row.cells_sha256:
        return row
    if result.get("cells_sha256") == found:
        return _with(row, result)
    return _edited(study, row, found) if row.cells_sha256 else row


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
