"""Exports the cells of a study or of a run of predictions for other programs."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from cellclass_tf import batch, process_state
from cellclass_tf.analysis import sources, table_files
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError, first_names
from cellclass_tf.interchange import (
    imagej,
    measurements,
    ome_tiff,
    ome_zarr,
    ome_zarr_plate,
    qupath,
    spatial_data,
)
from cellclass_tf.interchange.coco import results as coco_results
from cellclass_tf.messages import logger
from cellclass_tf.storage import ledger, lock


def _write_imagej(
    path: pathlib.Path, cells: Cells, field: sources.FieldOfCells
) -> None:
    imagej.write_rois(path, cells)


def _write_geojson(
    path: pathlib.Path, cells: Cells, field: sources.FieldOfCells
) -> None:
    qupath.write_geojson(
        path, cells, measurements.rows_of(field, cells), name=field.stem
    )


def _write_ome_tiff(
    path: pathlib.Path, cells: Cells, field: sources.FieldOfCells
) -> None:
    ome_tiff.write_ome_tiff(path, cells, pixel_size_um=field.pixel_size_um)


def _write_ome_zarr(
    path: pathlib.Path, cells: Cells, field: sources.FieldOfCells
) -> None:
    image = _image_of(field, cells)
    ome_zarr.write_ome_zarr(path, cells, image, pixel_size_um=field.pixel_size_um)


def _image_of(field: sources.FieldOfCells, cells: Cells) -> np.ndarray:
    """Returns the merged image, for formats that hold the image too."""
    image = field.pixels()
    if image is None:
        raise InputError(
            f"{field.stem}: this format holds the image too, but {field.image} does not "
            "exist. Restore the image, or choose another format."
        )
    if image.shape[:2] != cells.labels.shape:
        raise InputError(
            f"{field.image} has {image.shape[:2]} px (height, width), and its label image "
            f"{cells.labels.shape}. Predict or annotate this image again."
        )
    return image


# The ending of the files of each format, and the function that writes one.
_WRITERS = {
    "imagej": (".zip", _write_imagej),
    "geojson": (".geojson", _write_geojson),
    "ome": (".ome.tif", _write_ome_tiff),
    "zarr": (".ome.zarr", _write_ome_zarr),
}


# The ending of the folder of a plate.
_PLATE = ".ome.zarr"


class _Read(NamedTuple):
    """A field that was read, with its merged image."""

    field: sources.FieldOfCells
    cells: Cells
    image: np.ndarray


def _readable(
    fields: Iterable[sources.FieldOfCells], outcome: batch.Outcome
) -> Iterator[_Read]:
    """Yields the fields whose cells and image can be read, one at a time.

    Records in `outcome` the number of cells of each field, or why it failed.
    """
    for field in fields:
        try:
            cells = field.read()
            image = _image_of(field, cells)
        except InputError as error:
            outcome.failures[field.stem] = str(error)
            continue
        outcome.done[field.stem] = {"cells": len(cells)}
        yield _Read(field, cells, image)


def _export_coco(
    source: pathlib.Path, output: pathlib.Path, fields: list[sources.FieldOfCells]
) -> batch.Outcome:
    """Writes OUTPUT/results.json, images.json and truth.json, without the images."""
    outcome, annotated = batch.Outcome(), sources.annotated_of(source)
    type_names = dict.fromkeys(fields[0].type_names)
    type_names |= dict.fromkeys(
        name for of in annotated.values() for name in of.type_names
    )

    def readable() -> Iterator[coco_results.ResultField]:
        for field in fields:
            try:
                cells = field.read()
            except InputError as error:
                outcome.failures[field.stem] = str(error)
                continue
            outcome.done[field.stem] = {"cells": len(cells)}
            true = _true_cells(annotated.get(field.stem), cells)
            yield coco_results.ResultField(field.stem, cells, true)

    names = [field.stem for field in fields]
    count = coco_results.write_results(output, readable(), names, list(type_names))
    if 0 < count < len(outcome.done):
        logger.warning(
            "%s has %d of the %d images: the others have no annotated cells, or some of "
            "unknown type. Select the results of its images before you score them.",
            output / coco_results.TRUTH_FILE,
            count,
            len(outcome.done),
        )
    return outcome


def _true_cells(field: sources.FieldOfCells | None, cells: Cells) -> Cells | None:
    """Returns the annotated cells of a field; None if its types cannot be compared."""
    if field is None:
        return None
    try:
        true = field.read()
    except InputError as error:
        logger.error("%s is left out of truth.json: %s", field.stem, error)
        return None
    if true.labels.shape != cells.labels.shape:
        logger.error(
            "%s is left out of truth.json: its annotated cells have %s px, its predicted "
            "cells %s. Predict the study's image again.",
            field.stem,
            true.labels.shape,
            cells.labels.shape,
        )
        return None
    # `evaluate` does not compare the types of such a field either.
    return true if true.type_ids.all() else None


def _export_plates(
    source: pathlib.Path, output: pathlib.Path, fields: list[sources.FieldOfCells]
) -> batch.Outcome:
    """Writes OUTPUT/PLATE.ome.zarr for each plate in the names of the groups."""
    outcome = batch.Outcome()
    plates: dict[str, dict[ome_zarr_plate.Well, list[sources.FieldOfCells]]] = {}
    for well, of_well in _wells_of(fields, outcome):
        plates.setdefault(well.plate.casefold(), {})[well] = of_well

    def in_well(
        of_well: list[sources.FieldOfCells], done: batch.Outcome
    ) -> Iterator[ome_zarr_plate.PlateField]:
        for read in _readable(of_well, done):
            yield ome_zarr_plate.PlateField(
                read.field.stem, read.cells, read.image, read.field.pixel_size_um
            )

    for _, wells in sorted(plates.items()):
        plate = next(iter(wells)).plate
        path, done = output / f"{plate}{_PLATE}", batch.Outcome()
        found = {well: in_well(of_well, done) for well, of_well in wells.items()}
        try:
            with ledger.replace(output, path, folder=True) as temporary:
                ome_zarr_plate.write_plate(temporary, plate, found)
        except InputError as error:
            stems = [field.stem for of_well in wells.values() for field in of_well]
            outcome.failures |= dict.fromkeys(stems, str(error)) | done.failures
            continue
        outcome = outcome.merge(done)
    current = {output / f"{next(iter(of)).plate}{_PLATE}" for of in plates.values()}
    return outcome.merge(_note_of_earlier(output, _PLATE, current))


def _wells_of(
    fields: list[sources.FieldOfCells], outcome: batch.Outcome
) -> list[tuple[ome_zarr_plate.Well, list[sources.FieldOfCells]]]:
    """Returns the wells and their fields; records in `outcome` fields without a well.

    Plates whose names differ only in upper and lower case count as one plate, since some
    file systems do not tell their folders apart.
    """
    found: dict[tuple[str, str, str], list[sources.FieldOfCells]] = {}
    for field in fields:
        try:
            plate, row, column = ome_zarr_plate.well_of(field.group)
        except InputError as error:
            outcome.failures[field.stem] = f"{field.stem}: {error}"
            continue
        found.setdefault((plate.casefold(), row, column), []).append(field)
    wells = []
    for of_well in found.values():
        well = ome_zarr_plate.well_of(of_well[0].group)
        groups = sorted({field.group for field in of_well})
        if len(groups) == 1:
            wells.append((well, of_well))
            continue
        reason = (
            f"the groups {', '.join(map(repr, groups))} are all the well "
            f"{well.row}{well.column} of the plate {well.plate!r}. Name them so that their "
            "plates differ in letters or digits, in the column group of images.csv."
        )
        for field in of_well:
            outcome.failures[field.stem] = f"{field.stem}: {reason}"
    return wells


def _export_spatialdata(
    source: pathlib.Path, output: pathlib.Path, fields: list[sources.FieldOfCells]
) -> batch.Outcome:
    """Writes OUTPUT/cells.zarr, which holds all fields."""
    outcome, path = batch.Outcome(), output / "cells.zarr"
    with (
        tempfile.TemporaryDirectory() as scratch,
        ledger.replace(output, path, folder=True) as temporary,
    ):
        # spatialdata creates the folder itself.
        temporary.rmdir()
        store = spatial_data.Store(temporary)

        def tables() -> Iterator[list[dict]]:
            for field, cells, image in _readable(fields, outcome):
                size = field.pixel_size_um
                store.add(field.stem, cells, image, pixel_size_um=size)
                yield measurements.rows_of(field, cells) if is_study else []

        is_study = Study.exists(source)
        table = pathlib.Path(scratch) / "cells.csv"
        table_files.write_cells_csv(table, tables(), fields[0].type_names)
        # The table that `predict` wrote is used unchanged.
        store.finish(table if is_study else Predictions(source).cells_path)
    return outcome


# The function of each format that writes all fields together.
_WRITERS_OF_ALL = {
    "coco": _export_coco,
    "plate": _export_plates,
    "spatialdata": _export_spatialdata,
}
FORMATS = (*_WRITERS, *_WRITERS_OF_ALL)


@process_state.keep()
@lock.writes("output", creates=True)
def export_cells(
    source: str | os.PathLike, output: str | os.PathLike, *, format: str
) -> batch.Outcome:
    """Writes the cells of every field in another program's format.

    Files in `output` that were changed since an earlier export are not overwritten; these
    fields fail. Files of earlier exports whose fields are no longer in `source` are kept; a
    note names them.

    Args:
      source: a study (its accepted, annotated fields) or a folder that `predict` wrote.
      output: folder to write OUTPUT/STEM.zip and so on to.
      format: 'imagej' (ZIP of ROIs), 'geojson' (QuPath; with the numbers of
        cells.csv), 'ome' (OME-TIFF of labels), 'zarr' (OME-Zarr of image and labels),
        or of all fields together 'plate' (OME-Zarr of a well plate, whose wells are named by
        the groups), 'spatialdata' (images, labels and table), or 'coco' (of predictions:
        results.json, images.json, and truth.json if the study has annotated cells).

    Returns:
      The outcome by field.

    Raises:
      InputError: if the format is unknown, or if there are no cells to export.
    """
    if format not in FORMATS:
        raise InputError(f"Unknown format {format!r}; known are {', '.join(FORMATS)}.")
    source, output = pathlib.Path(source), pathlib.Path(output)
    fields = sources.fields_of(source)
    if not fields:
        raise InputError(
            f"{source}: no fields with cells. Run `cellclass annotate` or `cellclass "
            "predict` first."
        )
    if format in _WRITERS_OF_ALL:
        return _WRITERS_OF_ALL[format](source, output, fields)

    suffix, write = _WRITERS[format]

    def export(field: sources.FieldOfCells) -> dict[str, int]:
        cells, path = field.read(), output / f"{field.stem}{suffix}"
        with ledger.replace(output, path, folder=format == "zarr") as temporary:
            write(temporary, cells, field)
        return {"cells": len(cells)}

    jobs = [batch.Job(field.stem, field) for field in fields]
    outcome = batch.run(export, jobs, description=f"export {format}")
    current = {output / f"{field.stem}{suffix}" for field in fields}
    return outcome.merge(_note_of_earlier(output, suffix, current))


def _note_of_earlier(
    output: pathlib.Path, suffix: str, current: Collection[pathlib.Path]
) -> batch.Outcome:
    """Returns an outcome with a note on files of earlier exports, if there are any.

    They are not removed, since another study or run may have been exported to the folder.

    Args:
      output: folder of the exports.
      suffix: ending of the files of this format.
      current: files of this export.
    """
    earlier = [
        path.relative_to(output).as_posix()
        for path in ledger.results_of(output)
        if path.name.endswith(suffix) and path not in current
    ]
    if not earlier:
        return batch.Outcome()
    note = (
        f"{output} still has {len(earlier)} files of earlier exports, which are not part of "
        f"this one: {first_names(earlier)}. Remove them if these fields no longer count."
    )
    return batch.Outcome(notes=(note,))
