"""A study's label images, and what the manifest says of them, kept in step."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import logging

from cellclass_tf import batch
from cellclass_tf.core.cells import Cells, read_labels, types_text
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
    "cells_source": "",
    "corrected": False,
    "by_hand": "",
    "doubts": "",
}


class Settled(NamedTuple):
    """The manifest, true of the label images that lie there.

    Attributes:
      rows: sorted by image, without those of `failures`.
      failures: why a label image that was changed is no use, by image.
      states: `state_of` each of the rows, as it was found.
    """

    rows: list[ImageRow]
    failures: dict[str, str]
    states: dict[str, list[str]]


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
    content, types = cells.encode(), types_text(cells.cell_types) if types_csv else ""
    result = result | {
        "cells": len(cells),
        "cells_sha256": hashlib.sha256(content).hexdigest(),
        "types_sha256": _sha256_of_text(types) if types else "",
        "cells_source": row.source,
    }
    before = table.read_text(encoding="utf-8") if table.exists() else ""
    pending = {"result": result, "types": types, "types_before": before}
    csv_json.write_json(_pending(study, row), pending)
    # Old types beside new labels would be misread, and so would new ones beside old.
    table.unlink(missing_ok=True)
    atomic.write_bytes(path, content)
    if types:
        atomic.write_text(table, types)
    return result


def record(study: Study, outcome: batch.Outcome) -> None:
    """Brings the results of a run to the manifest, which is read anew for it.

    Labels that someone changed in the meantime are not what was done any more: they are
    failures, and are left to `settle`.

    Args:
      study: the study.
      outcome: what was done; its results hold columns of a row by name.
    """
    rows, ours = {row.image: row for row in study.rows()}, []
    written = outcome.done.keys() & rows.keys()
    for image, result in list(outcome.done.items()):
        row = rows.get(image)
        if row is None:
            continue
        if result.get("cells_sha256", "") == _sha256(study.cells_path(row)):
            ours.append(_with(row, result))
        elif "cells_sha256" in result:
            del outcome.done[image]
            outcome.failures[image] = _changed_meanwhile(study, row)
    study.update(ours, ANNOTATION)
    for image in written:
        _pending(study, rows[image]).unlink(missing_ok=True)


def settle(study: Study) -> Settled:
    """Makes the manifest true of the label images that lie there, and reads it.

    Results of a run that was killed before it could record them are recorded now. A
    label image, or table of types, that someone changed without telling (by painting in
    it, say), or put there, is a correction from now on. Where a label image was deleted,
    the field has no cells and no corrections any more. Cells that were made on another
    raw file, or on another scene or time of it, than the image shows now are set aside
    into STUDY/.trash/DATE.
    """
    rows, changed, failures, states = [], [], {}, {}
    results = journal(study).results()
    for row in study.rows():
        state = state_of(study, row)
        try:
            settled = _settle_row(study, row, results.get(row.image, {}), state)
        except InputError as error:
            failures[row.image] = str(error)
            continue
        rows.append(settled)
        if state[0] and row.has_cells_of_another_source:
            # They were set aside.
            state = ["", ""]
        elif settled.cells_sha256 == state[0] != "":
            # A table of types may just have been brought back.
            state = [state[0], settled.types_sha256]
        states[row.image] = state
        if settled != row:
            changed.append(settled)
    if changed:
        study.update(changed, ANNOTATION)
    return Settled(rows, failures, states)


def state_of(study: Study, row: ImageRow) -> list[str]:
    """What lies there now: SHA-256 of label image and of types, '' where there is none."""
    return [_sha256(study.cells_path(row)), _sha256(_table(study, row))]


def check_state(study: Study, row: ImageRow, planned: Sequence[str]) -> None:
    """Raises InputError if what lies there is not what it was when a run was planned."""
    if state_of(study, row) != list(planned):
        raise InputError(_changed_meanwhile(study, row))


def _changed_meanwhile(study: Study, row: ImageRow) -> str:
    return (
        f"{study.cells_path(row)} was changed while the run was under way, and is left "
        "alone. It counts as corrected from the next run on."
    )


def version_of_image(study: Study, row: ImageRow) -> Sequence:
    """What tells that a merged image has changed; it survives that the study moves."""
    return [row.image, _sha256(study.image_path(row))]


def _settle_row(
    study: Study, row: ImageRow, result: dict[str, Any], state: Sequence[str]
) -> ImageRow:
    labels, types = state
    if labels and row.has_cells_of_another_source:
        _set_aside(study, row)
        return dataclasses.replace(row, **_NO_CELLS)
    if not labels:
        return dataclasses.replace(row, **_NO_CELLS) if row.cells_sha256 else row
    is_known = bool(row.cells_sha256)
    if is_known and [labels, types] == [row.cells_sha256, row.types_sha256]:
        return row
    pending = _read_pending(study, row)
    known = {"cells_sha256": row.cells_sha256, "types_sha256": row.types_sha256}
    for made, table in (
        # What was about to be written; and, with its old types, what it was to replace.
        (pending.get("result", {}), pending.get("types")),
        (known, pending.get("types_before")),
        (result, None),
    ):
        if not labels == made.get("cells_sha256") != "":
            continue
        wanted = made.get("types_sha256", "")
        if not types and table and _sha256_of_text(table) == wanted:
            # The process was killed between a label image and its table.
            atomic.write_text(_table(study, row), table)
            types = wanted
        if types == wanted:
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
        cells_source=row.source,
        corrected=True,
        by_hand="" if labels_sha256 != row.cells_sha256 else row.by_hand,
        doubts="",
    )


def _set_aside(study: Study, row: ImageRow) -> None:
    """Moves a field's cells out of the way, to where a person finds them again."""
    folder = study.trash_path / datetime.date.today().isoformat()
    for path in (study.cells_path(row), _table(study, row)):
        if path.exists():
            target = folder / path.relative_to(study.root)
            number = itertools.count(2)
            while target.exists():
                target = target.with_stem(f"{path.stem}-{next(number)}")
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    logging.warning(
        "%s was made of another raw file than its cells: they are set aside into %s.",
        row.image,
        folder,
    )


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


def _sha256_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256(path: pathlib.Path) -> str:
    return digests.sha256_of_file(path) if path.exists() else ""


def _with(row: ImageRow, result: dict[str, Any]) -> ImageRow:
    columns = {
        name: value for name, value in result.items() if name in columns_of(ANNOTATION)
    }
    return dataclasses.replace(row, **columns)
