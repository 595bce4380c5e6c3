"""To cellpose's own window and back: images with their NAME_seg.npy."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from cellclass_tf import batch, connected, files
from cellclass_tf.annotation import changes, pickled_npy, records, review
from cellclass_tf.annotation.importing import (
    Arrival,
    Candidate,
    import_cells,
    row_named,
)
from cellclass_tf.cells import Cells
from cellclass_tf.files import InputError
from cellclass_tf.manifest import REJECTED
from cellclass_tf.study import ImageRow, Study

_ENDING = "_seg.npy"
_EXPECTED = f"Expected NAME{_ENDING}, where NAME is that of an image."
# Of the merged image, counted from 1 as cellpose does: cytoplasm green, nuclei blue.
_CHANNELS = [2, 3]
# Strokes of the pen leave pixels apart from their cell. What is larger than this, or
# than a twentieth of the cell, is no slip.
_CRUMB_PX = 15
_CRUMB_SHARE = 0.05


def export_cellpose(
    study: str | os.PathLike | Study,
    output: str | os.PathLike,
    *,
    first: int | None = None,
) -> batch.Outcome:
    """Writes the accepted images and their cells for cellpose's window.

    OUTPUT/TYPE/NAME.png is the merged image, and NAME_seg.npy beside it has the cells,
    which of them a person drew, and the channels and diameter to go on with. An image
    without cells stands alone. Open a folder's first image with `python -m cellpose`;
    what is changed there is saved into NAME_seg.npy, and `import --format=cellpose`
    brings it back.

    Cells that were changed in OUTPUT since an earlier export are never overwritten: they
    fail, and say so.

    Args:
      study: the study, or its folder.
      output: folder to write to.
      first: how many of the fields that are worth a person's time most (see
        `review.write_queue`); None for all images.

    Returns:
      The outcome by image.

    Raises:
      InputError: if the study has no accepted images, or none in the queue.
    """
    study = study if isinstance(study, Study) else Study.open(study)
    output = pathlib.Path(output)
    rows, failures = records.settle(study)
    rows = [row for row in rows if row.verdict != REJECTED]
    if not rows:
        raise InputError(f"{study.manifest_path}: expected accepted images to export.")
    if first is not None:
        queued = review.read_queue(study)[:first]
        rows = [row for row in rows if row.image in queued]
        if not rows:
            raise InputError(
                f"{study.review_queue_path}: expected fields to correct, and there are "
                "none (corrected ones leave the queue). Run `cellclass annotate`, or "
                "export all images."
            )
    outcome = batch.run(
        lambda row: _export_field(study, row, output),
        [batch.Job(row.image, row) for row in rows],
        description="export",
    )
    return outcome.merged(batch.Outcome(failures=failures))


def import_cellpose(
    study: str | os.PathLike | Study, source: str | os.PathLike
) -> batch.Outcome:
    """Brings cells that were corrected in cellpose's window into a study.

    Every NAME_seg.npy below `source` belongs to the image NAME of the study; a folder
    named after a type says which where two types have a NAME. Fields in which nothing
    was changed or drawn stay as they are. No name that a file's pickle asks for is
    looked up, beyond numpy's arrays and numbers.

    See `importing.import_cells` for what the manifest says of them.

    Args:
      study: the study, or its folder.
      source: folder with the files.

    Returns:
      The outcome by image; by file below `source` for those that match no image.

    Raises:
      InputError: if the study has no images, or the folder no such files.
    """
    study = study if isinstance(study, Study) else Study.open(study)
    source = pathlib.Path(source)
    paths = sorted(source.rglob(f"*{_ENDING}")) if source.is_dir() else []
    if not paths:
        raise InputError(f"{source}: expected a folder with files NAME{_ENDING}.")
    candidates = _candidates(study, paths, source)
    return import_cells(study, candidates, lambda row, path: _read(study, row, path))


def _export_field(study: Study, row: ImageRow, output: pathlib.Path) -> dict[str, Any]:
    image = study.image_path(row)
    target = output / row.cell_type / image.name
    if study.cells_path(row).exists():
        cells = study.read_cells(row)
        seg = target.with_name(f"{row.name}{_ENDING}")
        if not seg.exists():
            _write(seg, cells, row)
        elif not np.array_equal(_labels_of(seg, pickled_npy.load(seg)), cells.labels):
            raise InputError(
                f"{seg} is there already, with other cells than the study. Import it "
                "first, or export to another folder."
            )
    if not target.exists() or not _same_bytes(image, target):
        with files.atomic_path(target) as temporary:
            shutil.copyfile(image, temporary)
    return {}


def _write(path: pathlib.Path, cells: Cells, row: ImageRow) -> None:
    labels = cells.labels.astype(np.uint16 if len(cells) < 2**16 - 1 else np.uint32)
    drawn = np.zeros(len(cells), bool)
    drawn[np.array(changes.labels_of(row.by_hand, len(cells)), int) - 1] = True
    content = {
        "outlines": labels * _is_rim(cells.labels),
        "masks": labels,
        "chan_choose": _CHANNELS,
        "ismanual": drawn,
        # Looked for beside this file too, and so a name is enough, and moves with it.
        "filename": f"{row.name}.png",
        # As cellpose itself where a network did not run.
        "flows": [[], [], [], [], [[]]],
    }
    if row.diameter_px:
        content |= {"diameter": row.diameter_px, "est_diam": row.diameter_px}
    with files.atomic_path(path) as temporary:
        np.save(temporary, content, allow_pickle=True)


def _is_rim(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of cells with a neighbour above, below or beside of another."""
    padded = np.pad(labels, 1, constant_values=-1)
    inner = padded[1:-1, 1:-1]
    rim = np.zeros(labels.shape, bool)
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        height, width = labels.shape
        rim |= inner != padded[rows : rows + height, columns : columns + width]
    return rim & (labels > 0)


def _same_bytes(one: pathlib.Path, other: pathlib.Path) -> bool:
    return files.sha256_of_file(one) == files.sha256_of_file(other)


def _candidates(
    study: Study, paths: list[pathlib.Path], source: pathlib.Path
) -> list[Candidate]:
    rows, found, taken = study.rows(), [], {}
    if not rows:
        raise InputError(
            f"{study.manifest_path} names no images; run `cellclass convert` first."
        )
    for path in paths:
        name = path.relative_to(source)
        try:
            names = [path.name.removesuffix(_ENDING)]
            row = row_named(path, names, name.parent.parts, rows, _EXPECTED)
            if row.image in taken:
                raise InputError(
                    f"{path} and {taken[row.image]} both match {row.image}. Leave one."
                )
        except InputError as error:
            problem = str(error)
            found.append(Candidate(None, None, name=name.as_posix(), problem=problem))
            continue
        taken[row.image] = path
        status = path.stat()
        version = [path.name, status.st_size, status.st_mtime_ns]
        found.append(Candidate(row, path, version))
    return found


def _read(study: Study, row: ImageRow, path: pathlib.Path) -> Arrival:
    content = pickled_npy.load(path)
    labels, notes = _labels_of(path, content).astype(np.int32), []
    _check_numbers(path, labels)
    dropped = _drop_crumbs(path, labels)
    if dropped:
        notes.append(f"{dropped} px apart from their cell were dropped")
    cells = Cells.from_labels(
        labels, study.cell_types, study.folder_type(row.cell_type)
    )
    drawn = np.asarray(content.get("ismanual", ())).ravel()
    if drawn.size not in (0, len(cells)):
        notes.append("which cells were drawn by hand is not of these cells")
        drawn = np.zeros(0)
    return Arrival(
        cells,
        files.sha256_of_file(path),
        by_hand=(np.flatnonzero(drawn) + 1).tolist(),
        notes=tuple(notes),
        path=str(path),
    )


def _labels_of(path: pathlib.Path, content: Any) -> np.ndarray:
    """Returns (H, W) labels of a file's content; -1 was background in old versions."""
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
            f"is missing and {present[-1]} is there. Open the image in cellpose and "
            "save it again, which numbers them anew."
        )


def _drop_crumbs(path: pathlib.Path, labels: np.ndarray) -> int:
    """Drops pixels that a pen left apart from their cell; refuses cells in two pieces."""
    pieces = connected.second_largest_pieces(labels)
    areas = np.bincount(labels.ravel())
    for cell, size in pieces.items():
        if size > min(_CRUMB_PX, _CRUMB_SHARE * areas[cell]):
            raise InputError(
                f"{path}: cell {cell} is in pieces, of which the second has {size} px. "
                "Delete or redraw one of them in cellpose, and save."
            )
    return connected.keep_largest_pieces(labels) if pieces else 0
