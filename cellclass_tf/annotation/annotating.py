"""The accepted images of a study to cells, and what made them to the manifest."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from absl import logging

from cellclass_tf import batch, files
from cellclass_tf.annotation.watershed_annotator import WatershedAnnotator
from cellclass_tf.cells import Cells
from cellclass_tf.files import InputError
from cellclass_tf.study import ImageRow, Study

# Everything that writes cells/ shares this journal: a field's last line tells whose
# labels lie there, so that what one wrote is never taken for the work of the other.
JOURNAL = "annotate"


class Annotator(Protocol):
    """What finds the cells in one image."""

    name: str
    fingerprint: str
    weights_sha256: str

    def annotate(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """Takes a merged image; returns (H, W) int32 labels and the cell diameter."""


def annotate(
    study: str | os.PathLike | Study,
    *,
    annotator: str = "cellpose",
    model: str | os.PathLike = "cyto3",
    diameter: float | None = None,
    flow_threshold: float = 0.4,
    overwrite_corrected: bool = False,
    processes: int = 1,
    engine: str = "local",
    beam_options: str | Sequence[str] = (),
) -> batch.Outcome:
    """Finds the cells in every accepted image of a study.

    Writes cells/TYPE/NAME.tif and the manifest's columns annotator, annotator_sha256,
    annotation, diameter_px, cells and corrected. Fields that are done with the same
    settings are not done again. The types in a mixed field stay unknown; a table of
    types that lay beside older labels is removed, since it does not fit the new ones.

    Args:
      study: the study, or its folder.
      annotator: 'cellpose', or 'watershed', which needs no weights.
      model: of cellpose, a name or a path to weights.
      diameter: of a typical cell in pixels; None to estimate it for each image.
      flow_threshold: of cellpose; higher finds more cells, and more bad ones.
      overwrite_corrected: whether fields that were corrected by hand, or imported, are
        annotated too. Their corrections are lost.
      processes: worker processes; with 1 a crash takes this process along.
      engine: 'local' or 'beam'; see `batch.Engine`.
      beam_options: flags of Apache Beam.

    Returns:
      The outcome by image. A field without cells is no failure.

    Raises:
      InputError: if the study has no images to annotate, the annotator is not known,
        or its settings or weights are no use.
    """
    runner = batch.Engine(engine, processes, beam_options)
    study = study if isinstance(study, Study) else Study.open(study)
    if annotator not in _ANNOTATORS:
        raise InputError(
            f"Unknown annotator {annotator!r}; known are {', '.join(_ANNOTATORS)}."
        )
    rows = _accepted_rows(study)
    wanted = [row for row in rows if overwrite_corrected or not row.corrected]
    if len(wanted) < len(rows):
        logging.info("%d corrected fields are left alone.", len(rows) - len(wanted))
    if not wanted:
        return batch.Outcome()
    finder = _ANNOTATORS[annotator](model, diameter, flow_threshold)
    jobs = [_job(study, row, finder) for row in wanted]
    outcome = batch.run(
        _Work(study, finder),
        jobs,
        description="annotate",
        journal=study.journal(JOURNAL),
        engine=runner,
    )
    record(study, outcome, overwrite_corrected=overwrite_corrected)
    return outcome


def write_cells(
    study: Study, row: ImageRow, cells: Cells, *, types_csv: bool = False
) -> None:
    """Writes a field's label image, with its table of types or with none beside it."""
    path = study.cells_path(row)
    if not types_csv:
        # First, since new labels beside an old table would be misread.
        path.with_suffix(".csv").unlink(missing_ok=True)
    cells.write(path, types_csv=types_csv)


def record(study: Study, outcome: batch.Outcome, *, overwrite_corrected: bool) -> None:
    """Brings results to the manifest, and to those rows alone that lack them.

    The results of a run that was killed arrive with the next one. What was changed by
    hand in a row that has its result stays.

    Args:
      study: its manifest is read anew, since it may have changed meanwhile.
      outcome: its results are the columns of a row by name.
      overwrite_corrected: whether corrected rows take new results.
    """
    rows = {row.image: row for row in study.rows()}
    study.update(
        dataclasses.replace(rows[image], **result)
        for image, result in outcome.results.items()
        if image in rows
        and (image in outcome.done or rows[image].annotation != result["annotation"])
        and (overwrite_corrected or not rows[image].corrected)
    )


def _accepted_rows(study: Study) -> Sequence[ImageRow]:
    rows = study.accepted_rows()
    if not rows:
        raise InputError(
            f"{study.manifest_path}: expected images to annotate; it names "
            f"{len(study.rows())}, none of them accepted. Run `cellclass convert` on "
            "the raw files, or change their verdict."
        )
    return rows


def _cellpose(model: Any, diameter: float | None, flow_threshold: float) -> Annotator:
    from cellclass_tf.annotation.cellpose_annotator import CellposeAnnotator

    return CellposeAnnotator(model, diameter, flow_threshold)


_ANNOTATORS: Mapping[str, Callable[[Any, float | None, float], Annotator]] = {
    "cellpose": _cellpose,
    "watershed": lambda model, diameter, flow_threshold: WatershedAnnotator(diameter),
}


def _job(study: Study, row: ImageRow, finder: Annotator) -> batch.Job:
    made_by = files.fingerprint(image_version(study, row), finder.fingerprint)
    # To overwrite a correction of these very labels, the job has to look like another
    # one; afterwards, like the one that was done.
    other = files.fingerprint(made_by, "overwritten")
    if (row.annotation == made_by) if row.corrected else (row.annotation == other):
        made_by = other
    return batch.Job(row.image, (row, made_by), made_by, (study.cells_path(row),))


def image_version(study: Study, row: ImageRow) -> list:
    """What tells that an image has changed; it survives that the study moves."""
    path = study.image_path(row)
    if not path.exists():
        return [row.image]
    status = path.stat()
    return [row.image, status.st_size, status.st_mtime_ns]


@dataclasses.dataclass(frozen=True)
class _Work:
    """Finds the cells of one field and writes them, in whatever process it is."""

    study: Study
    finder: Annotator

    def __call__(self, job: tuple[ImageRow, str]) -> dict[str, Any]:
        row, made_by = job
        study, finder = self.study, self.finder
        if not study.image_path(row).exists():
            raise InputError(
                f"{study.image_path(row)} does not exist, but {study.manifest_path} "
                "names it. Convert the raw file again, or remove the row."
            )
        labels, diameter_px = finder.annotate(study.read_image(row))
        cell_type = study.folder_type(row.cell_type)
        cells = Cells.from_labels(labels, study.cell_types, cell_type)
        write_cells(study, row, cells)
        if not len(cells):
            logging.warning("%s: no cell was found.", row.image)
        return {
            "annotator": finder.name,
            "annotator_sha256": finder.weights_sha256,
            "annotation": made_by,
            "diameter_px": round(diameter_px, 2),
            "cells": len(cells),
            "corrected": False,
        }
