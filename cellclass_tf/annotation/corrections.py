"""Labels that were made or corrected elsewhere, into a study."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from cellclass_tf import batch, files
from cellclass_tf.annotation import annotating
from cellclass_tf.cells import Cells, Piece, labels_of_pieces, read_labels
from cellclass_tf.files import InputError
from cellclass_tf.study import MIXED, ImageRow, Study

_LABEL_SUFFIXES = (".tif", ".tiff", ".png")
# Endings that programs put after an image's name; the longest is tried first.
_ENDINGS = ("_mergeMasks", "_cp_masks", "_labels", "_masks")
_ONE_CELL = re.compile(r"(?P<name>.+)_mask_out_(?P<cell>\d+)")


def import_masks(
    study: str | os.PathLike | Study, source: str | os.PathLike
) -> batch.Outcome:
    """Brings label images, or masks of single cells, into a study.

    Below `source`, in any folders, three layouts are understood, alone or together:

    - NAME.tif or NAME.png, a label image; NAME may end in _masks, _cp_masks, _labels
      or _mergeMasks. NAME.csv (cell, cell_type) beside it, under the very name of the
      label image, gives the types of a mixed field.
    - NAME_mergeMasks.png, which is the same, as 16-bit PNG.
    - NAME_mask_out_K.png, one white-on-black image for each cell. Where two overlap,
      the smaller cell gets the pixel.

    NAME is the stem of an image of the study. A folder named after a type (or `mixed`)
    says which image is meant where two types have a NAME. Of several files for one
    image a label image with an ending goes first, then single cells, then a label image
    without an ending; two of the same kind fail.

    The manifest says annotator `import`, corrected, and the SHA-256 of the label file,
    or of all masks of the field in order. What was imported before and has not changed
    is not imported again.

    Args:
      study: the study, or its folder.
      source: folder of the labels.

    Returns:
      The outcome by image; by file below `source` for those that match no image.

    Raises:
      InputError: if the study has no images, or the folder no label file.
    """
    study = study if isinstance(study, Study) else Study.open(study)
    source = pathlib.Path(source)
    rows = study.rows()
    if not rows:
        raise InputError(
            f"{study.manifest_path} names no images; run `cellclass convert` first."
        )
    outcome = batch.run(
        lambda task: _import_field(study, *task),
        _jobs(study, rows, source),
        description="import",
        # Not a journal of its own, see there.
        journal=study.journal(annotating.JOURNAL),
    )
    annotating.record(study, outcome, overwrite_corrected=True)
    return outcome


@dataclasses.dataclass(frozen=True)
class _Labels:
    """The file, or the files of single cells, with the labels of one field."""

    folders: tuple[str, ...]
    name: str
    paths: tuple[pathlib.Path, ...]
    single_cells: bool = False

    def rank(self, image_name: str) -> int:
        """What goes first where one image has several."""
        # A file with the image's very name may be the image itself beside its labels.
        return 1 if self.single_cells else 2 * (self.name == image_name)


def _jobs(
    study: Study, rows: Sequence[ImageRow], source: pathlib.Path
) -> list[batch.Job]:
    by_image = collections.defaultdict(list)
    jobs = []
    for labels in _find_labels(source):
        try:
            row = _row_of(labels, rows, {*study.cell_types, MIXED})
            by_image[row.image].append((row, labels))
        except InputError as error:
            name = labels.paths[0].relative_to(source).as_posix()
            jobs.append(batch.Job(name, (None, None, "", str(error))))
    for image, candidates in sorted(by_image.items()):
        row = candidates[0][0]
        name = _name(row)
        ranked = sorted(
            (labels for _, labels in candidates), key=lambda x: x.rank(name)
        )
        problem = ""
        if len(ranked) > 1 and ranked[0].rank(name) == ranked[1].rank(name):
            problem = (
                f"{image}: two label files match it, {ranked[0].paths[0]} and "
                f"{ranked[1].paths[0]}. Leave one of them."
            )
        for left_out in ranked[1:]:
            logging.info("%s goes before %s.", ranked[0].paths[0], left_out.paths[0])
        jobs.append(_job(study, row, ranked[0], problem))
    return jobs


def _job(study: Study, row: ImageRow, labels: _Labels, problem: str) -> batch.Job:
    read = [*labels.paths, labels.paths[0].with_suffix(".csv")]
    made_by = files.fingerprint(
        "import",
        annotating.image_version(study, row),
        [
            [path.name, path.stat().st_size, path.stat().st_mtime_ns]
            for path in read
            if path.exists()
        ],
    )
    task = (row, labels, made_by, problem)
    outputs = (study.cells_path(row),)
    return batch.Job(row.image, task, "" if problem else made_by, outputs)


def _find_labels(source: pathlib.Path) -> list[_Labels]:
    """Finds label files below a folder, sorted; masks of single cells by field."""
    if not source.is_dir():
        raise InputError(f"{source}: expected a folder with label images.")
    found, cells = [], collections.defaultdict(list)
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() not in _LABEL_SUFFIXES or path.name.startswith("."):
            continue
        match = _ONE_CELL.fullmatch(path.stem)
        if match:
            cells[path.parent, match["name"]].append((int(match["cell"]), path))
        elif path.is_file():
            found.append(_Labels(_folders(path, source), path.stem, (path,)))
    for (_, name), numbered in sorted(cells.items()):
        paths = tuple(path for _, path in sorted(numbered))
        found.append(_Labels(_folders(paths[0], source), name, paths, True))
    if not found:
        raise InputError(
            f"{source}: expected label images (NAME.tif, NAME.png) or masks of single "
            "cells (NAME_mask_out_K.png), in folders named after the types; found none."
        )
    return found


def _folders(path: pathlib.Path, source: pathlib.Path) -> tuple[str, ...]:
    return path.relative_to(source).parent.parts


def _row_of(labels: _Labels, rows: Sequence[ImageRow], types: set[str]) -> ImageRow:
    """Finds the image that labels belong to, by type where a folder names one."""
    folder_types = [folder for folder in labels.folders if folder in types]
    if folder_types:
        rows = [row for row in rows if row.cell_type == folder_types[-1]]
    # The name as it is goes first: an image may itself be called NAME_masks.
    for name in dict.fromkeys((labels.name, *_without_endings(labels.name))):
        matches = [row for row in rows if _name(row) == name]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InputError(
                f"{labels.paths[0]}: matches "
                f"{', '.join(row.image for row in matches)}. Put it into a "
                "folder named after its type."
            )
    where = f" of type {folder_types[-1]}" if folder_types else ""
    raise InputError(
        f"{labels.paths[0]}: matches no image{where} in the study. Its name should be "
        f"an image's, alone or with {', '.join(_ENDINGS)} or _mask_out_K."
    )


def _name(row: ImageRow) -> str:
    return pathlib.PurePosixPath(row.stem).name


def _without_endings(name: str) -> list[str]:
    return [name.removesuffix(ending) for ending in _ENDINGS if name.endswith(ending)]


def _import_field(
    study: Study, row: ImageRow | None, labels: _Labels, made_by: str, problem: str
) -> dict[str, Any]:
    if problem:
        raise InputError(problem)
    cells, has_types = _read_cells(study, row, labels)
    size = study.read_image(row).shape[:2]
    if cells.labels.shape != size:
        raise InputError(
            f"{labels.paths[0]}: the labels have {cells.labels.shape[0]} x "
            f"{cells.labels.shape[1]} px and {row.image} has {size[0]} x {size[1]} "
            "(height x width). Make them from this image, without resizing."
        )
    annotating.write_cells(study, row, cells, types_csv=has_types)
    return {
        "annotator": "import",
        "annotator_sha256": _sha256_of(labels.paths),
        "annotation": made_by,
        "diameter_px": None,
        "cells": len(cells),
        "corrected": True,
    }


def _read_cells(study: Study, row: ImageRow, labels: _Labels) -> tuple[Cells, bool]:
    """Returns the cells, and whether the type of each is known one by one."""
    path, types = labels.paths[0], study.cell_types
    folder_type = study.folder_type(row.cell_type)
    if labels.single_cells:
        merged = _merge_single_cells(labels.paths)
        return Cells.from_labels(merged, types, folder_type), False
    values = read_labels(path)
    if values.dtype == np.uint8 and set(np.unique(values)) in ({0, 255}, {255}):
        raise InputError(
            f"{path}: a black-and-white mask, in which cells cannot be told apart. "
            "Expected a label image, with a number for each cell, or one mask for each "
            "cell, named NAME_mask_out_K.png."
        )
    if folder_type is None and path.with_suffix(".csv").exists():
        return Cells.read(path, types), True
    try:
        return Cells.from_labels(values, types, folder_type), False
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _merge_single_cells(paths: Sequence[pathlib.Path]) -> np.ndarray:
    """Puts white-on-black masks into one label image."""
    shape, pieces = None, []
    for path in paths:
        mask = _read_mask(path)
        shape = shape or mask.shape
        if mask.shape != shape:
            raise InputError(
                f"{path}: the mask has shape {mask.shape}, unlike {paths[0]} "
                f"with {shape}."
            )
        pieces.append(Piece.cut(mask))
        if pieces[-1] is None:
            logging.warning("%s: an empty mask is no cell.", path)
    merged, contested = labels_of_pieces([p for p in pieces if p], shape)
    if contested:
        logging.info(
            "%s: %d px lay in more than one mask; the smaller cell got them.",
            paths[0].parent / paths[0].name.rpartition("_mask_out_")[0],
            contested,
        )
    return merged


def _read_mask(path: pathlib.Path) -> np.ndarray:
    """Returns (H, W) bool, true where the image is at least half as bright as white."""
    pixels = (
        read_labels(path) if path.suffix.lower() != ".png" else files.read_png(path)
    )
    if pixels.ndim == 3:
        pixels = pixels.max(axis=2)
    # White may be 1 or 255.
    return (pixels > 0) & (pixels >= pixels.max(initial=0) / 2)


def _sha256_of(paths: Sequence[pathlib.Path]) -> str:
    if len(paths) == 1:
        return files.sha256_of_file(paths[0])
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0")
        digest.update(files.sha256_of_file(path).encode())
    return digest.hexdigest()
