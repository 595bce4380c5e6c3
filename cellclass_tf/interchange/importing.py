"""Cells made elsewhere, into a study: whatever their format, one way in."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cellclass_tf import batch
from cellclass_tf.annotation import cell_files, changes
from cellclass_tf.annotation.review import queue
from cellclass_tf.core.cells import UNKNOWN, Cells
from cellclass_tf.core.manifest import image_name
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.core.type_names import type_name
from cellclass_tf.errors import InputError
from cellclass_tf.messages import logger
from cellclass_tf.storage import digests, paths


@dataclasses.dataclass(frozen=True)
class CellsToImport:
    """What is to be imported for one image, not read yet.

    Attributes:
      row: of the image; None where there is none, see `problem`.
      source: what `read` gets.
      version: JSON-like; changes when the source changes.
      name: what a failure is called where there is no row.
      problem: why it cannot be imported; becomes the failure.
    """

    row: ImageRow | None
    source: Any
    version: Sequence = ()
    name: str = ""
    problem: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class ImportedCells:
    """Cells that were read for one image.

    Attributes:
      cells: the cells.
      sha256: of the file, or files, that they were read from.
      types_known: whether the type of each cell is known one by one.
      by_hand: labels of the cells of which the source says that a person drew them;
        None where a source tells nothing. A source that tells, and differs in nothing
        from the study, corrects nothing.
      notes: what was resolved on the way, a short phrase each.
      path: of the file, for messages, and to know it again.
      state: of the cells in the file, which `cell_files.source_of` tells of later.
      knows_study: whether it was made from the study's cells as they are now, so that
        what it lacks was removed on purpose.
    """

    cells: Cells
    sha256: str
    types_known: bool = False
    by_hand: Sequence[int] | None = None
    notes: tuple[str, ...] = ()
    path: str = ""
    state: str = ""
    knows_study: bool = False

    @property
    def source(self) -> dict[str, str]:
        """What a study remembers of the file that its cells came from."""
        return {"path": paths.recorded_path(self.path), "state": self.state}


def import_cells(
    study: Study,
    candidates: Sequence[CellsToImport],
    read: Callable[[ImageRow, Any], ImportedCells | None],
    *,
    overwrite_corrected: bool = False,
) -> batch.Outcome:
    """Brings cells into a study, field by field.

    The manifest says annotator `import`, corrected, and which cells a person drew: those
    that were added or redrawn, and those of which source or manifest said so before.
    What was imported before and has not changed is not imported again into a field that
    was corrected since: a script that runs twice does not undo corrections. What would
    remove cells from a corrected field fails, unless the source was made from them. The
    old cells of a corrected field are kept in STUDY/.trash/DATE.

    Args:
      study: the study; its manifest holds the rows.
      candidates: at most one for an image.
      read: reads a candidate's source; None where nothing was changed in it. Raises
        InputError where it is no use.
      overwrite_corrected: whether what was imported before is imported all the same, and
        what removes cells from corrected fields.

    Returns:
      The outcome by image. Each result has `changes`, the numbers of cells added,
      redrawn, removed and kept, and `notes`.
    """
    # What is imported may replace a label image that is broken.
    settled = cell_files.settle(study)
    rows = {row.image: row for row in (*study.rows(), *settled.rows)}
    known, overtaken = cell_files.journal(study).fingerprints(), 0
    outcome, jobs = batch.Outcome(), []
    for candidate in candidates:
        if candidate.row is None or candidate.problem:
            name = candidate.row.image if candidate.row else candidate.name
            outcome.failures[name] = candidate.problem
            continue
        row = rows[candidate.row.image]
        try:
            version = cell_files.version_of_image(study, row)
            state = settled.states.get(row.image) or cell_files.state_of(study, row)
        except InputError as error:
            outcome.failures[row.image] = str(error)
            continue
        made_by = digests.fingerprint("import", version, candidate.version)
        current = row.annotation.removesuffix(cell_files.EDITED) == made_by
        before = row.corrected and made_by in known.get(row.image, ())
        before = before or current
        is_there = row.annotation == made_by
        if before and (is_there or not overwrite_corrected) and study.has_cells(row):
            outcome.skipped[row.image] = {}
            overtaken += not current
            continue
        task = _Task(row, candidate.source, made_by, state)
        jobs.append(batch.Job(row.image, task, made_by, (study.cells_path(row),)))
    if overtaken:
        logger.warning(
            "%d of the sources were imported before, and the cells of their fields are "
            "others since; they stay. To import the sources once more say "
            "--overwrite_corrected.",
            overtaken,
        )
    done = batch.run(
        lambda task: _import_field(study, read, task, overwrite_corrected),
        jobs,
        description="import",
        journal=cell_files.journal(study),
    )
    cell_files.record(study, done, rows.values())
    queue.write_queue(study)
    return outcome.merge(done)


class _Task(NamedTuple):
    """What one job imports.

    Attributes:
      row: of the image.
      source: what `read` gets.
      made_by: fingerprint of the import.
      state: of the label image when the import was planned; see `cell_files.state_of`.
    """

    row: ImageRow
    source: Any
    made_by: str
    state: Sequence[str]


def _import_field(
    study: Study,
    read: Callable[[ImageRow, Any], ImportedCells | None],
    task: _Task,
    overwrite_corrected: bool,
) -> dict[str, Any]:
    row = task.row
    imported = read(row, task.source)
    if imported is None:
        return {"changes": {}, "notes": ["as it was exported"]}
    height, width = study.read_image(row).shape[:2]
    cells, size = imported.cells, (height, width)
    if cells.labels.shape != size:
        raise InputError(
            f"{imported.path or row.image}: the labels have {cells.labels.shape[0]} x "
            f"{cells.labels.shape[1]} px and {row.image} has {size[0]} x {size[1]} "
            "(height x width). Make them from this image, without resizing."
        )
    before = _cells_before(study, row, size)
    found = changes.compare(before.labels, cells.labels)
    report = {"changes": found.counts, "notes": list(imported.notes)}
    if imported.by_hand is not None and not found and not imported.by_hand:
        return report
    before_path = cell_files.source_of(study, row).get("path")
    is_newer = bool(imported.path) and before_path == imported.source["path"]
    is_wanted = overwrite_corrected or imported.knows_study or is_newer
    if row.corrected and found.removed and not is_wanted:
        raise InputError(
            f"{imported.path or row.image}: it lacks {len(found.removed)} of the "
            f"{len(before)} cells of {row.image}, which were corrected; they stay. To "
            "import it all the same say --overwrite_corrected: the old cells are then "
            f"kept in {study.trash_path}."
        )
    drawn = changes.labels_of(row.by_hand, len(before))
    types_known = imported.types_known
    had_types = study.cells_path(row).with_suffix(".csv").exists()
    if not types_known and had_types and (before.type_ids > 0).any():
        default = study.folder_type(row.cell_type) or UNKNOWN
        cells, types_known = _with_types_of(before, cells, found, default), True
    said = imported.by_hand
    result = report | {
        "annotator": "import",
        "annotator_sha256": imported.sha256,
        "annotation": task.made_by,
        "annotator_settings": "",
        "diameter_px": None,
        "corrected": True,
        "by_hand": changes.text_of(found.labels_drawn(drawn, said)),
        "doubts": "",
    }
    return cell_files.write_cells(
        study,
        row,
        cells,
        result,
        planned=task.state,
        types_csv=types_known,
        source=imported.source,
    )


def _cells_before(study: Study, row: ImageRow, size: tuple[int, int]) -> Cells:
    """The study's own cells; none where there are none, or none that fit."""
    if study.has_cells(row):
        try:
            cells = study.read_cells(row)
        except InputError as error:
            logger.warning("%s", error)
        else:
            if cells.labels.shape == size:
                return cells
    return Cells.from_labels(np.zeros(size, np.int32), study.cell_types)


def _with_types_of(
    before: Cells, cells: Cells, found: changes.Changes, default: str
) -> Cells:
    """Cells that were there before, redrawn or not, keep their types."""
    types = [default] * len(cells)
    for old, new in (*found.kept, *found.redrawn):
        types[new - 1] = before.cell_types[old - 1]
    return Cells.from_labels(cells.labels, cells.type_names, types)


def find_row(
    path: pathlib.Path,
    names: Iterable[str],
    folders: Sequence[str],
    rows: Sequence[ImageRow],
    expected: str,
) -> ImageRow:
    """Finds the image that a file of labels belongs to.

    Args:
      path: of the file, for messages.
      names: what the image may be called; the first that fits counts.
      folders: in which the file lies; the last that is a type says which image is meant
        where two types have a name.
      rows: of the study.
      expected: what the file should be called, for messages.

    Raises:
      InputError: if no image fits, or several do.
    """
    types = {row.cell_type for row in rows}
    folder_types = [name for name in map(type_name, folders) if name in types]
    if folder_types:
        rows = [row for row in rows if row.cell_type == folder_types[-1]]
    names = list(names)
    # Images have no odd characters in their names, as spaces, and raw files may.
    names += [image_name(n, (), as_before=old) for old in (False, True) for n in names]
    for name in dict.fromkeys(names):
        matches = [row for row in rows if row.name == name]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InputError(
                f"{path}: matches {', '.join(row.image for row in matches)}. Put it "
                "into a folder named after its type."
            )
    where = f" of type {folder_types[-1]}" if folder_types else ""
    raise InputError(f"{path}: matches no image{where} in the study. {expected}")
