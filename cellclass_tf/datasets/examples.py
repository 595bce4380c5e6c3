"""Annotated images of a study to examples of its dataset."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from absl import logging

from cellclass_tf import batch, files, splits
from cellclass_tf.cells import Cells
from cellclass_tf.files import InputError
from cellclass_tf.study import ImageRow, Study

MOST_CELLS = np.iinfo(np.uint16).max


def rows_of_dataset(study: Study) -> tuple[list[ImageRow], batch.Outcome]:
    """Finds the images that can be examples, gives them splits and records those.

    Rejected images, images without cells files and mixed images in which the type of a
    cell is not known stay out, and are counted in the log. So do those that are broken
    or do not fit to their cells, which are failures.

    Returns:
      The rows, and the outcome of checking them, by image.

    Raises:
      InputError: if nothing is left, or a hand-made split leaks.
    """
    rows = study.accepted_rows()
    annotated = [row for row in rows if study.cells_path(row).exists()]
    outcome = batch.run(
        lambda row: {"usable": _types_are_known(_checked_cells(study, row))},
        [_check_job(study, row) for row in annotated],
        description="check",
        journal=study.journal("dataset"),
    )
    usable = [row for row in annotated if _is_usable(outcome, row)]
    if not usable:
        reasons = "".join(f"\n  {reason}" for reason in outcome.failures.values())
        raise InputError(
            f"{study.root}: no annotated images ({len(rows)} images, {len(annotated)} "
            "with cells, none of them usable). Run `cellclass annotate` or `cellclass "
            f"import` first.{reasons}"
        )
    logging.info(
        "%s: %d images, %d not annotated, %d broken, %d with cells of unknown type.",
        study.root,
        len(rows),
        len(rows) - len(annotated),
        len(outcome.failures),
        len(annotated) - len(usable) - len(outcome.failures),
    )
    rows = splits.with_splits(usable, rows, study.manifest_path)
    study.update(rows)
    return rows, outcome


def fingerprint_of_dataset(study: Study, rows: list[ImageRow]) -> str:
    """Returns a hash of all that the dataset is made of: bytes, types and splits."""
    parts = []
    for row in rows:
        path = study.cells_path(row)
        table = path.with_suffix(".csv")
        parts.append(
            (
                row.image,
                row.cell_type,
                row.group,
                row.split,
                study.pixel_size_of(row),
                files.sha256_of_file(study.image_path(row)),
                files.sha256_of_file(path),
                files.sha256_of_file(table) if table.exists() else "",
            )
        )
    return files.fingerprint(study.cell_types, parts)


def example_of_row(study: Study, row: ImageRow) -> dict[str, Any]:
    """Makes one example.

    Returns:
      image, the path of the merged PNG (H, W, 3) uint8; labels (H, W, 1) uint16; cells: for
      cell 1..N its box (ymin, xmin, ymax, xmax) as shares of the image, type and area
      in pixels; image_name, culture, group; pixel_size_um, 0 if unknown.

    Raises:
      InputError: if image and cells do not fit together, or there are too many cells.
    """
    import tensorflow_datasets as tfds

    cells = _checked_cells(study, row)
    height, width = cells.labels.shape
    boxes = cells.boxes_yxyx / np.array([height, width, height, width])
    return {
        # A path is stored as it is; pixels would be compressed a second time.
        "image": os.fspath(study.image_path(row)),
        "labels": cells.labels[..., np.newaxis].astype(np.uint16),
        "cells": [
            {"box": tfds.features.BBox(*box), "type": name, "area_px": int(area)}
            for box, name, area in zip(
                boxes.tolist(), cells.cell_types, cells.areas_px, strict=True
            )
        ],
        "image_name": row.image,
        "culture": row.cell_type,
        "group": row.group,
        "pixel_size_um": study.pixel_size_of(row) or 0.0,
    }


def _checked_cells(study: Study, row: ImageRow) -> Cells:
    shape, cells = study.read_image(row).shape[:2], study.read_cells(row)
    if shape != cells.labels.shape or len(cells) > MOST_CELLS:
        raise InputError(
            f"{study.cells_path(row)}: expected at most {MOST_CELLS} cells and the "
            f"image's size {shape}; got {len(cells)} cells, size {cells.labels.shape}. "
            "Annotate it again."
        )
    return cells


def _types_are_known(cells: Cells) -> bool:
    return bool((cells.type_ids > 0).all())


def _check_job(study: Study, row: ImageRow) -> batch.Job:
    path = study.cells_path(row)
    key = files.fingerprint(
        study.image_path(row),
        path,
        path.with_suffix(".csv"),
        study.cell_types,
        row.cell_type,
    )
    return batch.Job(row.image, row, key)


def _is_usable(outcome: batch.Outcome, row: ImageRow) -> bool:
    return outcome.results.get(row.image, {}).get("usable", False)
