"""Exports the annotated fields of a study as COCO instances files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any, Literal

import cellclass_tf
from cellclass_tf import batch, process_state
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.manifest import SPLIT
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.coco.descriptions import (
    SEGMENTATIONS,
    annotation_of,
    categories_of,
    image_of,
)
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
            split: stack.enter_context(_Draft.open(folder))
            for split in assignment.SPLITS
        }

        def export(row: ImageRow) -> dict[str, Any]:
            cells = study.read_field(row)[1]
            _copy_image(study, row, output)
            drafts[row.split].add(_image_record(study, row, cells), cells, segmentation)
            return {"split": row.split, "cells": len(cells)}

        jobs = [batch.Job(row.image, row) for row in rows]
        outcome = batch.run(export, jobs, description="export")
        for split, draft in drafts.items():
            draft.write(output, folder / f"cells_{split}.json", study, split)
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


@dataclasses.dataclass
class _Draft:
    """Images and annotations of one split, kept in temporary files until all are known.

    Images come first in the COCO file, but an image is only added when its annotations are
    complete. Temporary files keep the use of memory small.

    Attributes:
      images: the entries of images, one JSON object per line.
      annotations: the entries of annotations, one JSON object per line.
      image_count: number of images.
      annotation_count: number of annotations.
      has_unknown: whether there are cells of unknown type.
    """

    images: IO[str]
    annotations: IO[str]
    image_count: int = 0
    annotation_count: int = 0
    has_unknown: bool = False

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: pathlib.Path) -> Iterator[_Draft]:
        """Yields an empty draft whose files lie in a folder."""
        with (
            tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8") as images,
            tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8") as annotations,
        ):
            yield cls(images, annotations)

    def add(self, record: Mapping[str, Any], cells: Cells, segmentation: str) -> None:
        """Adds one field, whole or not at all."""
        image_id = self.image_count + 1
        lines = []
        for index in range(len(cells)):
            ids = {"id": self.annotation_count + index + 1, "image_id": image_id}
            annotation = annotation_of(cells, index, segmentation=segmentation)
            lines.append(json.dumps(ids | annotation) + "\n")
        self.images.write(json.dumps({"id": image_id, **record}) + "\n")
        self.annotations.writelines(lines)
        self.image_count += 1
        self.annotation_count += len(cells)
        self.has_unknown |= bool((cells.type_ids == 0).any())

    def write(
        self, root: pathlib.Path, path: pathlib.Path, study: Study, split: str
    ) -> None:
        """Writes the COCO file, or removes an old one if there are no images."""
        if not self.image_count:
            ledger.remove(root, path)
            return
        head = {
            "info": {
                "description": f"Cells of the study {study.root.resolve().name}, {split}",
                "version": cellclass_tf.__version__,
                "contributor": "",
                "url": "",
            },
            "licenses": [{"id": 1, "name": "not stated", "url": ""}],
            "categories": categories_of(study.cell_types, has_unknown=self.has_unknown),
        }
        with (
            ledger.replace(root, path, overwrite=True) as temporary,
            open(temporary, "w", encoding="utf-8") as file,
        ):
            file.write("{\n")
            file.writelines(
                f'"{name}": {json.dumps(value)},\n' for name, value in head.items()
            )
            _write_list(file, "images", self.images)
            file.write(",\n")
            _write_list(file, "annotations", self.annotations)
            file.write("\n}\n")


def _write_list(file: IO[str], name: str, lines: IO[str]) -> None:
    lines.seek(0)
    file.write(f'"{name}": [')
    for number, line in enumerate(lines):
        file.write(("," if number else "") + "\n" + line.removesuffix("\n"))
    file.write("\n]")
