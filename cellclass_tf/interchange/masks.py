"""Imports label images, and masks of single cells, into a study."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cellclass_tf import batch, process_state
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.drawn_cells import DrawnCell, labels_of_drawn
from cellclass_tf.core.label_files import read_labels
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
from cellclass_tf.messages import logger
from cellclass_tf.microscopy.files import inventory
from cellclass_tf.storage import csv_json, digests, lock, png

_LABEL_SUFFIXES = (".tif", ".tiff", ".png")
# Endings that programs append to the name of an image.
_ENDINGS = ("_mergeMasks", "_cp_masks", "_labels", "_masks")
_EXPECTED = f"Its name should be an image's, alone or with {', '.join(_ENDINGS)} or _mask_out_K."
# The only value, apart from 0, of a black-and-white mask.
_WHITE = ({2**8 - 1}, {2**16 - 1}, {2**32 - 1})
# A mask of one cell that covers a larger share of the field is taken for an inverted one.
_LARGEST_CELL = 0.5
# Largest mean number of pieces per cell; cells with parts cut off have a few pieces each.
_MOST_PIECES = 3
# Largest total area of the boxes of single cells, in fields. All are held in memory, and
# boxes of real cells do not even add up to two fields.
_MOST_FIELDS = 8
_ONE_CELL = re.compile(r"(?P<name>.+)_mask_out_(?P<cell>\d+)")


@process_state.keep()
@lock.writes("study")
def import_masks(
    study: str | os.PathLike | Study,
    source: str | os.PathLike,
    *,
    allow_gaps: bool = False,
    label_components: bool = False,
    overwrite_corrected: bool = False,
) -> batch.Outcome:
    """Imports label images, or masks of single cells, into a study.

    Three layouts are recognized in any folders below `source`, alone or together:

    - NAME.tif or NAME.png, a label image; NAME may end in _masks, _cp_masks, _labels
      or _mergeMasks. A table (columns cell and cell_type) beside it gives the types of the
      cells. Its name is NAME.csv, with or without this ending.
    - NAME_mergeMasks.png, the same as a 16-bit PNG.
    - NAME_mask_out_K.png, one white-on-black image per cell. If two cells overlap, the
      smaller one gets the pixel. K may start at any number and must not have gaps.

    NAME is the name of an image of the study. If images of two types have the same NAME,
    a folder named after a type (or `mixed`) selects one of them. In a folder that is named
    after the dish of a raw file, NAME may also be that of the raw file. If an image has
    several files, a label image with an ending is preferred to single cells, and these to a label
    image without an ending; two files of the same kind are an error.

    See `importing.import_cells` for the entries in the manifest. annotator_sha256 is the
    SHA-256 of the label file, or of all masks of the field in order.

    Args:
      study: folder of the study.
      source: folder with the label images.
      allow_gaps: allow missing numbers among files of single cells, for example because a
        person deleted those of bad cells. Otherwise a missing number is an error.
      label_components: treat each connected piece of a label image as a cell of its own, as
        needed for black-and-white masks. Otherwise a number in several pieces is refused,
        except for small or close pieces (docs/annotation.md).
      overwrite_corrected: also import files that were imported before and have not changed,
        and files that would remove cells from corrected fields, or change their types. The
        old cells are kept in STUDY/.trash/DATE.

    Returns:
      The outcome by image; by file below `source` for those that match no image.

    Raises:
      InputError: if the study has no images, or if the folder has no label file.
    """
    study = Study.open(study)
    source = pathlib.Path(source)
    rows = rows_to_match(study)
    listed, found = find_labels(source)
    candidates = match_labels(rows, source, found, allow_gaps, label_components)
    outcome = import_cells(
        study,
        candidates,
        lambda row, x: _read_field(study, row, x, label_components),
        overwrite_corrected=overwrite_corrected,
    )
    used = {
        _table_of(c.source, is_mixed=study.folder_type(c.row.cell_type) is None)
        for c in candidates
        if c.row
    }
    unused = [path for path in listed.apart if path not in used]
    what = "tables without label image or without the columns cell and cell_type"
    notes = (*listed.notes, *inventory.note("left out", unused, what))
    return outcome.merge(batch.Outcome(failures=listed.failures, notes=notes))


@dataclasses.dataclass(frozen=True)
class LabelFiles:
    """The label image of one field, or its masks of single cells.

    Attributes:
      folders: names of the folders between the source and the files.
      name: file name without suffix; for masks of single cells, without _mask_out_K.
      paths: paths of the files, sorted by cell number.
      single_cells: whether each file is the mask of one cell.
      gaps: number of missing cell numbers.
      first_gap: the first missing cell number.
    """

    folders: tuple[str, ...]
    name: str
    paths: tuple[pathlib.Path, ...]
    single_cells: bool = False
    gaps: int = 0
    first_gap: int = 0

    def rank(self, image_name: str) -> int:
        """Returns the rank among the files of one image; the lowest is preferred."""
        # A file with exactly the image's name may be the image itself, beside its labels.
        return 1 if self.single_cells else 2 * (self.name == image_name)

    def tables(self) -> list[pathlib.Path]:
        """Returns the tables beside a label image, that of its full name first."""
        if self.single_cells:
            return []
        names = (self.name, *_without_endings(self.name))
        tables = [self.paths[0].with_name(f"{name}.csv") for name in names]
        return [path for path in tables if os.path.lexists(path)]

    def version(self) -> list[Any]:
        """Returns a JSON-like value that changes when the content of the files changes."""
        tables = map(digests.sha256_of_file, self.tables())
        return [sha256_of_files(self.paths), *tables]

    def earlier_version(self) -> list[Any]:
        """Returns the value that earlier versions of the program recorded instead."""
        read = [*self.paths, self.paths[0].with_suffix(".csv")]
        status = [(path.name, path.stat()) for path in read if path.exists()]
        return [[name, s.st_size, s.st_mtime_ns] for name, s in status]


def match_labels(
    rows: Sequence[ImageRow],
    source: pathlib.Path,
    all_labels: Sequence[LabelFiles],
    allow_gaps: bool,
    label_components: bool,
    chosen: Sequence[ImageRow] = (),
) -> list[CellsToImport]:
    """Finds the image of each label file; see `import_masks` if there are several.

    Args:
      rows: rows of the study.
      source: folder with the label files.
      all_labels: the label files, as `find_labels` returns them.
      allow_gaps: see `import_masks`.
      label_components: see `import_masks`.
      chosen: rows of the images of which one is meant if a name has several.

    Returns:
      One candidate per image that has labels, with `LabelFiles` as source; and one without
      a row for each file that matches no image.
    """
    by_image = collections.defaultdict(list)
    found, finder = [], RowFinder(rows)
    for labels in all_labels:
        try:
            if not allow_gaps:
                _check_numbers(labels)
            names = dict.fromkeys((labels.name, *_without_endings(labels.name)))
            # The full name is tried first, since the image's own name may end in _masks.
            row = finder.find(
                labels.paths[0], names, labels.folders, _EXPECTED, chosen=chosen
            )
            by_image[row.image].append((row, labels))
        except InputError as error:
            name = labels.paths[0].relative_to(source).as_posix()
            found.append(CellsToImport(None, None, name=name, problem=str(error)))
    for image, matches in sorted(by_image.items()):
        row = matches[0][0]
        name = row.name
        ranked = sorted((labels for _, labels in matches), key=lambda x: x.rank(name))
        problem = ""
        if len(ranked) > 1 and ranked[0].rank(name) == ranked[1].rank(name):
            problem = (
                f"{image}: two label files match it, {ranked[0].paths[0]} and "
                f"{ranked[1].paths[0]}. Remove one of them."
            )
        for left_out in () if problem else ranked[1:]:
            logger.info(
                "%s is used and %s is ignored.", ranked[0].paths[0], left_out.paths[0]
            )
        how = ["components"] * label_components
        try:
            version = ranked[0].version() + how
            earlier = ranked[0].earlier_version() + how
        except InputError as error:
            version, earlier, problem = [], [], str(error)
        found.append(CellsToImport(row, ranked[0], version, "", problem, earlier))
    return found


def find_labels(
    source: pathlib.Path,
) -> tuple[inventory.Inventory, list[LabelFiles]]:
    """Finds label files below a folder, sorted; groups masks of single cells by field.

    Raises:
      InputError: if `source` is not a folder, or if it has no label files.
    """
    if not source.is_dir():
        raise InputError(f"{source}: expected a folder with label images.")
    listed = inventory.take(source, _LABEL_SUFFIXES, folders=False, apart=".csv")
    found, cells = [], collections.defaultdict(list)
    for path in listed.images:
        match = _ONE_CELL.fullmatch(path.stem)
        if match:
            cells[path.parent, match["name"]].append((int(match["cell"]), path))
        else:
            found.append(LabelFiles(_folders(path, source), path.stem, (path,)))
    for (_, name), numbered in sorted(cells.items()):
        numbers, paths = zip(*sorted(numbered), strict=True)
        present = set(numbers)
        gaps = numbers[-1] - numbers[0] + 1 - len(present)
        missing = next(n for n in itertools.count(numbers[0]) if n not in present)
        folders = _folders(paths[0], source)
        found.append(LabelFiles(folders, name, paths, True, gaps, missing))
    if not found:
        reasons = "".join(f"\n  {reason}" for reason in listed.failures.values())
        raise InputError(
            f"{source}: expected label images (NAME.tif, NAME.png) or masks of single "
            "cells (NAME_mask_out_K.png), in folders named after the types; found none."
            f"{reasons}"
        )
    return listed, found


def named_as_labels(source: pathlib.Path) -> Iterator[tuple[pathlib.Path, str]]:
    """Yields the files below a folder whose names end as those of label images do.

    Yields:
      The path, and the name of its image.
    """
    for path in inventory.take(source, _LABEL_SUFFIXES, folders=False).images:
        match = _ONE_CELL.fullmatch(path.stem)
        for name in [match["name"]] if match else _without_endings(path.stem)[:1]:
            yield path, name


def _folders(path: pathlib.Path, source: pathlib.Path) -> tuple[str, ...]:
    return path.relative_to(source).parent.parts


def _without_endings(name: str) -> list[str]:
    return [name.removesuffix(ending) for ending in _ENDINGS if name.endswith(ending)]


def _check_numbers(labels: LabelFiles) -> None:
    if labels.gaps:
        more = f", and {labels.gaps - 1} more" if labels.gaps > 1 else ""
        raise InputError(
            f"{labels.paths[0]}: of the masks {labels.name}_mask_out_K.png number "
            f"{labels.first_gap} is missing{more}. Copy the folder again, or add "
            "--allow_gaps if they were deleted on purpose."
        )


def _read_field(
    study: Study, row: ImageRow, labels: LabelFiles, label_components: bool
) -> ImportedCells:
    cells, types_known, notes = _read_cells(study, row, labels, label_components)
    return ImportedCells(
        cells,
        sha256_of_files(labels.paths),
        types_known,
        notes=notes,
        path=str(labels.paths[0]),
    )


def _read_cells(
    study: Study, row: ImageRow, labels: LabelFiles, label_components: bool
) -> tuple[Cells, bool, tuple[str, ...]]:
    """Returns the cells, whether the source gives the type of each, and notes."""
    path, types = labels.paths[0], study.cell_types
    folder_type = study.folder_type(row.cell_type)
    table = _table_of(labels, is_mixed=folder_type is None)
    if table and label_components:
        raise InputError(
            f"{table} names cells by number, but --label_components changes the numbers. "
            "Remove the table, or leave out the flag."
        )
    values, notes = read_outlines(labels, label_components)
    try:
        if table:
            return Cells.of_file(values, table, types), True, notes
        return Cells.from_labels(values, types, folder_type), False, notes
    except InputError:
        raise
    except ValueError as error:
        raise _in_pieces(path, error) from error


def _table_of(labels: LabelFiles, *, is_mixed: bool) -> pathlib.Path | None:
    """Returns the table with the types of a field's cells, or None.

    Other programs write tables of other contents beside label images. Only beside the
    label image of a mixed field, a table of the same name has to be one of types.
    """
    for table in labels.tables():
        if is_mixed and table.stem == labels.name:
            return table
        try:
            lines = csv_json.read_csv(table)
        except InputError:
            continue
        if lines and {"cell", "cell_type"} <= set(lines[0]):
            return table
    return None


def read_outlines(
    labels: LabelFiles, label_components: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Reads the labels of one field; returns (H, W) labels and short notes.

    Raises:
      InputError: if the files are not label images, or if a number stands for several
        cells.
    """
    if labels.single_cells:
        return _merge_single_cells(labels.paths)
    path = labels.paths[0]
    values = read_labels(path)
    notes: tuple[str, ...] = ()
    if label_components:
        values, notes = _label_components(values)
    elif set(np.unique(values).tolist()) - {0} in _WHITE:
        raise InputError(
            f"{path}: a black-and-white mask, in which cells cannot be told apart. "
            "Expected a label image, with a number for each cell, or one mask for each "
            "cell, named NAME_mask_out_K.png. If no two cells touch, add "
            "--label_components."
        )
    _check_scatter(path, values)
    values = values.copy()
    try:
        dropped = components.mend_pieces(values)
    except InputError:
        raise
    except ValueError as error:
        raise _in_pieces(path, error) from error
    if dropped:
        notes = (*notes, f"{dropped} stray px apart from their cell were removed")
    return values, notes


def _in_pieces(path: pathlib.Path, error: ValueError) -> InputError:
    return InputError(
        f"{path}: {error}. With --label_components each piece becomes a cell."
    )


def _label_components(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers the connected pieces; returns (H, W) labels and a note."""
    from skimage import measure

    numbers = np.unique(values[values > 0]).size
    labels = measure.label(values, background=0, connectivity=2)
    return labels, (f"{numbers} numbers became {labels.max(initial=0)} cells",)


def _check_scatter(path: pathlib.Path, values: np.ndarray) -> None:
    """Raises InputError for a grey image, whose grey levels have hundreds of pieces."""
    from skimage import measure

    numbers = np.unique(values[values > 0]).size
    pieces = int(measure.label(values, background=0, connectivity=2).max(initial=0))
    if pieces > 10 + _MOST_PIECES * numbers:
        raise InputError(
            f"{path}: expected a label image; it has {numbers} numbers in {pieces} "
            "pieces, like a grey image. Remove the images themselves from the folder."
        )


def _merge_single_cells(
    paths: Sequence[pathlib.Path],
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Draws white-on-black masks into one label image; returns it with notes."""
    drawn, names, notes = [], [], []
    height, width = (0, 0)
    for path in paths:
        mask = _read_mask(path)
        if path == paths[0]:
            height, width = mask.shape
        if mask.shape != (height, width):
            raise InputError(
                f"{path}: the mask has shape {mask.shape}, unlike {paths[0]} "
                f"with {(height, width)}. All masks of a field must have one size."
            )
        cell = DrawnCell.cut(mask)
        if cell is None:
            notes.append(f"{path.name} is empty")
            continue
        if mask.mean() > _LARGEST_CELL:
            raise InputError(
                f"{path}: {mask.mean():.0%} of the field are white, but the mask of one "
                "cell should be white only where the cell is. Invert it if necessary."
            )
        drawn.append(cell)
        names.append(path.name)
        if sum(p.mask.size for p in drawn) > _MOST_FIELDS * mask.size:
            raise InputError(
                f"{path}: the boxes of the masks together cover more than {_MOST_FIELDS} "
                "fields, probably because of stray pixels far from the cells. Remove these "
                "pixels."
            )
    merged, contested = labels_of_drawn(drawn, (height, width))
    if contested:
        notes.append(f"{contested} px of several masks were given to the smaller cell")
    left = np.bincount(merged.ravel(), minlength=len(drawn) + 1)[1:]
    lost = [name for name, pixels in zip(names, left, strict=True) if not pixels]
    if lost:
        notes.append(
            f"{', '.join(lost)}: no cell, since smaller ones cover the whole mask"
        )
    return merged, tuple(notes)


def _read_mask(path: pathlib.Path) -> np.ndarray:
    """Returns (H, W) bool, true where the image is at least half as bright as white."""
    pixels = read_labels(path) if path.suffix.lower() != ".png" else png.read_png(path)
    if pixels.ndim == 3:
        pixels = pixels.max(axis=2)
    if (
        path.suffix.lower() == ".png"
        and np.ptp(pixels) == 0
        and png.is_transparent(path)
    ):
        raise InputError(
            f"{path}: the image has only one colour; the mask is in the alpha channel. "
            "Save it white on black, without an alpha channel."
        )
    # White may be 1 or 255, for example.
    return (pixels > 0) & (pixels >= pixels.max(initial=0) / 2)


def sha256_of_files(paths: Sequence[pathlib.Path]) -> str:
    """Returns the SHA-256 of a label file, or one of all masks of a field in order."""
    if len(paths) == 1:
        return digests.sha256_of_file(paths[0])
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0")
        digest.update(digests.sha256_of_file(path).encode())
    return digest.hexdigest()
