"""Exports cells to the cellpose GUI, and imports corrections from NAME_seg.npy."""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf import batch, process_state
from cellclass_tf.annotation import cell_files, changes
from cellclass_tf.annotation.review import queue
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.manifest import REJECTED
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.importing import (
    CellsToImport,
    ImportedCells,
    import_cells,
    rows_to_match,
)
from cellclass_tf.interchange.row_finder import RowFinder
from cellclass_tf.labels import components
from cellclass_tf.microscopy.files import inventory
from cellclass_tf.storage import atomic, digests, ledger, lock, pickled_npy
from cellclass_tf.storage.paths import recorded_path

ENDING = "_seg.npy"
_EXPECTED = f"Expected NAME{ENDING}, where NAME is the name of an image."
# Name of the cells in the ledger of a file.
_LABELS = "labels"
# File beside the exported folders in which earlier versions recorded what they wrote.
_EXPORTED = ".exported.jsonl"
# Channels of the merged image, counted from 1 as in cellpose: green cytoplasm, blue nuclei.
_CHANNELS = [2, 3]


@process_state.keep()
@lock.writes("study")
@lock.writes("output", creates=True)
def export_cellpose(
    study: str | os.PathLike | Study,
    output: str | os.PathLike,
    *,
    first: int | None = None,
    cellpose_version: int = 3,
) -> batch.Outcome:
    """Writes the accepted images and their cells for the cellpose GUI.

    OUTPUT/TYPE/NAME.png is the merged image, with TYPE/NAME as in images/ of the study.
    NAME_seg.npy beside it holds the cells, which of them a person drew, and the channels
    and diameter for cellpose. An image without cells has no NAME_seg.npy. Open the first
    image of a folder with `python -m cellpose`. The window saves corrections into
    NAME_seg.npy, and `import --format=cellpose` imports them.

    Cells that were changed in OUTPUT since an earlier export are never overwritten; these
    images fail with a message. OUTPUT/.journal records what was written.

    Args:
      study: folder of the study.
      output: folder to write to.
      first: export only this many fields, those at the top of review/queue.csv, which gain
        most from a correction; all images if not given.
      cellpose_version: major version whose GUI the files are for. Files of version 3 hold
        the channels; those of version 4 do not, and their diameter is NaN if it is not
        known. Both GUIs open both kinds. A file that has the same cells already stays as
        it is.

    Returns:
      The outcome by image.

    Raises:
      InputError: if the study has no accepted images, if `first` is given and the queue is
        empty, or if the version is not known.
    """
    if cellpose_version not in (3, 4):
        raise InputError(f"Expected cellpose version 3 or 4; got {cellpose_version}.")
    study = Study.open(study)
    output = pathlib.Path(output)
    rows, failures, _ = cell_files.settle(study)
    rows = [row for row in rows if row.verdict != REJECTED]
    if not rows:
        raise InputError(f"{study.manifest_path}: expected accepted images to export.")
    if first is not None:
        waiting = {row.image: row for row in rows if not row.corrected}
        queued = [image for image in queue.read_queue(study) if image in waiting]
        rows = [waiting[image] for image in queued[:first]]
        if not rows:
            raise InputError(
                f"{study.review_queue_path}: expected fields to correct, but there are "
                "none (corrected ones leave the queue). Run `cellclass annotate`, or "
                "export all images."
            )
    before = batch.Journal(output / _EXPORTED).results()
    outcome = batch.run(
        lambda row: _export_field(
            study, row, output, before.get(row.image, {}), cellpose_version
        ),
        [batch.Job(row.image, row) for row in rows],
        description="export",
    )
    return outcome.merge(batch.Outcome(failures=failures))


@process_state.keep()
@lock.writes("study")
def import_cellpose(
    study: str | os.PathLike | Study,
    source: str | os.PathLike,
    *,
    overwrite_corrected: bool = False,
) -> batch.Outcome:
    """Imports cells that were corrected in the cellpose GUI into a study.

    Every NAME_seg.npy below `source` belongs to the image NAME of the study. If images of
    two types have the same NAME, a folder named after a type selects one of them. In a
    folder named after the dish of a raw file, NAME may also be that of the raw file. Files
    that were not changed since the export have no effect, even if the study has changed.
    A changed file fails if the study's cells were changed since the export too, since the
    import would undo these changes. From the pickles in the files, only numpy arrays,
    numbers and other plain data are read. Files of cellpose 4, which lack the channels and
    may have NaN as diameter, are read too.

    See `importing.import_cells` for the entries in the manifest.

    Args:
      study: folder of the study.
      source: folder with the files.
      overwrite_corrected: also import files that were imported before and have not changed,
        and files that would remove cells from corrected fields, or change their types. The
        old cells are kept in STUDY/.trash/DATE.

    Returns:
      The outcome by image; by file below `source` for those that match no image.

    Raises:
      InputError: if the study has no images, or if the folder has no such files.
    """
    study = Study.open(study)
    source = pathlib.Path(source)
    files = inventory.files_below(source) if source.is_dir() else []
    paths = [path for path in files if path.name.endswith(ENDING)]
    if not paths:
        raise InputError(f"{source}: expected a folder with files NAME{ENDING}.")
    before = batch.Journal(source / _EXPORTED).results()

    def read(row: ImageRow, path: pathlib.Path) -> ImportedCells | None:
        exported = _exported(source, path, before.get(row.image, {}))
        return _read(study, row, path, exported, overwrite_corrected)

    outcome = import_cells(
        study,
        _candidates(study, paths, source),
        read,
        overwrite_corrected=overwrite_corrected,
    )
    return outcome.merge(batch.Outcome(notes=_notes(files, paths)))


def _notes(
    files: Sequence[pathlib.Path], read: Sequence[pathlib.Path]
) -> tuple[str, ...]:
    """Returns notes on the files, and on images that were perhaps not saved."""
    with_cells = {path.with_name(path.name.removesuffix(ENDING)) for path in read}
    pictures = {p for p in files if p.suffix.lower() in inventory.BESIDE_CELLS}
    bare = sorted(path for path in pictures if path.with_suffix("") not in with_cells)
    rest = sorted(set(files) - set(read) - pictures)
    return (
        *inventory.note("read", read, f"*{ENDING}"),
        *inventory.note("left out", bare, f"images without *{ENDING}"),
        *inventory.note("left out", rest, "of other kinds"),
    )


def _exported(
    folder: pathlib.Path, seg: pathlib.Path, before: Mapping[str, Any]
) -> ledger.Ledger:
    """Returns the ledger of a file, which an earlier version may have exported."""
    book = ledger.ledger_of(folder, seg)
    if before.get("labels") and not book.known(_LABELS):
        facts = {"study": before.get("study", "")}
        book.add(_LABELS, ledger.Written(before["labels"], facts))
    return book


def _export_field(
    study: Study,
    row: ImageRow,
    output: pathlib.Path,
    before: Mapping[str, Any],
    version: int,
) -> dict[str, Any]:
    image = study.image_path(row)
    # The folder of the image, which differs from its type if a person changed that.
    target = output / row.image
    seg = target.with_name(f"{row.name}{ENDING}")
    if study.has_cells(row):
        _export_cells(study, row, seg, _exported(output, seg, before), version)
    own = (digests.sha256_of_file(image), before.get("image", ""))
    with ledger.replace(output, target, own=own) as temporary:
        shutil.copyfile(image, temporary)
    return {}


def _export_cells(
    study: Study,
    row: ImageRow,
    seg: pathlib.Path,
    exported: ledger.Ledger,
    version: int,
) -> None:
    cells = study.read_cells(row)
    digest = _digest(cells.labels)
    there = _digest(_labels_of(seg, pickled_npy.load(seg))) if seg.exists() else ""
    imported = {"path": recorded_path(seg), "state": there}
    is_imported = cell_files.source_of(study, row) == imported
    is_own = is_imported or exported.facts_of(_LABELS, there) is not None
    if there and there != digest and not is_own:
        raise InputError(
            f"{seg} already exists, and was changed since it was exported. Import it "
            "first, or export to another folder."
        )
    written = ledger.Written(digest, {"study": row.cells_sha256})
    with exported.recording({_LABELS: written}):
        if there != digest:
            _write(seg, cells, row, version)


def _digest(labels: np.ndarray) -> str:
    """Returns a hash of labels that does not depend on their integer type."""
    content = np.ascontiguousarray(labels, np.int64)
    return hashlib.sha256(content.tobytes() + repr(labels.shape).encode()).hexdigest()


def _write(path: pathlib.Path, cells: Cells, row: ImageRow, version: int) -> None:
    from skimage.segmentation import find_boundaries

    labels = cells.labels.astype(np.uint16 if len(cells) < 2**16 - 1 else np.uint32)
    drawn = np.zeros(len(cells), bool)
    drawn[np.array(changes.labels_of(row.by_hand, len(cells)), int) - 1] = True
    # Padded, so that cells have an outline at the image's border too.
    rims = find_boundaries(np.pad(cells.labels, 1), mode="inner")[1:-1, 1:-1]
    content = {
        "outlines": labels * rims,
        "masks": labels,
        "ismanual": drawn,
        # cellpose also searches beside this file, so that a name without folder is enough.
        "filename": f"{row.name}.png",
        # What cellpose itself writes if no network was run.
        "flows": [[], [], [], [], [[]]],
    }
    if version == 4:
        content |= {"diameter": row.diameter_px or np.nan, "manual_changes": []}
    else:
        content["chan_choose"] = _CHANNELS
        if row.diameter_px:
            content |= {"diameter": row.diameter_px, "est_diam": row.diameter_px}
    with atomic.atomic_path(path) as temporary:
        np.save(temporary, np.array(content, object), allow_pickle=True)


def _candidates(
    study: Study, paths: list[pathlib.Path], source: pathlib.Path
) -> list[CellsToImport]:
    finder, found = RowFinder(rows_to_match(study)), []
    by_image: dict[str, tuple[ImageRow, list[pathlib.Path]]] = {}
    for path in paths:
        name = path.relative_to(source)
        try:
            names = [path.name.removesuffix(ENDING)]
            row = finder.find(path, names, name.parent.parts, _EXPECTED)
            by_image.setdefault(row.image, (row, []))[1].append(path)
        except InputError as error:
            problem = str(error)
            found.append(
                CellsToImport(None, None, name=name.as_posix(), problem=problem)
            )
    for image, (row, matches) in sorted(by_image.items()):
        problem = ""
        if len(matches) > 1:
            both = " and ".join(map(str, matches[:2]))
            problem = f"{image}: {both} match it. Remove one of them."
        path = matches[0]
        try:
            version = [digests.sha256_of_file(path)]
            status = path.stat()
        except InputError as error:
            found.append(CellsToImport(row, path, problem=str(error)))
            continue
        earlier = [path.name, status.st_size, status.st_mtime_ns]
        found.append(CellsToImport(row, path, version, "", problem, earlier))
    return found


def _read(
    study: Study,
    row: ImageRow,
    path: pathlib.Path,
    exported: ledger.Ledger,
    overwrite_corrected: bool,
) -> ImportedCells | None:
    content = pickled_npy.load(path)
    labels, notes = _labels_of(path, content), []
    state, before = _digest(labels), cell_files.source_of(study, row)
    # Whether the study's cells were imported from this file.
    is_of_file = before.get("path") == recorded_path(path)
    known = exported.known(_LABELS)
    is_as_exported = state in [written.state for written in known]
    if (before["state"] == state) if is_of_file else is_as_exported:
        return None
    knows_study = is_of_file or row.cells_sha256 in [w.facts["study"] for w in known]
    if known and not knows_study and not overwrite_corrected:
        raise InputError(
            f"{path} was changed, and so were the study's cells of {row.image} since the "
            "export; importing would undo these changes. Export again and correct the new "
            "file, or replace the study's cells with --overwrite_corrected."
        )
    _check_numbers(path, labels)
    labels = labels.astype(np.int32)
    try:
        dropped = components.mend_pieces(labels)
    except ValueError as error:
        raise InputError(f"{path}: {error}, or delete one, and save.") from error
    if dropped:
        notes.append(f"{dropped} stray px apart from their cell were removed")
    cells = Cells.from_labels(
        labels, study.cell_types, study.folder_type(row.cell_type)
    )
    flags = content.get("ismanual", ())
    drawn = np.asarray(flags if _is_flat(flags) else ()).ravel()
    if drawn.size not in (0, len(cells)) or not _is_flat(flags):
        notes.append("ismanual was ignored, since it does not match the cells")
        drawn = np.zeros(0)
    return ImportedCells(
        cells,
        digests.sha256_of_file(path),
        by_hand=(np.flatnonzero(drawn) + 1).tolist(),
        notes=tuple(notes),
        path=str(path),
        knows_study=knows_study,
        state=state,
    )


def _is_flat(value: Any) -> bool:
    """Returns whether a value is an array, or a list of single values."""
    if isinstance(value, np.ndarray):
        return value.dtype != object
    is_list = isinstance(value, (list, tuple))
    return is_list and not any(isinstance(v, (list, tuple, dict)) for v in value)


def _labels_of(path: pathlib.Path, content: Any) -> np.ndarray:
    """Returns the (H, W) labels in a file; old versions have -1 as background."""
    masks = content.get("masks") if isinstance(content, Mapping) else None
    if not isinstance(masks, np.ndarray) or masks.dtype.kind not in "ui":
        raise InputError(
            f"{path}: expected a dictionary with 'masks', a label image, as cellpose "
            "writes it. Open the image in cellpose and save it again."
        )
    labels = masks.squeeze() if masks.ndim > 2 else masks
    if labels.ndim != 2:
        raise InputError(
            f"{path}: expected masks of one plane, (H, W); got {masks.shape}. Stacks "
            "are not imported."
        )
    return labels + 1 if labels.min(initial=0) == -1 else labels


def _check_numbers(path: pathlib.Path, labels: np.ndarray) -> None:
    present = np.unique(labels)
    present = present[present != 0]
    if present.size and (present[0] < 0 or present[-1] != present.size):
        absent = np.setdiff1d(np.arange(1, present.size + 1), present)
        raise InputError(
            f"{path}: expected cells numbered 1 to {present.size}; number {absent[0]} "
            f"is missing, but there is {present[-1]}. Open the image in cellpose and "
            "save it again, which renumbers the cells."
        )
