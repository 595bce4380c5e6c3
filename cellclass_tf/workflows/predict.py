"""Runs a trained model on many fields, and writes labels, overlays, tables and a report."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import cellclass_tf
from cellclass_tf import batch, process_state
from cellclass_tf.analysis import mixture, report, table_files
from cellclass_tf.analysis.conditions import conditions_of
from cellclass_tf.analysis.evaluation import EVALUATION_FIELDS_FILE, EVALUATION_FILE
from cellclass_tf.annotation.annotators import by_name
from cellclass_tf.core.cells import UNCERTAIN_BELOW, Cells
from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.core.predictions import CELLS_FILE, COUNTS_FILE
from cellclass_tf.core.run_record import (
    BY_NETWORK,
    RUN_FILE,
    PredictedImage,
    RejectedImage,
    RunRecord,
)
from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn.predictor import Predictor
from cellclass_tf.messages import logger
from cellclass_tf.microscopy.merge import merge_channels
from cellclass_tf.microscopy.readers import Projection
from cellclass_tf.storage import csv_json, ledger, lock, paths
from cellclass_tf.workflows import tile_overlaps
from cellclass_tf.workflows.chosen_fields import Chosen, ChosenField, choose_fields
from cellclass_tf.workflows.field_prediction import FieldPrediction, image_entry
from cellclass_tf.workflows.outlining import Outlining, make_outlining

# Files that a run writes for all its fields together.
_RESULTS = (
    CELLS_FILE,
    table_files.PARQUET_FILE,
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
    input: str | os.PathLike | np.ndarray | Micrograph | Sequence[Any],
    output: str | os.PathLike | None = None,
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
    projection: Projection = "max",
    allow_lossy: bool = False,
    engine: batch.Engine,
) -> batch.Outcome | Cells | list[Cells]:
    """Outlines the cells of images, and classifies them.

    For files it writes labels/STEM.tif, overlays/STEM.png, cells.csv and cells.parquet (see
    `cell_table`), counts.csv (see `count_row`), mixture.json (see `mixture`), report.html
    (see `report`) and run.json into `output`. If the raw files hold positions of the
    microscope's stage, cells in overlapping tiles are counted once. Scores that `evaluate`
    wrote there are removed if the cells have changed. For images in memory it writes nothing
    and returns their cells: `cells = cc.predict("model", image)`.

    Args:
      model: folder of an exported model.
      input: a study, or merged images or raw files (a file or a folder), which are
        converted to OUTPUT/converted first. In Python also a merged image, (H, W, 3) uint8
        with red 0, green cytoplasm and blue nuclei, or a `Micrograph`, or a list of these.
      output: folder for the results of one selection of fields. A run that was killed
        continues there.
      cell_type: for a study: predict only the images of this folder, such as 'mixed', or
        'all' images. If not given, the mixed fields, or all if there are none.
      pixel_size_um: width of a pixel in µm; replaces what the files record.
      score_threshold: leave out cells with a lower score. If not given, the threshold with
        which the model missed and invented the fewest cells of its held-out fields.
      min_probability: calls of a lower probability are marked as uncertain, in the column
        `call` of cells.csv, in counts.csv, and by dashed outlines.
      outlines: what outlines the cells, which the network then classifies: 'network',
        'cellpose', 'watershed', or a folder of label images of any program, in the form that
        `import --format=masks` reads.
      weights: for outlines by cellpose: name of a model, or path to its weights.
      diameter: for outlines by cellpose or watershed: diameter of a typical cell in pixels;
        estimated for each dish if not given.
      flow_threshold: largest flow error of a cell that cellpose keeps; a higher value keeps
        more cells, also poor ones.
      cellprob_threshold: cellpose's threshold for pixels of cells; a lower value finds more
        and larger cells.
      device: device that cellpose runs on: 'auto' (a GPU if there is one), 'cpu', 'cuda',
        'cuda:1' or 'mps'.
      bfloat16: compute in bfloat16, with cellpose 4 only: half the memory, and faster where
        the hardware multiplies it.
      label_components: for a folder of label images: treat each connected piece as a cell
        of its own, as needed for black-and-white masks.
      answer_anyway: report proportions also for fields that do not resemble the training
        fields.
      nuclei: for raw files: name or index of the channel with the nuclei; found by its name
        if not given.
      cytoplasm: for raw files: name or index of the channel with the cytoplasm; found by its
        name if not given.
      projection: for raw files: how a Z stack becomes one plane: 'max' takes the brightest
        value at each pixel, 'best' the sharpest plane, 'none' refuses stacks.
      allow_lossy: for raw files: also read JPEG and other compression that has changed pixel
        values.
      processes: number of worker processes, each with a model of its own. With 1, a crash
        in a library ends the command.
      engine: what runs the jobs; see docs/scaling.md.
      beam_options: flags for Apache Beam, with commas between them, such as
        '--runner=FlinkRunner,--parallelism=8'.

    Returns:
      For files the outcome by image; for one image in memory its cells; for a list of
      images a list of cells.

    Raises:
      InputError: if there is no model or no image, `output` is a study or has the results
        of another selection of fields, or images in memory are given with `output`,
        `cell_type` or `outlines`.
    """
    predictor = Predictor.load(model)
    if not isinstance(input, str | os.PathLike):
        if output is not None or cell_type is not None or outlines != BY_NETWORK:
            raise InputError(
                "For images in memory, `output`, `cell_type` and `outlines` have no "
                "meaning; save the images and give their folder as `input`, or call "
                "Predictor.name for given outlines."
            )
        is_one = isinstance(input, np.ndarray | Micrograph)
        images: Any = [input] if is_one else input
        found = [
            predictor.predict(
                image, pixel_size_um=size_um, score_threshold=score_threshold
            )
            for image, size_um in _merged(images, pixel_size_um, nuclei, cytoplasm)
        ]
        return found[0] if is_one else found
    if output is None:
        raise InputError("Expected `output`, a folder for the results; it is missing.")
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
    labels_before = {
        stem: image_entry(result).get("labels_sha256", "")
        for stem, result in journal.results().items()
    }
    work = FieldPrediction(predictor, outlining, output, min_probability, labels_before)
    outcome = _predict_fields(work, chosen.fields, journal, engine)
    cells_before = _hash_of_cells(output)
    # Results of an earlier run must not be mistaken for those of this run.
    for name in _RESULTS:
        ledger.remove(output, output / name)
    for stem in outcome.failures:
        work.forget(stem)
    notes = outlining.notes
    good = [field for field in chosen.fields if field.stem in outcome.results]
    overlaps, repeated = tile_overlaps.Overlaps({}), 0
    if good:
        overlaps = tile_overlaps.find(
            good,
            journal=batch.Journal(output / ".journal" / "overlaps.jsonl"),
            engine=engine,
        )
        repeated = work.write_tables(
            good, outcome.results, _conditions_of(chosen.study), overlaps
        )
    if _hash_of_cells(output) != cells_before:
        # The report would show the scores of other cells.
        for name in (EVALUATION_FILE, EVALUATION_FIELDS_FILE):
            ledger.remove(output, output / name)
    if good:
        settings = {
            "input": paths.recorded_path(input),
            "cell_type": chosen.cell_type,
            "pixel_size_um": pixel_size_um,
            "score_threshold": outlining.score_threshold,
            "min_probability": min_probability,
            "answer_anyway": answer_anyway,
            **conversion_options,
        }
        record = _record(
            predictor, model, output, outlining, chosen, outcome.results, settings
        )
        record = dataclasses.replace(record, overlap_doubt=overlaps.doubt)
        text = csv_json.json_text(record.as_content())
        ledger.write_text(output, output / RUN_FILE, text)
        report.report(output)
        notes = (
            *outlining.notes,
            *_scale_notes(good, predictor.metadata.pixel_size_um),
            *_unlike_notes(record, answer_anyway),
            *tile_overlaps.notes(repeated, overlaps),
        )
    return batch.Outcome(
        outcome.done,
        outcome.skipped,
        {**chosen.failures, **outcome.failures},
        (*chosen.notes, *notes),
    )


def _predict_fields(
    work: FieldPrediction,
    fields: Iterable[ChosenField],
    journal: batch.Journal,
    engine: batch.Engine,
) -> batch.Outcome:
    """Predicts fields; a field fails if the file with its outlines cannot be found."""
    jobs, failures = [], {}
    for field in fields:
        try:
            jobs.append(work.job(field))
        except InputError as error:
            failures[field.stem] = str(error)
    outcome = batch.run(
        work, jobs, description="predict", journal=journal, engine=engine
    )
    outcome.failures.update(failures)
    return outcome


def _hash_of_cells(output: pathlib.Path) -> str:
    """Returns the hash of the cells in cells.csv; '' if there is no such file."""
    path = output / CELLS_FILE
    return table_files.sha256_of_cells(path) if path.exists() else ""


def _scale_notes(
    fields: Sequence[ChosenField], trained_um: float | None
) -> tuple[str, ...]:
    """Returns a note if pixel sizes of fields or of the training images are unknown."""
    unknown = [field for field in fields if field.pixel_size_um is None]
    known = len(fields) - len(unknown)
    if trained_um is None and known:
        note = (
            f"The pixel size of {known} of {len(fields)} fields is not used, since that of "
            "the training images is not known: cells have to be as many pixels wide as in "
            "training."
        )
        return (note,)
    if not unknown or trained_um is None:
        return ()
    note = (
        f"The pixel size of {len(unknown)} of {len(fields)} fields is not known; the pixel "
        f"size of the training images, {trained_um:g} µm, was assumed. Set --pixel_size_um "
        "if it differs."
    )
    return (note,)


def _merged(
    images: Iterable[np.ndarray | Micrograph],
    pixel_size_um: float | None,
    nuclei: str | int | None,
    cytoplasm: str | int | None,
) -> Iterator[tuple[np.ndarray, float | None]]:
    """Yields merged images with their pixel sizes; merges the channels of micrographs."""
    for image in images:
        if isinstance(image, Micrograph):
            merged = merge_channels(image, nuclei=nuclei, cytoplasm=cytoplasm)
            yield merged, pixel_size_um or image.pixel_size_um
        else:
            yield image, pixel_size_um


def _conditions_of(study: Study) -> Mapping[str, str]:
    """Reads conditions.csv; an invalid table gives a warning, not a failed run."""
    try:
        return conditions_of(study)
    except InputError as error:
        logger.warning("The column condition stays empty: %s", error)
        return {}


def _unlike_notes(record: RunRecord, answer_anyway: bool) -> tuple[str, ...]:
    unlike = [image for image in record.images if image.unlike]
    if not unlike:
        return ()
    shown = "; ".join(f"{image.stem} ({image.unlike[0]})" for image in unlike[:3])
    more = f" and {len(unlike) - 3} more" if len(unlike) > 3 else ""
    note = (
        f"{len(unlike)} of {len(record.images)} fields do not resemble the training "
        f"fields: {shown}{more}."
    )
    stems = [image.stem for image in record.images]
    if mixture.why_withheld(stems, record, answer_anyway):
        note += " Proportions are withheld; see report.html, or set --answer_anyway."
    return (note,)


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
                **image_entry(results[field.stem]),
                pixel_size_um=field.pixel_size_um,
                raw_file=field.row.raw_file,
                raw_sha256=field.row.raw_sha256,
            )
            for field in chosen.fields
            if field.stem in results
        ),
        rejected=tuple(RejectedImage(row.image, row.reason) for row in chosen.rejected),
    )
