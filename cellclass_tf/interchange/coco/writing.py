"""Exports the annotated fields of a study as COCO instances files."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from typing import Any, Literal

import cellclass_tf
from cellclass_tf import batch, process_state
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.manifest import SPLIT
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.coco.descriptions import (
    SEGMENTATIONS,
    categories_of,
    image_of,
)
from cellclass_tf.interchange.coco.drafts import Draft
from cellclass_tf.splits import assignment
from cellclass_tf.storage import digests, ledger, lock


@process_state.keep()
@lock.writes("study")
@lock.writes("output", creates=True)
def export_coco(
    study: str | os.PathLike | Study,
    output: str | os.PathLike,
    *,
    segmentation: Literal["rle", "polygons"] = "rle",
) -> batch.Outcome:
    """Writes the accepted, annotated fields as COCO files, one per split.

    OUTPUT/annotations/cells_SPLIT.json lists the images below OUTPUT/cells_SPLIT. The
    categories are the study's types, in class order from 1 on, followed by `unknown` if
    there are cells of unknown type. The splits are those of the dataset, and are recorded
    in images.csv. A field that cannot be read is left out and reported as a failure. Files
    of an earlier export for splits that have no fields now are removed. A file that was
    changed since the earlier export is moved to OUTPUT/.trash/DATE.

    Args:
      study: folder of the study.
      output: folder to write to.
      segmentation: how COCO files store outlines: 'rle' (run lengths), or 'polygons' along
        the edges of pixels, from which pycocotools makes exactly the same mask. Cells with
        holes, which polygons cannot express, are stored as run lengths in both cases.

    Returns:
      The outcome by image.

    Raises:
      InputError: if no image is annotated, or if images of one group are in different
        splits in images.csv.
    """
    if segmentation not in SEGMENTATIONS:
        raise InputError(
            f"Unknown segmentation {segmentation!r}; known are "
            f"{', '.join(SEGMENTATIONS)}."
        )
    study = Study.open(study)
    output = pathlib.Path(output)
    rows = _rows_with_splits(study)
    folder = output / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        drafts = {
            split: stack.enter_context(Draft.open(folder))
            for split in assignment.SPLITS
        }

        def export(row: ImageRow) -> dict[str, Any]:
            cells = study.read_field(row)[1]
            _copy_image(study, row, output)
            draft, record = drafts[row.split], _image_record(study, row, cells)
            draft.add({"id": draft.image_count + 1} | record, cells, segmentation)
            return {"split": row.split, "cells": len(cells)}

        jobs = [batch.Job(row.image, row) for row in rows]
        outcome = batch.run(export, jobs, description="export")
        for split, draft in drafts.items():
            path = folder / f"cells_{split}.json"
            draft.write(output, path, _head(study, split, draft.has_unknown))
    return outcome


def _rows_with_splits(study: Study) -> list[ImageRow]:
    accepted = study.accepted_rows()
    rows = [row for row in accepted if study.has_cells(row)]
    if not rows:
        raise InputError(
            f"{study.root}: no annotated images ({len(accepted)} accepted images, none "
            "with cells). Run `cellclass annotate` or `cellclass import` first."
        )
    rows = assignment.with_splits(rows, accepted, study.manifest_path)
    study.update(rows, SPLIT, seen=accepted)
    return rows


def _copy_image(study: Study, row: ImageRow, output: pathlib.Path) -> None:
    source = study.image_path(row)
    below = source.relative_to(study.root / "images")
    target = output / f"cells_{row.split}" / below
    own = (digests.sha256_of_file(source),)
    with ledger.replace(output, target, own=own) as temporary:
        shutil.copyfile(source, temporary)


def _image_record(study: Study, row: ImageRow, cells: Cells) -> dict[str, Any]:
    record = image_of(row.image, cells) | {
        "license": 1,
        "culture": row.cell_type,
        "group": row.group,
        "split": row.split,
    }
    pixel_size_um = study.pixel_size_of(row)
    return record | ({"pixel_size_um": pixel_size_um} if pixel_size_um else {})


def _head(study: Study, split: str, has_unknown: bool) -> dict[str, Any]:
    return {
        "info": {
            "description": f"Cells of the study {study.root.resolve().name}, {split}",
            "version": cellclass_tf.__version__,
            "contributor": "",
            "url": "",
        },
        "licenses": [{"id": 1, "name": "not stated", "url": ""}],
        "categories": categories_of(study.cell_types, has_unknown=has_unknown),
    }
