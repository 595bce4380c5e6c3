"""Reads and writes a study's label images, and keeps the manifest in agreement with them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cellclass_tf import batch
from cellclass_tf.annotation import changes
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.label_files import types_text
from cellclass_tf.core.manifest import ANNOTATION, columns_of
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.labels import components
from cellclass_tf.messages import logger
from cellclass_tf.storage import atomic, digests, trash
from cellclass_tf.storage.ledger import Written, ledger_of

# Appended to the fingerprint of labels that a person changed.
EDITED = "*"

# Name of a field's cells, with their types, in its ledger.
_CELLS = "cells"

# Columns of a row whose label image was deleted.
_NO_CELLS: dict[str, Any] = {
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
    """The manifest, in agreement with the label images on disk.

    Attributes:
      rows: rows of all images except those in `failures`, sorted by image.
      failures: reasons why changed label images cannot be used, by image.
      states: the files of each of the rows, see `state_of`.
    """

    rows: list[ImageRow]
    failures: dict[str, str]
    states: dict[str, list[str]]


def journal(study: Study) -> batch.Journal:
    """Returns the journal that is shared by everything that writes label images.

    After a crash it says what made the labels on disk. Whether a field is done is decided
    by the manifest.
    """
    return batch.Journal(study.journal("annotate"), skips_done=False)


def write_cells(
    study: Study,
    row: ImageRow,
    cells: Cells,
    result: dict[str, Any],
    *,
    planned: Sequence[str] | None = None,
    types_csv: bool = False,
    source: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Writes a field's label image, and its table of types if it has one.

    A pending record is written first, so that after a crash the next run finishes the
    work, and does not take the label image for a person's. Cells that a person made, or
    that the program did not write, are first copied to STUDY/.trash/DATE, whatever the
    column `corrected` says.

    Args:
      study: the study.
      row: row of the image.
      cells: the cells.
      result: columns of the row that say what made the cells.
      planned: `state_of` the row when the run was planned; None for the current state.
      types_csv: whether to write a table with the type of each cell.
      source: facts about the file that the cells were imported from, for `source_of`.

    Returns:
      The result, with the columns that describe the file: cells, cells_sha256,
      types_sha256 and cells_source.

    Raises:
      InputError: if a person changed cells, types or the column corrected since the run
        was planned.
    """
    path, table = study.cells_path(row), _table(study, row)
    content, types = cells.encode(), types_text(cells.cell_types) if types_csv else ""
    result = result | {
        "cells": len(cells),
        "cells_sha256": hashlib.sha256(content).hexdigest(),
        "types_sha256": _sha256_of_text(types) if types else "",
        "cells_source": row.source,
    }
    there, book = state_of(study, row), ledger_of(study.root, path)
    check_unchanged(study, row, there if planned is None else planned)
    state = [result["cells_sha256"], result["types_sha256"]]
    known = book.facts_of(_CELLS, there)
    is_persons = _is_persons(row, known)
    if any(there) and there != state and (is_persons or known is None):
        trash.keep(study.root, _files(study, row))
    if there == [row.cells_sha256, row.types_sha256]:
        # The old state is recorded, too, so that it is recognized after a crash.
        before = table.read_text(encoding="utf-8") if table.exists() else ""
        old = _annotation_of(row) | {"corrected": is_persons}
        book.add(_CELLS, Written(there, {**(known or {}), **_facts(old, before)}))
    made = Written(state, _facts(result, types) | {"source": dict(source or {})})
    with book.recording({_CELLS: made}):
        # A table of types would be misread with labels that it does not belong to.
        table.unlink(missing_ok=True)
        atomic.write_bytes(path, content)
        if types:
            atomic.write_text(table, types)
    return result


def _is_persons(row: ImageRow, known: Mapping[str, Any] | None) -> bool:
    """Returns whether a person made or corrected a field's cells.

    The column `corrected` alone does not decide it, since a person may empty it.

    Args:
      row: row of the image.
      known: facts of the cells in the ledger; None if the program did not write them.
    """
    made = (known or {}).get("row", {})
    marks = (row.annotation, made.get("annotation", ""))
    is_edited = any(mark.endswith(EDITED) for mark in marks)
    return row.corrected or made.get("corrected", False) or is_edited


def source_of(study: Study, row: ImageRow) -> Mapping[str, str]:
    """Returns the recorded facts about the file that cells were imported from."""
    book = ledger_of(study.root, study.cells_path(row))
    facts = book.facts_of(_CELLS, [row.cells_sha256, row.types_sha256])
    return (facts or {}).get("source", {})


def record(
    study: Study, outcome: batch.Outcome, seen: Iterable[ImageRow] | None = None
) -> None:
    """Writes the results of a run to the manifest, which is read again before.

    Labels that a person changed in the meantime become failures of the outcome; the next
    call of `settle` records them.

    Args:
      study: the study.
      outcome: outcome of the run; its results are columns of a row by name.
      seen: rows as they were when the run was planned; None for the current ones.
    """
    rows, ours = {row.image: row for row in study.rows()}, []
    for image, result in list(outcome.done.items()):
        row = rows.get(image)
        if row is None:
            continue
        if result.get("cells_sha256", "") == _sha256(study.cells_path(row)):
            ours.append(_with(row, result))
        elif "cells_sha256" in result:
            del outcome.done[image]
            outcome.failures[image] = _changed_meanwhile(study, row)
    study.update(ours, ANNOTATION, seen=seen)


def settle(study: Study) -> Settled:
    """Brings the manifest into agreement with the label images on disk, and reads it.

    - Results of a run that was killed before it could record them are recorded.
    - A label image or table of types that was changed or added by another program counts
      as a person's correction.
    - If a label image was deleted, the field has no cells and no corrections.
    - A list of drawn cells (column by_hand) that a spreadsheet made unreadable is restored.
    - If the cells belong to another raw file, scene or time than the image shows now, they
      are moved to STUDY/.trash/DATE.
    """
    trash.finish(study.root)
    rows, changed, failures, states = [], [], {}, {}
    results, seen = journal(study).results(), study.rows()
    for row in seen:
        try:
            state = state_of(study, row)
            settled = _settle_row(study, row, results.get(row.image, {}), state)
        except InputError as error:
            failures[row.image] = str(error)
            continue
        rows.append(settled)
        if state[0] and not study.has_cells(row):
            # The files were moved to the trash.
            state = ["", ""]
        elif settled.cells_sha256 == state[0] != "":
            # The table of types may just have been restored.
            state = [state[0], settled.types_sha256]
        states[row.image] = state
        if settled != row:
            changed.append(settled)
    if changed:
        study.update(changed, ANNOTATION, seen=seen)
    return Settled(rows, failures, states)


def state_of(study: Study, row: ImageRow) -> list[str]:
    """Returns the SHA-256 of label image and table of types, '' for a missing file."""
    return [_sha256(study.cells_path(row)), _sha256(_table(study, row))]


def check_unchanged(study: Study, row: ImageRow, planned: Sequence[str]) -> None:
    """Raises InputError if a person changed a field since a run was planned."""
    if state_of(study, row) != list(planned):
        raise InputError(_changed_meanwhile(study, row))
    now = _rows_now(study).get(row.image)
    if now is not None and now.corrected and not row.corrected:
        raise InputError(
            f"{row.image} was marked as corrected while the run was under way; its cells "
            "were kept as they are."
        )


def _rows_now(study: Study) -> Mapping[str, ImageRow]:
    """Returns the manifest's rows by image; it is only read again if it has changed."""
    if not study.manifest_path.exists():
        return {}
    status = study.manifest_path.stat()
    return _rows_at(study.root, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1)
def _rows_at(root: pathlib.Path, mtime_ns: int, size: int) -> Mapping[str, ImageRow]:
    return {row.image: row for row in Study.open(root).rows()}


def _changed_meanwhile(study: Study, row: ImageRow) -> str:
    return (
        f"{study.cells_path(row)} was changed while the run was under way, and was kept "
        "as it is. It counts as corrected from the next run on."
    )


def version_of_image(study: Study, row: ImageRow) -> Sequence:
    """Returns what identifies a merged image's content, wherever the study is."""
    return [row.image, _sha256(study.image_path(row))]


def _with_readable_by_hand(study: Study, row: ImageRow, labels: str) -> ImageRow:
    """Restores the column by_hand from the ledger if it cannot be read.

    Args:
      study: the study.
      row: row of the image.
      labels: SHA-256 of the label image.

    Raises:
      InputError: if the ledger does not know the label image.
    """
    if changes.is_list(row.by_hand):
        return row
    book = ledger_of(study.root, study.cells_path(row))
    for written in book.known(_CELLS):
        by_hand = written.facts.get("row", {}).get("by_hand", "")
        if labels == written.state[0] and changes.is_list(by_hand):
            logger.warning(
                "%s: the column by_hand was %r, and is %r again (a spreadsheet may have "
                "taken it for a date).",
                row.image,
                row.by_hand,
                by_hand,
            )
            return dataclasses.replace(row, by_hand=by_hand)
    raise InputError(
        f"{study.manifest_path}: {row.image}: column by_hand: expected numbers of cells "
        f"such as 'cells 3,17-20'; got {row.by_hand!r}. Correct it, or empty it if it does "
        "not matter which of the cells were drawn by hand."
    )


def _settle_row(
    study: Study, row: ImageRow, result: dict[str, Any], state: Sequence[str]
) -> ImageRow:
    labels, types = state
    if labels and row.has_cells_of_another_source:
        return _set_aside(study, row)
    if not labels:
        return dataclasses.replace(row, **_NO_CELLS) if row.cells_sha256 else row
    row = _with_readable_by_hand(study, row, labels)
    is_known = bool(row.cells_sha256)
    if is_known and [labels, types] == [row.cells_sha256, row.types_sha256]:
        return row
    book = ledger_of(study.root, study.cells_path(row))
    is_pending = book.is_pending(_CELLS)
    for written in book.known(_CELLS):
        made, table = written.facts.get("row", {}), written.facts.get("types", "")
        if labels != written.state[0]:
            continue
        if is_pending and table and not types:
            # The process was killed between a label image and its table.
            atomic.write_text(_table(study, row), table)
            types = _sha256_of_text(table)
        if types == written.state[1]:
            if is_pending:
                book.settle(_CELLS, written.state)
            # A person may have deleted the row that said which raw file they belong to.
            known = _with(row, made)
            other = known.has_cells_of_another_source
            return _set_aside(study, row) if other else known
    # Earlier versions had no ledger, but only the journal.
    if [labels, types] == [result.get("cells_sha256"), result.get("types_sha256")]:
        return _with(row, result)
    # Still earlier versions recorded no SHA-256 of the labels.
    is_old = row.annotator or row.corrected
    return row if is_old and not is_known else _mark_edited(study, row, labels, types)


def _set_aside(study: Study, row: ImageRow) -> ImageRow:
    """Moves the cells of an image to the trash, since it shows another field."""
    logger.warning(
        "%s was made of another raw file than its cells, which are moved to .trash.",
        row.image,
    )
    trash.set_aside(study.root, _files(study, row))
    return dataclasses.replace(row, **_NO_CELLS)


def _mark_edited(
    study: Study, row: ImageRow, labels_sha256: str, types: str
) -> ImageRow:
    path = study.cells_path(row)
    try:
        cells = study.read_cells(row)
        components.mend_pieces(cells.labels.copy())
    except ValueError as error:
        raise InputError(
            f"{path} was changed since it was annotated, and cannot be used: "
            f"{str(error).rstrip('.')}. Repair it, or delete it to have the field "
            "annotated again."
        ) from error
    logger.warning("%s was changed by hand; it counts as corrected.", path)
    if types and types == row.types_sha256 and labels_sha256 != row.cells_sha256:
        logger.warning(
            "%s gives types to cells by their numbers, and was not changed with %s. If the "
            "program that saved the cells numbers them anew, the types are now those of "
            "other cells: check them.",
            _table(study, row),
            path.name,
        )
    made_by = row.annotation.removesuffix(EDITED)
    return dataclasses.replace(
        row,
        annotator=row.annotator or "import",
        annotator_settings=f"{row.annotator or 'put in place'}, then changed in place",
        annotation=f"{made_by}{EDITED}",
        cells=len(cells),
        cells_sha256=labels_sha256,
        types_sha256=types,
        cells_source=row.source,
        corrected=True,
        by_hand="" if labels_sha256 != row.cells_sha256 else row.by_hand,
        doubts="",
    )


def _files(study: Study, row: ImageRow) -> list[pathlib.Path]:
    """Returns the existing files of a field's cells."""
    files = (study.cells_path(row), _table(study, row))
    return [path for path in files if os.path.lexists(path)]


def _table(study: Study, row: ImageRow) -> pathlib.Path:
    return study.cells_path(row).with_suffix(".csv")


def _annotation_of(row: ImageRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in columns_of(ANNOTATION)}


def _facts(result: dict[str, Any], types: str) -> dict[str, Any]:
    """Returns the facts for the ledger: columns of the row, and the table of types."""
    names = columns_of(ANNOTATION)
    return {"row": {k: v for k, v in result.items() if k in names}, "types": types}


def _sha256_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256(path: pathlib.Path) -> str:
    return digests.sha256_of_file(path) if os.path.lexists(path) else ""


def _with(row: ImageRow, result: dict[str, Any]) -> ImageRow:
    columns = {
        name: value for name, value in result.items() if name in columns_of(ANNOTATION)
    }
    return dataclasses.replace(row, **columns)
