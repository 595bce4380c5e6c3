"""Runs a trained model over many fields: labels, overlays, tables, a record of the run."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib.metadata
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

import cellclass_tf
from cellclass_tf import batch, process_state
from cellclass_tf.analysis import cell_table, mixture, raw_counts, report
from cellclass_tf.analysis.conditions import conditions_of
from cellclass_tf.annotation.annotators import by_name
from cellclass_tf.core.cells import UNCERTAIN_BELOW, Cells
from cellclass_tf.core.predictions import (
    CELLS_FILE,
    COUNTS_FILE,
    labels_path,
    overlay_path,
    unlike_path,
)
from cellclass_tf.core.run_record import (
    BY_NETWORK,
    RUN_FILE,
    PredictedImage,
    RejectedImage,
    RunRecord,
)
from cellclass_tf.core.study import ImageRow, Study, read_merged
from cellclass_tf.drawing import overlay
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn.predictor import Predictor
from cellclass_tf.microscopy import contrast
from cellclass_tf.storage import csv_json, digests, ledger, lock, paths, png
from cellclass_tf.workflows import unlike_cells
from cellclass_tf.workflows.chosen_fields import Chosen, ChosenField, choose_fields
from cellclass_tf.workflows.outlining import Outlining, make_outlining

# What a run writes for all its fields together.
_RESULTS = (
    CELLS_FILE,
    cell_table.PARQUET_FILE,
    COUNTS_FILE,
    RUN_FILE,
    mixture.MIXTURE_FILE,
    report.REPORT_FILE,
)


@process_state.keep()
@lock.writes("output", creates=True)
@batch.takes_engine
def predict(
    model: str | os.PathLike,
    input: str | os.PathLike,
    output: str | os.PathLike,
    *,
    cell_type: str | None = None,
    pixel_size_um: float | None = None,
    score_threshold: float | None = None,
    min_probability: float = UNCERTAIN_BELOW,
    outlines: str | os.PathLike = BY_NETWORK,
    weights: str | os.PathLike = "cyto3",
    diameter: float | None = None,
    flow_threshold: float = 0.4,
    cellprob_threshold: float = 0.0,
    device: str = "auto",
    bfloat16: bool = False,
    label_components: bool = False,
    answer_anyway: bool = False,
    nuclei: str | int | None = None,
    cytoplasm: str | int | None = None,
    projection: str = "max",
    allow_lossy: bool = False,
    engine: batch.Engine,
) -> batch.Outcome:
    """Outlines and names the cells of many fields.

    Writes labels/STEM.tif, overlays/STEM.png, cells.csv and cells.parquet (see
    `cell_table`), counts.csv (see `count_row`), mixture.json (see `mixture`), report.html
    (see `report`) and run.json into `output`.

    Args:
      model: folder of an exported model.
      input: a study; or merged images or raw files (a file or a folder), which are
        converted to OUTPUT/converted first.
      output: folder of the results; a run that was killed goes on there.
      cell_type: of a study, only the images of this folder (for example 'mixed').
      pixel_size_um: of the images; overrides what is known of them.
      score_threshold: cells of a lower score are left out; None for that with which the
        model missed and invented the fewest cells of its held-out fields.
      min_probability: calls of a lower probability are 'uncertain': in the column
        `call` of cells.csv, counted in counts.csv, and drawn dashed.
      outlines: who outlines the cells, which the network then names: 'network' itself,
        an annotator ('cellpose' or 'watershed'), or a folder of label images that any
        program made, as `import_masks` finds and reads them.
      weights: of cellpose, as `model` of `annotate`.
      diameter: of the annotator: of a typical cell in pixels; None to estimate it for
        each acquisition group.
      flow_threshold: of cellpose.
      cellprob_threshold: of cellpose.
      device: of cellpose.
      bfloat16: whether cellpose 4 computes in bfloat16, see `CellposeAnnotator`.
      label_components: of a folder: whether each piece of a label image is a cell.
      answer_anyway: whether shares are reported of fields that do not resemble the fields
        that the model was trained on.
      nuclei: channel of raw files, as in `convert`.
      cytoplasm: the same.
      projection: of raw stacks, as in `convert`.
      allow_lossy: of raw files, as in `convert`.
      processes: worker processes, each with a model of its own; with 1
        a crash takes this process along.
      engine: 'local' or 'beam', or a `batch.Engine`.
      beam_options: flags of Apache Beam.

    Returns:
      The outcome by image.

    Raises:
      InputError: if there is no model or no image.
    """
    predictor = Predictor.load(model)
    output = pathlib.Path(output)
    conversion_options = {
        "nuclei": nuclei,
        "cytoplasm": cytoplasm,
        "projection": projection,
        "allow_lossy": allow_lossy,
    }
    chosen = choose_fields(
        input,
        output,
        cell_type=cell_type,
        pixel_size_um=pixel_size_um,
        conversion_options=conversion_options,
        engine=engine,
    )
    outlining = make_outlining(
        outlines,
        predictor,
        chosen,
        by_name.Settings(
            weights, diameter, flow_threshold, cellprob_threshold, device, bfloat16
        ),
        score_threshold=score_threshold,
        label_components=label_components,
        journal=batch.Journal(output / ".journal" / "diameters.jsonl"),
        engine=engine,
    )
    journal = batch.Journal(output / ".journal" / "predict.jsonl")
    before = {
        stem: _told_of_image(result).get("labels_sha256", "")
        for stem, result in journal.results().items()
    }
    work = _FieldPrediction(predictor, outlining, output, min_probability, before)
    jobs, without_outlines = [], {}
    for field in chosen.fields:
        try:
            jobs.append(work.job(field))
        except InputError as error:
            without_outlines[field.stem] = str(error)
    outcome = batch.run(
        work, jobs, description="predict", journal=journal, engine=engine
    )
    outcome.failures.update(without_outlines)
    # What an earlier run wrote would be taken for what this one did.
    for name in _RESULTS:
        ledger.remove(output, output / name)
    for stem in outcome.failures:
        work.forget(stem)
    notes = outlining.notes
    good = [field for field in chosen.fields if field.stem in outcome.results]
    if good:
        settings = {
            "input": paths.recorded_path(input),
            "cell_type": cell_type,
            "pixel_size_um": pixel_size_um,
            "score_threshold": outlining.score_threshold,
            "min_probability": min_probability,
            "answer_anyway": answer_anyway,
            **conversion_options,
        }
        work.write_tables(good, outcome.results, _conditions_of(chosen.study))
        record = _record(
            predictor, model, output, outlining, chosen, outcome.results, settings
        )
        text = csv_json.json_text(record.as_content())
        ledger.write_text(output, output / RUN_FILE, text)
        report.report(output)
        notes = (*outlining.notes, *_told_of_unlike(record, answer_anyway))
    return batch.Outcome(
        outcome.done,
        outcome.skipped,
        chosen.failures | outcome.failures,
        (*chosen.notes, *notes),
    )


@dataclasses.dataclass(frozen=True)
class _FieldPrediction:
    """Predicts fields one by one, and writes all that belongs to each."""

    predictor: Predictor
    outlining: Outlining
    output: pathlib.Path
    min_probability: float
    # SHA-256 of the label images that an earlier version wrote, by field.
    before: Mapping[str, str]

    def job(self, field: ChosenField) -> batch.Job:
        key = digests.fingerprint(
            field.image,
            field.pixel_size_um,
            field.row.group,
            field.row.place,
            field.row.time,
            _limits_of(field.row),
            self.predictor.fingerprint,
            self.outlining.score_threshold,
            self.min_probability,
            *self.outlining.version(field),
        )
        outputs = self._files(field.stem)
        return batch.Job(field.stem, field, key, outputs)

    def __call__(self, field: ChosenField) -> dict[str, Any]:
        labels, picture_path, table = self._files(field.stem)
        own = (self.before.get(field.stem, ""),)
        # Before the network has its minutes, and again when the file is replaced.
        ledger.check_own(self.output, labels, own=own)
        image, size_um = read_merged(field.image), field.pixel_size_um
        cells, outlined = self.outlining.find(self.predictor, field, image)
        told = {"name": field.stem, "min_probability": self.min_probability}
        row = field.row
        of = {"group": row.group, "scene": row.place, "time": row.time}
        rows = cell_table.cell_table(
            cells, image, pixel_size_um=size_um, limits=_limits_of(row), **of, **told
        )
        content = cells.encode()
        with ledger.replace(self.output, labels, own=own) as temporary:
            temporary.write_bytes(content)
        cell_table.write_cells_csv(table, [rows], cells.type_names)
        picture = overlay.draw_overlay(image, cells, pixel_size_um=size_um, **told)
        ledger.write_picture(self.output, picture_path, png.encode_png(picture))
        # Taken now: what is changed later must not pass for what was predicted.
        sha256 = {
            "sha256": digests.sha256_of_file(field.image),
            "labels_sha256": hashlib.sha256(content).hexdigest(),
            **outlined,
        }
        counts = cell_table.count_row(cells, **of, **told)
        judgement = self._compare(field, image, cells)
        return {"counts": counts, "image": sha256 | judgement}

    def _compare(self, field: ChosenField, image, cells: Cells) -> dict[str, Any]:
        """Says whether the field resembles the training fields, and shows why not."""
        predictor, size_um = self.predictor, field.pixel_size_um
        found = predictor.judge(image, cells, pixel_size_um=size_um)
        path = unlike_path(self.output, field.stem)
        if found is None or not (found.reasons and len(cells)):
            path.unlink(missing_ok=True)
        else:
            scale, known = predictor.scale_for(size_um), predictor.familiarity
            shown = unlike_cells.draw(
                image, cells, found.distances, known, scale, field.stem
            )
            ledger.write_picture(self.output, path, png.encode_png(shown))
        if found is None:
            return {}
        return {"compared": True, "unlike": list(found.reasons)}

    def write_tables(
        self,
        fields: Sequence[ChosenField],
        results: Mapping[str, Any],
        conditions: Mapping[str, str],
    ) -> None:
        """Writes the tables of all fields, from those of each."""
        cells_csv = self.output / CELLS_FILE
        parts = [self._files(field.stem)[2] for field in fields]
        with ledger.replace(self.output, cells_csv, overwrite=True) as temporary:
            cell_table.join_csv(temporary, parts, conditions)
        parquet = self.output / cell_table.PARQUET_FILE
        with ledger.replace(self.output, parquet, overwrite=True) as temporary:
            cell_table.write_parquet(temporary, cells_csv)
        # An earlier version, whose run goes on, counted less.
        nothing = dict.fromkeys(cell_table.count_columns(self.predictor.type_names))
        counts = [nothing | results[field.stem]["counts"] for field in fields]
        counts_csv = self.output / COUNTS_FILE
        with ledger.replace(self.output, counts_csv, overwrite=True) as temporary:
            cell_table.write_counts_csv(temporary, counts, self.predictor.type_names)

    def forget(self, stem: str) -> None:
        """Removes what an earlier run wrote for a field; not what a person changed."""
        labels, picture, table = self._files(stem)
        if ledger.is_own(self.output, labels, (self.before.get(stem, ""),)):
            labels.unlink()
            picture.unlink(missing_ok=True)
        unlike_path(self.output, stem).unlink(missing_ok=True)
        table.unlink(missing_ok=True)

    def _files(self, stem: str) -> tuple[pathlib.Path, pathlib.Path, pathlib.Path]:
        """Label image, overlay, and the field's part of cells.csv."""
        table = self.output / ".parts" / f"{stem}.csv"
        return labels_path(self.output, stem), overlay_path(self.output, stem), table


def _conditions_of(study: Study) -> Mapping[str, str]:
    """A table that a person is still writing does not undo the predictions."""
    try:
        return conditions_of(study)
    except InputError as error:
        logging.warning("The column condition stays empty: %s", error)
        return {}


def _limits_of(row: ImageRow) -> dict[str, raw_counts.Limits] | None:
    limits = contrast.limits_of(row)
    return limits and dict(zip(("nuclei", "cytoplasm"), limits, strict=True))


def _told_of_image(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a field's result holds for run.json; earlier versions had hashes alone."""
    return result.get("image") or result.get("sha256", {})


def _told_of_unlike(record: RunRecord, answer_anyway: bool) -> tuple[str, ...]:
    unlike = [image for image in record.images if image.unlike]
    if not unlike:
        return ()
    shown = "; ".join(f"{image.stem} ({image.unlike[0]})" for image in unlike[:3])
    more = f" and {len(unlike) - 3} more" if len(unlike) > 3 else ""
    told = (
        f"{len(unlike)} of {len(record.images)} fields do not resemble the training "
        f"fields: {shown}{more}."
    )
    stems = [image.stem for image in record.images]
    if mixture.why_withheld(stems, record, answer_anyway):
        told += " Their shares are withheld; see report.html, or use --answer_anyway."
    return (told,)


def _record(
    predictor: Predictor,
    model: str | os.PathLike,
    output: pathlib.Path,
    outlining: Outlining,
    chosen: Chosen,
    results: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> RunRecord:
    now = datetime.datetime.now(datetime.timezone.utc)
    return RunRecord(
        folder=paths.recorded_path(output),
        study=paths.recorded_path(chosen.study.root),
        model=paths.recorded_path(model),
        model_sha256=predictor.fingerprint,
        model_metadata=predictor.metadata,
        outlines=outlining.record,
        settings=settings,
        versions={
            "cellclass_tf": cellclass_tf.__version__,
            "numpy": np.__version__,
            "tensorflow": importlib.metadata.version("tensorflow"),
        },
        finished=now.isoformat("T", "seconds"),
        images=tuple(
            PredictedImage(
                field.stem,
                field.row.image,
                **_told_of_image(results[field.stem]),
                pixel_size_um=field.pixel_size_um,
                raw_file=field.row.raw_file,
                raw_sha256=field.row.raw_sha256,
            )
            for field in chosen.fields
            if field.stem in results
        ),
        rejected=tuple(RejectedImage(row.image, row.reason) for row in chosen.rejected),
    )
