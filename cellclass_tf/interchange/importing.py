"""Imports cells from other programs into a study; shared by all formats."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cellclass_tf import batch
from cellclass_tf.annotation import cell_files, changes
from cellclass_tf.annotation.review import queue
from cellclass_tf.core.cells import UNKNOWN, Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.messages import logger
from cellclass_tf.storage import digests, paths


@dataclasses.dataclass(frozen=True)
class CellsToImport:
    """The cells to import for one image, before they are read.

    Attributes:
      row: row of the image; None if no image matches, see `problem`.
      source: argument of `read`, such as a path.
      version: JSON-like value that changes when the content of the source changes.
      earlier_version: the version of the same content in the form in which earlier
        versions of the program recorded it; () if it is the same.
      name: name of the failure if there is no row.
      problem: why the cells cannot be imported, as the text of the failure; '' if they can.
    """

    row: ImageRow | None
    source: Any
    version: Sequence = ()
    name: str = ""
    problem: str = ""
    earlier_version: Sequence = ()


@dataclasses.dataclass(frozen=True, eq=False)
class ImportedCells:
    """Cells that were read for one image.

    Attributes:
      cells: the cells.
      sha256: SHA-256 of the file or files that they were read from.
      types_known: whether the source gives the type of each cell.
      by_hand: labels of the cells that a person drew, according to the source; None if
        the source does not record this. A source that records it, and whose cells equal
        the study's, does not count as a correction.
      notes: short notes on what was changed while reading.
      path: path of the file, for messages and to recognize the file later.
      state: hash of the cells in the file, as `cell_files.source_of` returns it later.
      knows_study: whether the source was made from the study's present cells, so that
        cells that it lacks were removed on purpose.
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
        """The record of the source file that a study keeps with its cells."""
        return {"path": paths.recorded_path(self.path), "state": self.state}


def import_cells(
    study: Study,
    candidates: Sequence[CellsToImport],
    read: Callable[[ImageRow, Any], ImportedCells | None],
    *,
    overwrite_corrected: bool = False,
) -> batch.Outcome:
    """Imports cells into a study, field by field.

    In the manifest, the annotator of an imported field is `import`, and the field counts
    as corrected. `by_hand` lists the cells that a person drew: cells that were added or
    redrawn, and cells for which the source or the manifest said so before.

    A source that was imported before and has not changed is not imported again into a
    field that was corrected in the meantime, so that a script that runs twice does not
    undo corrections. It is the same source if its content is the same, wherever it is and
    whenever it was written. A source that was imported while the image showed another raw
    file fails. So does a source that lacks cells of a corrected field or would change their
    types, unless it was made from these cells, or is a newer state of the file from which
    they were imported. Other sources do not replace a known type by an unknown one. The old
    cells of a corrected field are kept in STUDY/.trash/DATE.

    Args:
      study: the study, whose manifest has the rows.
      candidates: at most one candidate per image.
      read: function that reads the source of a candidate. It returns None if the source
        has no changes, and raises InputError if the source cannot be used.
      overwrite_corrected: whether to import sources that were imported before, also for
        another raw file, and sources that remove cells from corrected fields or change
        their types.

    Returns:
      The outcome by image. Each result has `changes`, the numbers of cells added,
      redrawn, removed and kept, and `notes`, also on changed types.
    """
    # A damaged label image does not matter here, since the import may replace it.
    settled = cell_files.settle(study)
    rows = {row.image: row for row in (*study.rows(), *settled.rows)}
    history, overtaken = cell_files.journal(study).history(), 0
    outcome, jobs = batch.Outcome(), []
    for candidate in candidates:
        if candidate.row is None or candidate.problem:
            name = candidate.row.image if candidate.row else candidate.name
            outcome.failures[name] = candidate.problem
            continue
        row = rows[candidate.row.image]
        before = _Before.of(row, history.get(row.image, ()))
        try:
            same = _fingerprints(study, row, candidate)
            state = settled.states.get(row.image) or cell_files.state_of(study, row)
        except InputError as error:
            outcome.failures[row.image] = str(error)
            continue
        is_current = row.annotation.removesuffix(cell_files.EDITED) in same
        was_imported = row.corrected and not before.fingerprints.isdisjoint(same)
        is_there = row.annotation in same
        if (
            (is_current or was_imported)
            and (is_there or not overwrite_corrected)
            and study.has_cells(row)
        ):
            outcome.skipped[row.image] = {}
            overtaken += not is_current
            continue
        task = _Task(row, candidate.source, candidate.version, same[0], state, before)
        jobs.append(batch.Job(row.image, task, same[0], (study.cells_path(row),)))
    if overtaken:
        logger.warning(
            "%d sources were imported before, and the cells of their fields have been "
            "changed since; these cells are kept. To import the sources again, add "
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


def _fingerprints(
    study: Study, row: ImageRow, candidate: CellsToImport
) -> tuple[str, str]:
    """Returns the fingerprint of an import, and the one that earlier versions gave it."""
    # A change of contrast does not make it another image.
    by_bytes = cell_files.version_of_image(study, row)
    by_source = [row.image, row.source] if row.source else by_bytes
    earlier = candidate.earlier_version or candidate.version
    return (
        digests.fingerprint("import", by_source, candidate.version),
        digests.fingerprint("import", by_bytes, earlier),
    )


class _Before(NamedTuple):
    """What was imported for an image before.

    Attributes:
      fingerprints: the fingerprints of all imports.
      other_sources: the raw files that the image showed at some of them, but does not now.
      outdated: SHA-256s of files that were imported for these raw files alone.
    """

    fingerprints: frozenset[str]
    other_sources: frozenset[str]
    outdated: frozenset[str]

    @classmethod
    def of(cls, row: ImageRow, entries: Sequence[Mapping[str, Any]]) -> _Before:
        """Returns the imports among the entries of an image in the journal."""
        files = collections.defaultdict(set)
        for entry in entries:
            result = entry["result"]
            if isinstance(result, dict) and result.get("annotator") == "import":
                source = result.get("cells_source", "")
                files[source].add(result.get("annotator_sha256", ""))
        others = frozenset(files) - {"", row.source} if row.source else frozenset()
        outdated = frozenset().union(*(files[source] for source in others))
        return cls(
            frozenset(entry["fingerprint"] for entry in entries),
            others,
            outdated - files[row.source],
        )

    def is_outdated(self, row: ImageRow, version: Sequence, sha256: str) -> bool:
        """Returns whether a source was imported for another raw file alone."""
        now, *others = (
            digests.fingerprint("import", [row.image, source], version)
            for source in (row.source, *self.other_sources)
        )
        known = now not in self.fingerprints and self.fingerprints.intersection(others)
        return bool(known) or sha256 in self.outdated


class _Task(NamedTuple):
    """What one job imports.

    Attributes:
      row: row of the image.
      source: argument of `read`.
      version: version of the source.
      made_by: fingerprint of the import.
      state: state of the label image when the import was planned; see
        `cell_files.state_of`.
      before: the earlier imports for the image.
    """

    row: ImageRow
    source: Any
    version: Sequence
    made_by: str
    state: Sequence[str]
    before: _Before


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
    is_outdated = task.before.is_outdated(row, task.version, imported.sha256)
    if is_outdated and not overwrite_corrected:
        raise InputError(
            f"{imported.path or row.image}: these cells were imported before, when "
            f"{row.image} was made of another raw file than now ({row.raw_file}), so that "
            "they do not fit. Outline the present image. If they fit nevertheless, add "
            "--overwrite_corrected."
        )
    height, width = study.read_image(row).shape[:2]
    labels, size = imported.cells.labels, (height, width)
    if labels.shape != size:
        raise InputError(
            f"{imported.path or row.image}: the labels have {labels.shape[0]} x "
            f"{labels.shape[1]} px and {row.image} has {size[0]} x {size[1]} "
            "(height x width). Make the labels from this image, without resizing it."
        )
    before = _cells_before(study, row, size)
    found = changes.compare(before.labels, labels)
    notes = list(imported.notes)
    report = {"changes": found.counts, "notes": notes}
    if imported.by_hand is not None and not found and not imported.by_hand:
        return report
    before_path = cell_files.source_of(study, row).get("path")
    is_newer = bool(imported.path) and before_path == imported.source["path"]
    is_wanted = overwrite_corrected or imported.knows_study or is_newer
    if row.corrected and found.removed and not is_wanted:
        raise InputError(
            f"{imported.path or row.image}: it lacks {len(found.removed)} of the "
            f"{len(before)} cells of {row.image}, which were corrected, so it is not "
            "imported. To import it nevertheless, add --overwrite_corrected: the old "
            f"cells are then kept in {study.trash_path}."
        )
    drawn = changes.labels_of(row.by_hand, len(before))
    cells, types_known = imported.cells, imported.types_known
    had_types = study.cells_path(row).with_suffix(".csv").exists()
    default = study.folder_type(row.cell_type) or UNKNOWN
    if had_types and (before.type_ids > 0).any():
        if not types_known:
            cells, types_known = _with_types_of(before, cells, found, default), True
        elif not is_wanted:
            cells = _with_known_types_of(before, cells, found)
        retyped = _retyped(before, cells, found)
        if row.corrected and retyped and not is_wanted:
            raise InputError(
                f"{imported.path or row.image}: it would change the types of "
                f"{len(retyped)} of the {len(before)} cells of {row.image}, which were "
                f"corrected ({retyped[0]}), so it is not imported. To import it "
                "nevertheless, add --overwrite_corrected: the old cells are then kept in "
                f"{study.trash_path}."
            )
        if retyped:
            notes.append(f"{len(retyped)} cells got another type")
    # The folder of a pure field gives the types if all cells have the same.
    is_pure = default != UNKNOWN and set(cells.cell_types) <= {default}
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
        types_csv=types_known and not is_pure,
        source=imported.source,
    )


def _cells_before(study: Study, row: ImageRow, size: tuple[int, int]) -> Cells:
    """Returns the study's cells of an image; no cells if they are missing or invalid."""
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
    """Returns cells with the types that they had before, whether redrawn or not."""
    types = [default] * len(cells)
    for old, new in (*found.kept, *found.redrawn):
        types[new - 1] = before.cell_types[old - 1]
    return Cells.from_labels(cells.labels, cells.type_names, types)


def _with_known_types_of(before: Cells, cells: Cells, found: changes.Changes) -> Cells:
    """Returns cells in which those of unknown type have the type that they had before."""
    types = list(cells.cell_types)
    for old, new in (*found.kept, *found.redrawn):
        if types[new - 1] == UNKNOWN:
            types[new - 1] = before.cell_types[old - 1]
    return Cells.from_labels(cells.labels, cells.type_names, types)


def _retyped(before: Cells, cells: Cells, found: changes.Changes) -> list[str]:
    """Describes the cells whose known type changes."""
    types = [
        (old, before.cell_types[old - 1], cells.cell_types[new - 1])
        for old, new in sorted((*found.kept, *found.redrawn))
    ]
    return [
        f"cell {old} from {was} to {now}"
        for old, was, now in types
        if was not in (UNKNOWN, now)
    ]


def rows_to_match(study: Study) -> list[ImageRow]:
    """Returns the rows of a study, to which files of cells are matched.

    Raises:
      InputError: if there are none.
    """
    rows = study.rows()
    if not rows:
        raise InputError(
            f"{study.manifest_path} names no images; run `cellclass convert` first."
        )
    return rows
