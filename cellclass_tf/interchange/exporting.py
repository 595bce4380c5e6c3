"""Exports the cells of a study or of a run of predictions for other programs."""

from __future__ import annotations

import os
import pathlib

from cellclass_tf import batch, process_state
from cellclass_tf.analysis import cell_table, sources
from cellclass_tf.core.cells import Cells
from cellclass_tf.errors import InputError
from cellclass_tf.interchange import imagej, ome_tiff, ome_zarr, qupath
from cellclass_tf.interchange.coco import results as coco_results
from cellclass_tf.storage import ledger, lock


def _write_imagej(
    path: pathlib.Path, cells: Cells, field: sources.FieldOfCells
) -> None:
    imagej.write_rois(path, cells)


def _write_geojson(
    path: pathlib.Path, cells: Cells, field: sources.FieldOfCells
) -> None:
    rows = cell_table.cell_table(
        cells, field.pixels(), name=field.stem, pixel_size_um=field.pixel_size_um
    )
    qupath.write_geojson(path, cells, rows, name=field.stem)


def _write_ome_tiff(
    path: pathlib.Path, cells: Cells, field: sources.FieldOfCells
) -> None:
    ome_tiff.write_ome_tiff(path, cells, pixel_size_um=field.pixel_size_um)


def _write_ome_zarr(
    path: pathlib.Path, cells: Cells, field: sources.FieldOfCells
) -> None:
    image = field.pixels()
    if image is None:
        raise InputError(
            f"{field.stem}: OME-Zarr holds the image too, and {field.image} is not there."
        )
    ome_zarr.write_ome_zarr(path, cells, image, pixel_size_um=field.pixel_size_um)


# By format the ending of its files, and what writes one.
_WRITERS = {
    "imagej": (".zip", _write_imagej),
    "geojson": (".geojson", _write_geojson),
    "ome": (".ome.tif", _write_ome_tiff),
    "zarr": (".ome.zarr", _write_ome_zarr),
}
FORMATS = (*_WRITERS, "coco")


@process_state.keep()
@lock.writes("output", creates=True)
def export_cells(
    source: str | os.PathLike, output: str | os.PathLike, *, format: str
) -> batch.Outcome:
    """Writes the cells of every field in another program's format.

    What was changed in `output` since an earlier export is left alone, and fails.

    Args:
      source: a study (its accepted, annotated fields) or what `predict` wrote.
      output: folder to write OUTPUT/STEM.zip and so on to.
      format: 'imagej' (ZIP of ROIs), 'geojson' (QuPath; with the numbers of
        `cell_table`), 'ome' (OME-TIFF of labels), 'zarr' (OME-Zarr of image and labels),
        or 'coco' (of predictions: one results.json).

    Returns:
      The outcome by field.

    Raises:
      InputError: if the format is unknown, or there is nothing to export.
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
    if format == "coco":
        return _export_coco(output, fields)

    suffix, write = _WRITERS[format]

    def export(field: sources.FieldOfCells) -> dict[str, int]:
        cells, path = field.read(), output / f"{field.stem}{suffix}"
        with ledger.replace(output, path, folder=format == "zarr") as temporary:
            write(temporary, cells, field)
        return {"cells": len(cells)}

    jobs = [batch.Job(field.stem, field) for field in fields]
    return batch.run(export, jobs, description=f"export {format}")


def _export_coco(output, fields: list[sources.FieldOfCells]) -> batch.Outcome:
    outcome, names = batch.Outcome(), fields[0].type_names

    def readable():
        for field in fields:
            try:
                cells = field.read()
            except InputError as error:
                outcome.failures[field.stem] = str(error)
                continue
            outcome.done[field.stem] = {"cells": len(cells)}
            yield field.stem, cells

    coco_results.write_results(output, readable(), names)
    return outcome
