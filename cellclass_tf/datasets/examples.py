"""Makes the examples of a dataset from the annotated images of a study."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import os
import pathlib
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from cellclass_tf import batch, versions
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.manifest import LIKENESS, REJECTED, SPLIT
from cellclass_tf.core.study import MIXED, ImageRow, Study
from cellclass_tf.core.type_names import UNKNOWN
from cellclass_tf.datasets.contents import Contents, FieldFacts
from cellclass_tf.errors import InputError, first_names
from cellclass_tf.messages import logger
from cellclass_tf.splits import assignment, near_duplicates
from cellclass_tf.splits.assignment import UNTYPED
from cellclass_tf.storage import atomic, digests, png

MOST_CELLS = np.iinfo(np.uint16).max


@dataclasses.dataclass(frozen=True)
class Checked:
    """The images of a study that can be examples of a dataset.

    Attributes:
      rows: rows of the images that can be examples, with their splits in images.csv.
      seen: rows of all images, as they were read.
      contents: contents of the dataset that these images make.
      outcome: outcome of checking the images; those that cannot be used are failures.
    """

    rows: list[ImageRow]
    seen: list[ImageRow]
    contents: Contents
    outcome: batch.Outcome

    def record(self, study: Study) -> None:
        """Writes the splits to the manifest, so that new fields do not change them."""
        study.update(self.rows, LIKENESS, SPLIT, seen=self.seen)


def check_study(study: Study, engine: batch.Engine = batch.IN_THIS_PROCESS) -> Checked:
    """Finds the images that can be examples, and assigns them to splits.

    Rejected images and images without cells are left out, and counted in the log. Images
    with a cell of unknown type belong to the split `untyped`, or are left out if their
    group is tested on. Images that are broken, do not fit to their cells or show the same
    field as an image of another type, and labels without an image, are failures. A file
    that has not changed since it was last checked is not read again.

    Raises:
      InputError: if no image is left, or a hand-made split leaks.
    """
    every = study.rows()
    rows = [row for row in every if row.verdict != REJECTED]
    annotated = [row for row in rows if study.has_cells(row)]
    jobs, failures = [], {}
    for row in annotated:
        try:
            jobs.append(_check_job(study, row))
        except InputError as error:
            failures[row.image] = str(error)
    outcome = batch.run(
        _Check(study),
        jobs,
        description="check",
        journal=batch.Journal(study.journal("dataset"), must_record=False),
        engine=engine,
    )
    outcome.failures.update(failures)
    outcome.failures.update(_labels_without_images(study, every))
    as_they_are = [_as_it_is(row, outcome) for row in annotated]
    contradictions = _of_two_types(as_they_are)
    outcome.failures.update(contradictions)
    alike = [row for row in as_they_are if row.image not in contradictions]
    outcome.notes += _notes_of_alike(alike)
    rows = [row for row in rows if row.image not in contradictions]
    typed = [row for row in rows if _has_types(outcome, row, known=True)]
    if not typed:
        reasons = "".join(f"\n  {reason}" for reason in outcome.failures.values())
        raise InputError(
            f"{study.root}: no annotated images ({len(rows)} images, {len(annotated)} "
            "with cells, none of them with types). Run `cellclass annotate` or `cellclass "
            f"import` first.{reasons}"
        )
    now = [_as_it_is(row, outcome) for row in rows]
    with_cells = _images_with_cells(typed, outcome)
    chosen = assignment.splits_of(now, with_cells, study.manifest_path)
    untyped = [row for row in rows if _has_types(outcome, row, known=False)]
    outlined = assignment.outlines_to_learn(
        now, chosen, with_cells, {row.image for row in untyped}
    )
    if unused := [row.image for row in untyped if row.image not in outlined]:
        outcome.notes += (
            f"{len(unused)} fields are left out, since the types of some of their cells are "
            f"unknown and their dishes are tested on: {first_names(unused)}",
        )
    logger.debug(
        "%s: %d images, %d not annotated, %d broken, %d of which only outlines are "
        "learned, since the types of cells are unknown, %d without types in groups that "
        "are tested on.",
        study.root,
        len(rows),
        len(rows) - len(annotated),
        sum(row.image in outcome.failures for row in annotated),
        len(outlined),
        len(untyped) - len(outlined),
    )
    usable = [
        dataclasses.replace(
            row,
            # A field without cells, alone in its group, is an example of background.
            split=chosen[row.image] or "train",
            scene_hash=outcome.results[row.image]["scene_hash"],
        )
        for row in rows
        if _has_types(outcome, row, known=True) or row.image in outlined
    ]
    fields = {
        row.image: _field(study, row, outcome.results[row.image]) for row in usable
    }
    for image in outlined:
        fields[image] = dataclasses.replace(fields[image], split=UNTYPED)
    contents = Contents(
        study.cell_types,
        fields,
        {row.image: ", ".join(row.reasons) for row in every if row.reasons},
    )
    return Checked(usable, every, contents, outcome)


def keyed_example_of_row(
    study: Study, row: ImageRow, facts: FieldFacts
) -> tuple[str, dict[str, Any]]:
    """Returns the key and the example of a row that `check_study` has checked.

    Raises:
      InputError: if the files have changed since.
    """
    check_unchanged(study, row, facts)
    image_png = study.image_path(row).read_bytes()
    return row.image, _example_of_row(study, row, image_png, study.read_cells(row))


def check_unchanged(study: Study, row: ImageRow, facts: FieldFacts) -> None:
    """Raises InputError if image, cells or types have changed since they were checked."""
    known = (facts.image_sha256, facts.cells_sha256, facts.types_sha256)
    if _sha256_of_files(study, row) != known:
        raise InputError(
            f"{row.image}: the image, its cells or their types were changed while the "
            "dataset was being prepared. Run `cellclass dataset` again."
        )


def _sha256_of_files(study: Study, row: ImageRow) -> tuple[str, str, str]:
    """Returns the SHA-256s of image, label image and table of types ('' without one)."""
    path = study.cells_path(row)
    table = path.with_suffix(".csv")
    return (
        digests.sha256_of_file(study.image_path(row)),
        digests.sha256_of_file(path),
        digests.sha256_of_file(table) if os.path.lexists(table) else "",
    )


def example_of_row(study: Study, row: ImageRow) -> dict[str, Any]:
    """Makes one example of an image and its cells; see `example`.

    Raises:
      InputError: if image and cells do not fit together, or there are too many cells.
    """
    _, cells = _checked_field(study, row)
    return _example_of_row(study, row, study.image_path(row).read_bytes(), cells)


def _example_of_row(
    study: Study, row: ImageRow, image_png: bytes, cells: Cells
) -> dict[str, Any]:
    return example(
        image_png,
        cells,
        name=row.image,
        culture=row.cell_type,
        group=row.group,
        pixel_size_um=study.pixel_size_of(row),
    )


def example(
    image_png: bytes,
    cells: Cells,
    *,
    name: str,
    culture: str,
    group: str,
    pixel_size_um: float | None,
    sources: Iterable[str] = (),
) -> dict[str, Any]:
    """Makes one example.

    Args:
      image_png: the merged image, (H, W, 3) uint8, as a PNG.
      cells: the cells in it.
      name: name of the image, TYPE/NAME.png.
      culture: the type of a pure culture, or 'mixed'.
      group: acquisition group.
      pixel_size_um: width of a pixel in µm; None if unknown.
      sources: names of the images that a composed image was made from.

    Returns:
      A dictionary with image and labels, PNG files of (H, W, 3) uint8 and (H, W, 1)
      uint16; cells: for each cell 1..N its box (ymin, xmin, ymax, xmax) as shares of the
      image, its type (-1 if unknown) and its area in pixels; image_name, culture, group
      and sources; pixel_size_um, 0 if unknown.
    """
    import tensorflow_datasets as tfds

    height, width = cells.labels.shape
    boxes = cells.boxes_yxyx / np.array([height, width, height, width])
    return {
        # Bytes are stored unchanged; pixels would be compressed a second time.
        "image": io.BytesIO(image_png),
        "labels": io.BytesIO(png.encode_png(cells.labels.astype(np.uint16), runs=True)),
        "cells": [
            {
                "box": tfds.features.BBox(*box),
                "type": -1 if cell_type == UNKNOWN else cell_type,
                "area_px": int(area),
            }
            for box, cell_type, area in zip(
                boxes.tolist(), cells.cell_types, cells.areas_px, strict=True
            )
        ],
        "image_name": name,
        "culture": culture,
        "group": group,
        "sources": list(sources),
        "pixel_size_um": pixel_size_um or 0.0,
    }


def _checked_field(study: Study, row: ImageRow) -> tuple[np.ndarray, Cells]:
    study.check_cell_type(row.cell_type)
    if row.has_cells_of_another_source:
        raise InputError(
            f"{study.cells_path(row)}: the cells were made on another raw file than the "
            "image shows now. `cellclass annotate` moves them to .trash."
        )
    image, cells = study.read_field(row)
    if len(cells) > MOST_CELLS:
        raise InputError(
            f"{study.cells_path(row)}: expected at most {MOST_CELLS} cells, got "
            f"{len(cells)}. Annotate it again."
        )
    return image, cells


@dataclasses.dataclass(frozen=True)
class _Check:
    """Checks one image and its cells; may run in a worker process."""

    study: Study

    def __call__(self, row: ImageRow) -> dict[str, Any]:
        image, cells = _checked_field(self.study, row)
        names = ("image_sha256", "cells_sha256", "types_sha256")
        return {
            "scene_hash": near_duplicates.scene_hash(image),
            "typed": bool((cells.type_ids > 0).all()),
            "cells": dict(collections.Counter(cells.cell_types)),
            **dict(zip(names, _sha256_of_files(self.study, row), strict=True)),
        }


def _check_job(study: Study, row: ImageRow) -> batch.Job:
    path = study.cells_path(row)
    key = digests.fingerprint(
        versions.FIELD_CHECK,
        study.image_path(row),
        path,
        path.with_suffix(".csv"),
        study.cell_types,
        row.cell_type,
        row.source,
        row.cells_source,
    )
    return batch.Job(row.image, row, key)


def _labels_without_images(study: Study, rows: list[ImageRow]) -> dict[str, str]:
    """Reports label images in cells/ that belong to no image of the study."""
    known = set()
    for row in rows:
        # Rows with invalid names are reported elsewhere.
        with contextlib.suppress(InputError):
            known.add(study.cells_path(row))
    folder = study.root / "cells"
    strays = [p for p in sorted(folder.rglob("*.tif")) if p not in known]
    return {
        _below(path, study.root): (
            f"{path}: labels without an image: images.csv has no row of "
            f"{_below(path.with_suffix('.png'), folder)}. Convert or import the image, or "
            "remove the labels."
        )
        for path in strays
        if not path.name.startswith(atomic.PART_PREFIX)
    }


def _of_two_types(rows: Iterable[ImageRow]) -> dict[str, str]:
    """Reports images that show the same field as an image of another cell type."""
    same: dict[Hashable, list[ImageRow]] = collections.defaultdict(list)
    for row in rows:
        if row.image_sha256:
            same[row.image_sha256].append(row)
        if row.raw_sha256:
            # The cells of a scene have one type at all times.
            same[row.raw_sha256, row.scene].append(row)
    found = {}
    for members in same.values():
        for row in members:
            other = next((o for o in members if o.cell_type != row.cell_type), None)
            if other:
                found[row.image] = (
                    f"{row.image} shows the same field as {other.image}, of another type, "
                    "and neither is used. Write rejected into the column verdict of the "
                    "wrong one in images.csv."
                )
    return found


def _notes_of_alike(rows: Sequence[ImageRow]) -> tuple[str, ...]:
    """Returns a note if fields of different types look like one field."""
    pure = [row for row in rows if row.cell_type != MIXED]
    found = near_duplicates.find_near_duplicates(pure, apart=lambda row: row.cell_type)
    if not found:
        return ()
    pairs = [f"{pair.one.image} and {pair.other.image}" for pair in found]
    told = (
        f"fields of different types that look alike: {first_names(pairs, 3)}. If they show "
        "the same cells, write rejected into the column verdict of the wrong one in "
        "images.csv"
    )
    return (told,)


def _below(path: pathlib.Path, folder: pathlib.Path) -> str:
    return path.relative_to(folder).as_posix()


def _as_it_is(row: ImageRow, outcome: batch.Outcome) -> ImageRow:
    """Returns the row with the hashes of the image as it is now."""
    found = outcome.results.get(row.image)
    if not found:
        return row
    now = {key: found[key] for key in ("scene_hash", "image_sha256")}
    return dataclasses.replace(row, **now)


def _images_with_cells(usable: Iterable[ImageRow], outcome: batch.Outcome) -> set[str]:
    """Returns the images with cells, by which splits are assigned."""
    return {
        row.image for row in usable if sum(outcome.results[row.image]["cells"].values())
    }


def _has_types(outcome: batch.Outcome, row: ImageRow, *, known: bool) -> bool:
    """Whether an image could be read, and its types are known (or unknown)."""
    return outcome.results.get(row.image, {}).get("typed") is known


def _field(study: Study, row: ImageRow, found: dict[str, Any]) -> FieldFacts:
    return FieldFacts(
        culture=row.cell_type,
        group=row.group,
        split=row.split,
        pixel_size_um=study.pixel_size_of(row) or 0.0,
        **{key: found[key] for key in ("image_sha256", "cells_sha256", "types_sha256")},
        cells=found["cells"],
        annotator=row.annotator,
        annotator_sha256=row.annotator_sha256,
        annotator_settings=row.annotator_settings,
        corrected=row.corrected,
    )
