"""Finds the cells in the accepted images of a study, and records how in the manifest."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Literal

from cellclass_tf import batch, process_state
from cellclass_tf.annotation import annotation_settings, cell_files
from cellclass_tf.annotation.annotators import by_name
from cellclass_tf.annotation.annotators.protocol import Annotator
from cellclass_tf.annotation.group_diameters import estimate_diameters
from cellclass_tf.annotation.review import doubts, queue
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.manifest import REJECTED
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.messages import logger
from cellclass_tf.storage import digests, lock


@process_state.keep()
@lock.writes("study")
@batch.takes_engine
def annotate(
    study: str | os.PathLike | Study,
    *,
    annotator: Literal["cellpose", "watershed"] | None = None,
    model: str | os.PathLike | None = None,
    diameter: float | None = None,
    diameter_by: Literal["group", "field"] | None = None,
    flow_threshold: float | None = None,
    cellprob_threshold: float | None = None,
    device: str = "auto",
    bfloat16: bool | None = None,
    change_settings: bool = False,
    overwrite_corrected: bool = False,
    engine: batch.Engine,
) -> batch.Outcome:
    """Finds the cells in every accepted image of a study.

    Writes cells/TYPE/NAME.tif, the manifest's columns from annotator to doubts, a list and
    a picture of the doubtful cells of each field, and the order in which a person should
    correct the fields (see `review`). Fields that were annotated with the same settings
    are skipped. The types of the cells in a mixed field stay unknown; a table of types of
    older labels is removed, since it does not fit to the new ones.

    Args:
      study: folder of the study.
      annotator: program that outlines the cells: 'cellpose', or 'watershed', which needs no
        weights. If not given, this and the other settings, except for device, are as in
        the study's last annotation; at first, cellpose.
      model: name of a cellpose model, or path to its weights; at first, cyto3.
      diameter: diameter of a typical cell in pixels; 0 to estimate it, as at first.
      diameter_by: what the diameter is estimated for: each 'group' (dish or slide; the
        median over a few of its fields, estimated once), as at first, or each 'field'.
      flow_threshold: largest flow error of a cell that cellpose keeps; a higher value keeps
        more cells, also poor ones; at first, 0.4.
      cellprob_threshold: cellpose's threshold for pixels of cells; a lower value finds more
        and larger cells; at first, 0.
      device: device that cellpose runs on: 'auto' (a GPU if there is one), 'cpu', 'cuda',
        'cuda:1' or 'mps'.
      bfloat16: compute in bfloat16, with cellpose 4 only: half the memory, and faster where
        the hardware multiplies it; at first, off.
      change_settings: annotate with settings other than those with which fields of the
        study were annotated. Without it, such a call is refused, and says what would change.
      overwrite_corrected: also annotate fields whose cells were corrected or imported. The
        old cells are kept in STUDY/.trash/DATE.
      processes: number of worker processes. With 1, a crash in a library ends the command.
      engine: what runs the jobs; see docs/scaling.md.
      beam_options: flags for Apache Beam, with commas between them, such as
        '--runner=FlinkRunner,--parallelism=8'.

    Returns:
      The outcome by image. A field without cells is no failure.

    Raises:
      InputError: if the study has no images to annotate, the annotator is not known, its
        settings or weights are not valid, or settings would change and `change_settings`
        is not set.
    """
    study = Study.open(study)
    for name, value, known in (
        ("annotator", annotator, by_name.NAMES),
        ("diameter_by", diameter_by, ("group", "field")),
    ):
        if value not in (None, *known):
            raise InputError(f"Unknown {name} {value!r}; known are {', '.join(known)}.")
    rows, failures, states = _accepted_rows(study)
    given = {
        "annotator": annotator,
        "model": None if model is None else os.fspath(model),
        "diameter": diameter,
        "diameter_by": diameter_by,
        "flow_threshold": flow_threshold,
        "cellprob_threshold": cellprob_threshold,
        "bfloat16": bfloat16,
    }
    asked = annotation_settings.settle(
        study, given, images=sum(map(study.has_cells, rows)), change=change_settings
    )
    wanted = [row for row in rows if overwrite_corrected or not row.corrected]
    if len(wanted) < len(rows):
        logger.info(
            "%d corrected fields are kept as they are.", len(rows) - len(wanted)
        )
    outcome = batch.Outcome(failures=failures)
    if not wanted:
        return outcome
    settings = by_name.Settings(
        asked.model,
        asked.diameter or None,
        asked.flow_threshold,
        asked.cellprob_threshold,
        device,
        asked.bfloat16,
    )
    finder = by_name.make_annotator(asked.annotator, settings)
    annotation_settings.remember(study, asked)
    diameters = {}
    if not asked.diameter and asked.diameter_by == "group":
        journal = batch.Journal(study.journal("diameters"))
        diameters = estimate_diameters(study, wanted, finder, journal, engine)
    jobs = []
    for row in wanted:
        diameter_px = diameters.get(row.group)
        try:
            job = _job(study, row, finder, diameter_px, states[row.image])
        except InputError as error:
            outcome.failures[row.image] = str(error)
            continue
        is_current = row.annotation == job.fingerprint and not row.corrected
        if is_current and study.has_cells(row):
            outcome.skipped[row.image] = {}
        else:
            jobs.append(job)
    done = batch.run(
        _FieldAnnotation(study, finder),
        jobs,
        description="annotate",
        journal=cell_files.journal(study),
        engine=engine,
    )
    cell_files.record(study, done, wanted)
    queue.write_queue(study)
    return outcome.merge(done)


def _accepted_rows(study: Study) -> cell_files.Settled:
    rows, failures, states = cell_files.settle(study)
    accepted = [row for row in rows if row.verdict != REJECTED]
    if not accepted and not failures:
        raise InputError(
            f"{study.manifest_path}: expected images to annotate; it lists "
            f"{len(rows)}, none of them accepted. Run `cellclass convert` on "
            "the raw files, or change their verdict."
        )
    return cell_files.Settled(accepted, failures, states)


def _job(
    study: Study,
    row: ImageRow,
    finder: Annotator,
    diameter: float | None,
    state: Sequence[str],
) -> batch.Job:
    """Returns the job that annotates a field if its labels are still in this state."""
    made_by = digests.fingerprint(
        cell_files.version_of_image(study, row), finder.fingerprint, diameter
    )
    task = (row, made_by, diameter, state)
    return batch.Job(row.image, task, made_by, (study.cells_path(row),))


@dataclasses.dataclass(frozen=True)
class _FieldAnnotation:
    """Finds the cells of one field and writes them; may run in a worker process."""

    study: Study
    finder: Annotator

    def __call__(
        self, task: tuple[ImageRow, str, float | None, list[str]]
    ) -> dict[str, Any]:
        row, made_by, diameter, planned = task
        study, finder = self.study, self.finder
        if not study.image_path(row).exists():
            raise InputError(
                f"{study.image_path(row)} does not exist, but {study.manifest_path} "
                "lists it. Convert the raw file again, or remove the row."
            )
        image = study.read_image(row)
        found = finder.annotate(image, diameter)
        cell_type = study.folder_type(row.cell_type)
        cells = Cells.from_labels(found.labels, study.cell_types, cell_type)
        doubtful = doubts.doubtful_cells(
            image, cells, found.diameter_px, found.probabilities
        )
        result = {
            "annotator": finder.name,
            "annotator_sha256": finder.weights_sha256,
            "annotation": made_by,
            "annotator_settings": finder.settings,
            "diameter_px": round(found.diameter_px, 2),
            "corrected": False,
            "by_hand": "",
            "doubts": doubts.summary(doubtful),
        }
        # The labels are written last, so that a failure before leaves the old ones.
        cell_files.check_unchanged(study, row, planned)
        queue.write_field(study, row, image, cells, doubtful)
        if not len(cells):
            logger.warning("%s: no cell was found.", row.image)
        return cell_files.write_cells(study, row, cells, result, planned=planned)
