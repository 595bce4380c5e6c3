"""A study's label images, and what the manifest says of them, kept in step."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import logging

from cellclass_tf import batch
from cellclass_tf.core.cells import Cells, read_labels, write_types
from cellclass_tf.core.manifest import ANNOTATION, columns_of
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic, csv_json, digests

# Put behind the fingerprint of labels that a person changed.
EDITED = "*"

# A row whose label image was deleted.
_NO_CELLS = {
    "annotator": "",
    "annotator_sha256": "",
    "annotation": "",
    "annotator_settings": "",
    "diameter_px": None,
    "cells": None,
    "cells_sha256": "",
    "types_sha256": "",
    "corrected": False,
    "by_hand": "",
    "doubts": "",
}


class Settled(NamedTuple):
    """The manifest, true of the label images that lie there.

    Attributes:
      rows: sorted by image, without those of `failures`.
      failures: why a label image that was changed is no use, by image.
    """

    rows: list[ImageRow]
    failures: dict[str, str]


def journal(study: Study) -> batch.Journal:
    """The journal that everything shares that writes cells/.

    After a kill it tells what made the labels that lie there. What is done, the manifest
    knows better.
    """
    return batch.Journal(study.journal("annotate"), skips_done=False)


def write_cells(
    study: Study,
    row: ImageRow,
    cells: Cells,
    result: dict[str, Any],
    *,
    types_csv: bool = False,
) -> dict[str, Any]:
    """Writes a field's label image, with its table of types or with none beside it.

    What will lie there is told to a file first: should the process be killed, the next
    run knows whose labels they are, and does not take them for a person's.

    Args:
      study: the study.
      row: of the image.
      cells: the cells.
      result: columns of the row that say what made them.
      types_csv: whether the types are written cell by cell.

    Returns:
      The result, with the columns that describe the file: cells, cells_sha256 and
      types_sha256.
    """
    path, table = study.cells_path(row), _table(study, row)
    content = cells.encode()
    types = cells.cell_types if types_csv else ()
    result = result | {
        "cells": len(cells),
        "cells_sha256": hashlib.sha256(content).hexdigest(),
        "types_sha256": "",
    }
    csv_json.write_json(_pending(study, row), {"result": result, "types": types})
    # Old types beside new labels would be misread, and so would new ones beside old.
    table.unlink(missing_ok=True)
    atomic.write_bytes(path, content)
    return _with_table(study, row, result, types)


def record(study: Study, outcome: batch.Outcome) -> None:
    """Brings the results of a run to the manifest, which is read anew for it.

    Labels that someone changed in the meantime are not what was done any more; they
    are left to `settle`.

    Args:
      study: the study.
      outcome: what was done; its results hold columns of a row by name.
    """
    rows = {row.image: row for row in study.rows()}
    done = {image: r for image, r in outcome.done.items() if image in rows}
    ours = [
        _with(rows[image], result)
        for image, result in done.items()
        if result.get("cells_sha256", "") == _sha256(study.cells_path(rows[image]))
    ]
    study.update(ours, ANNOTATION)
    for image in done:
        _pending(study, rows[image]).unlink(missing_ok=True)


def settle(study: Study) -> Settled:
    """Makes the manifest true of the label images that lie there, and reads it.

    Results of a run that was killed before it could record them are recorded now. A
    label image, or table of types, that someone changed without telling (by painting in
    it, say), or put there, is a correction from now on. Where a label image was deleted,
    the field has no cells and no corrections any more.
    """
    rows, changed, failures = [], [], {}
    results = journal(study).results()
    for row in study.rows():
        try:
            settled = _settle_row(study, row, results.get(row.image, {}))
        except InputError as error:
            failures[row.image] = str(error)
            continue
        rows.append(settled)
        if settled != row:
            changed.append(settled)
    if changed:
        study.update(changed, ANNOTATION)
    return Settled(rows, failures)


def state_of(study: Study, row: ImageRow) -> list[str]:
    """What lies there now: SHA-256 of label image and of types, '' where there is none."""
    return [_sha256(study.cells_path(row)), _sha256(_table(study, row))]


def check_state(study: Study, row: ImageRow, planned: Sequence[str]) -> None:
    """Raises InputError if what lies there is not what it was when a run was planned."""
    if state_of(study, row) != list(planned):
        raise InputError(
            f"{study.cells_path(row)} was changed while the run was under way, and is "
            "left alone. It counts as corrected from the next run on."
        )


def version_of_image(study: Study, row: ImageRow) -> Sequence:
    """What tells that a merged image has changed; it survives that the study moves."""
    return [row.image, _sha256(study.image_path(row))]


def _settle_row(study: Study, row: ImageRow, result: dict[str, Any]) -> ImageRow:
    labels, types = state_of(study, row)
    if not labels:
        return dataclasses.replace(row, **_NO_CELLS) if row.cells_sha256 else row
    is_known = bool(row.cells_sha256)
    if is_known and [labels, types] == [row.cells_sha256, row.types_sha256]:
        return row
    pending = _read_pending(study, row)
    for made, names in (
        (pending.get("result", {}), pending.get("types")),
        (result, ()),
    ):
        if labels == made.get("cells_sha256"):
            if names and not types:
                made = _with_table(study, row, made, names)
                types = made["types_sha256"]
            if types == made.get("types_sha256", ""):
                return _with(row, made)
    # Studies of older versions know what made their labels, and no SHA-256 of them.
    is_old = row.annotator or row.corrected
    return row if is_old and not is_known else _mark_edited(study, row, labels, types)


def _mark_edited(
    study: Study, row: ImageRow, labels_sha256: str, types: str
) -> ImageRow:
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
    made_by = row.annotation.removesuffix(EDITED)
    return dataclasses.replace(
        row,
        annotator=row.annotator or "import",
        annotator_settings=f"{row.annotator or 'put in place'}, then changed in place",
        annotation=f"{made_by}{EDITED}",
        cells=count,
        cells_sha256=labels_sha256,
        types_sha256=types,
        corrected=True,
        by_hand="" if labels_sha256 != row.cells_sha256 else row.by_hand,
        doubts="",
    )


def _with_table(
    study: Study, row: ImageRow, result: dict[str, Any], types: Sequence[str]
) -> dict[str, Any]:
    if not types:
        return result
    write_types(_table(study, row), types)
    return result | {"types_sha256": _sha256(_table(study, row))}


def _table(study: Study, row: ImageRow) -> pathlib.Path:
    return study.cells_path(row).with_suffix(".csv")


def _pending(study: Study, row: ImageRow) -> pathlib.Path:
    below = study.cells_path(row).relative_to(study.root / "cells")
    return study.journal("pending").with_suffix("") / below.with_suffix(".json")


def _read_pending(study: Study, row: ImageRow) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(_pending(study, row).read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _sha256(path: pathlib.Path) -> str:
    return digests.sha256_of_file(path) if path.exists() else ""


def _with(row: ImageRow, result: dict[str, Any]) -> ImageRow:
    columns = {
        name: value for name, value in result.items() if name in columns_of(ANNOTATION)
    }
    return dataclasses.replace(row, **columns)
