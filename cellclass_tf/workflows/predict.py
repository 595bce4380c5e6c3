"""Runs a trained model over many fields: labels, overlays, tables, a record of the run."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import logging

import cellclass_tf
from cellclass_tf import batch, process_state
from cellclass_tf.analysis import cell_table, mixture, report
from cellclass_tf.core.cells import UNCERTAIN_BELOW
from cellclass_tf.core.manifest import REJECTED
from cellclass_tf.core.study import MIXED, ImageRow, Study, read_merged
from cellclass_tf.drawing import overlay
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn.predictor import Predictor
from cellclass_tf.microscopy import conversion
from cellclass_tf.storage import csv_json, digests, paths, png


@dataclasses.dataclass(frozen=True)
class _Field:
    """One image to predict, and where its results go."""

    stem: str
    image: pathlib.Path
    pixel_size_um: float | None
    group: str
    output: pathlib.Path

    @property
    def labels(self) -> pathlib.Path:
        return self.output / "labels" / f"{self.stem}.tif"

    @property
    def overlay(self) -> pathlib.Path:
        return self.output / "overlays" / f"{self.stem}.png"

    @property
    def table(self) -> pathlib.Path:
        return self.output / ".parts" / f"{self.stem}.csv"


@process_state.kept()
def predict(
    model: str | os.PathLike,
    input: str | os.PathLike,
    output: str | os.PathLike,
    *,
    cell_type: str | None = None,
    pixel_size_um: float | None = None,
    score_threshold: float | None = None,
    min_probability: float = UNCERTAIN_BELOW,
    nuclei: str | int | None = None,
    cytoplasm: str | int | None = None,
    projection: str = "max",
    processes: int = 1,
    engine: str = "local",
    beam_options: str | Sequence[str] = (),
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
      nuclei: channel of raw files, as in `convert`.
      cytoplasm: the same.
      projection: of raw stacks, as in `convert`.
      processes: worker processes, each with a model of its own; with 1
        a crash takes this process along.
      engine: 'local' or 'beam'; see `batch.Engine`.
      beam_options: flags of Apache Beam.

    Returns:
      The outcome by image.

    Raises:
      InputError: if there is no model or no image.
    """
    runner = batch.Engine(engine, processes, beam_options)
    predictor = Predictor.load(model)
    if score_threshold is None:
        score_threshold = predictor.score_threshold
    output = pathlib.Path(output)
    raw_options = {
        "nuclei": nuclei,
        "cytoplasm": cytoplasm,
        "projection": projection,
    }
    if (pathlib.Path(input) / "study.yaml").exists():
        study, before = Study.open(input), batch.Outcome()
        rows = [r for r in study.rows() if cell_type in (None, r.cell_type)]
    elif cell_type:
        raise InputError(
            f"--cell_type={cell_type} chooses images of a study, and {input} is none."
        )
    else:
        study = _study_of_raw_files(output)
        engine_options = {
            "processes": processes,
            "engine": engine,
            "beam_options": beam_options,
        }
        before = conversion.convert(
            input, study, cell_type=MIXED, **raw_options, **engine_options
        )
        # Of earlier runs into this folder only what this input names is meant.
        converted = {row["image"] for rows in before.results.values() for row in rows}
        rows = [row for row in study.rows() if row.image in converted]
    rejected = [row for row in rows if row.verdict == REJECTED]
    rows = _accepted(rows, study)
    if not rows and not before.failures:
        raise InputError(
            f"{input}: no images to predict (cell_type={cell_type}), or all of them are "
            f"rejected; see the column verdict of {study.manifest_path}."
        )
    fields = [
        _field(study, row, output, pixel_size_um, is_raw=study.root.parent == output)
        for row in rows
    ]
    outcome = batch.run(
        _Work(predictor, score_threshold, min_probability),
        [_job(field, predictor, score_threshold, min_probability) for field in fields],
        description="predict",
        journal=output / ".journal" / "predict.jsonl",
        engine=runner,
    )
    good = [field for field in fields if field.stem in outcome.results]
    # Tables of an earlier run beside none of this one would be taken for its own.
    for name in _RESULTS:
        (output / name).unlink(missing_ok=True)
    if good:
        settings = {
            "input": paths.recorded_path(input),
            "cell_type": cell_type,
            "pixel_size_um": pixel_size_um,
            "score_threshold": score_threshold,
            "min_probability": min_probability,
            **raw_options,
        }
        results = {field.image: outcome.results[field.stem] for field in good}
        _write_tables(output, good, results, predictor.type_names)
        rows = [row for row in rows if study.image_path(row) in results]
        sizes = {field.image: field.pixel_size_um for field in good}
        _write_record(
            output, study, rows, results, sizes, rejected, predictor, model, settings
        )
        report.report(output)
    return batch.Outcome(
        outcome.done, outcome.skipped, before.failures | outcome.failures
    )


# What a run writes for all its fields together.
_RESULTS = (
    "cells.csv",
    cell_table.PARQUET_FILE,
    "counts.csv",
    "run.json",
    mixture.MIXTURE_FILE,
    report.REPORT_FILE,
)


class _Work:
    """Predicts one field and writes all that belongs to it."""

    def __init__(
        self, predictor: Predictor, score_threshold: float, min_probability: float
    ):
        self._predictor, self._score_threshold = predictor, score_threshold
        self._min_probability = min_probability

    def __call__(self, field: _Field) -> dict:
        image = read_merged(field.image)
        cells = self._predictor.predict(
            image,
            pixel_size_um=field.pixel_size_um,
            score_threshold=self._score_threshold,
        )
        told = {"name": field.stem, "min_probability": self._min_probability}
        size_um = field.pixel_size_um
        rows = cell_table.cell_table(cells, image, pixel_size_um=size_um, **told)
        cells.write(field.labels)
        cell_table.write_cells_csv(field.table, [rows], cells.type_names)
        picture = overlay.draw_overlay(image, cells, pixel_size_um=size_um, **told)
        png.write_png(field.overlay, picture)
        # Taken now: what is changed later must not pass for what was predicted.
        sha256 = {
            "sha256": digests.sha256_of_file(field.image),
            "labels_sha256": digests.sha256_of_file(field.labels),
        }
        counts = cell_table.count_row(cells, group=field.group, **told)
        return {"counts": counts, "sha256": sha256}


def _accepted(rows: list[ImageRow], study: Study) -> list[ImageRow]:
    """Leaves rejected images out, since a share of blurred cells is no share of cells."""
    accepted = [row for row in rows if row.verdict != REJECTED]
    if len(accepted) < len(rows):
        logging.warning(
            "%d of %d images are rejected in %s and not predicted.",
            len(rows) - len(accepted),
            len(rows),
            study.manifest_path,
        )
    return accepted


def _study_of_raw_files(output: pathlib.Path) -> Study:
    root = output / "converted"
    return Study.open(root) if (root / "study.yaml").exists() else Study.create(root)


def _field(
    study: Study,
    row: ImageRow,
    output: pathlib.Path,
    pixel_size_um: float | None,
    *,
    is_raw: bool,
) -> _Field:
    # The type of raw files is not known, so their folder's name says nothing.
    stem = row.stem.removeprefix(f"{MIXED}/") if is_raw else row.stem
    size = pixel_size_um or study.pixel_size_of(row)
    return _Field(stem, study.image_path(row), size, row.group, output)


def _job(field: _Field, predictor: Predictor, *limits: float) -> batch.Job:
    key = digests.fingerprint(
        field.image, field.pixel_size_um, field.group, predictor.fingerprint, *limits
    )
    return batch.Job(field.stem, field, key, (field.labels, field.overlay, field.table))


def _write_tables(output, fields, results, type_names) -> None:
    cell_table.join_csv(output / "cells.csv", [field.table for field in fields])
    cell_table.write_parquet(output / cell_table.PARQUET_FILE, output / "cells.csv")
    counts = [results[field.image]["counts"] for field in fields]
    cell_table.write_counts_csv(output / "counts.csv", counts, type_names)


def _write_record(
    output, study, rows, results, sizes, rejected, predictor, model, settings
) -> None:
    images = [
        {
            "image": row.image,
            **results[study.image_path(row)]["sha256"],
            "pixel_size_um": sizes[study.image_path(row)],
            "raw_file": row.raw_file,
            "raw_sha256": row.raw_sha256,
        }
        for row in rows
    ]
    record = {
        "folder": paths.recorded_path(output),
        "model": paths.recorded_path(model),
        "model_sha256": predictor.fingerprint,
        "model_metadata": predictor.metadata,
        "settings": settings,
        "study": paths.recorded_path(study.root),
        "versions": {
            "cellclass_tf": cellclass_tf.__version__,
            "numpy": np.__version__,
            "tensorflow": importlib.metadata.version("tensorflow"),
        },
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(
            "T", "seconds"
        ),
        "images": images,
        "rejected": [{"image": row.image, "reason": row.reason} for row in rejected],
    }
    csv_json.write_json(output / "run.json", record)
