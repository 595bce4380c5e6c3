"""Exports the cells of a study or of a run of predictions for other programs."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable

import numpy as np
from absl import logging

from cellclass_tf import batch
from cellclass_tf.analysis import cell_table
from cellclass_tf.analysis.interchange import coco_results, imagej, ome, qupath
from cellclass_tf.analysis.predictions import Predictions
from cellclass_tf.cells import Cells
from cellclass_tf.files import InputError
from cellclass_tf.study import Study, read_merged

SUFFIXES = {
    "imagej": ".zip",
    "geojson": ".geojson",
    "ome": ".ome.tif",
    "zarr": ".ome.zarr",
}
FORMATS = (*SUFFIXES, "coco")


@dataclasses.dataclass(frozen=True)
class _Field:
    """One field to export.

    Attributes:
      stem: 'TYPE/NAME' or 'NAME'.
      read: gives its cells.
      image: the merged image's path; None if it is not known.
      pixel_size_um: None if unknown.
    """

    stem: str
    read: Callable[[], Cells]
    image: pathlib.Path | None
    pixel_size_um: float | None

    def pixels(self) -> np.ndarray | None:
        """The merged image, if it is there."""
        known = self.image is not None and self.image.exists()
        return read_merged(self.image) if known else None


def export_cells(
    source: str | os.PathLike, output: str | os.PathLike, *, format: str
) -> batch.Outcome:
    """Writes the cells of every field in another program's format.

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
    is_study = (source / "study.yaml").exists()
    fields = _of_study(Study.open(source)) if is_study else _of_run(Predictions(source))
    if not fields:
        raise InputError(
            f"{source}: no fields with cells. Run `cellclass annotate` or `cellclass "
            "predict` first."
        )
    if format == "coco":
        return _export_coco(source, output, fields)

    def export(field: _Field) -> dict[str, int]:
        cells, path = field.read(), output / f"{field.stem}{SUFFIXES[format]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if format == "imagej":
            imagej.write_rois(path, cells)
        elif format == "geojson":
            rows = cell_table.cell_table(
                cells,
                field.pixels(),
                name=field.stem,
                pixel_size_um=field.pixel_size_um,
            )
            qupath.write_geojson(path, cells, rows, name=field.stem)
        elif format == "ome":
            ome.write_ome_tiff(path, cells, pixel_size_um=field.pixel_size_um)
        else:
            image = field.pixels()
            if image is None:
                raise InputError(
                    f"{field.stem}: OME-Zarr holds the image too, and {field.image} is "
                    "not there."
                )
            ome.write_ome_zarr(path, cells, image, pixel_size_um=field.pixel_size_um)
        return {"cells": len(cells)}

    jobs = [batch.Job(field.stem, field) for field in fields]
    return batch.run(export, jobs, description=f"export {format}")


def _export_coco(source, output, fields: list[_Field]) -> batch.Outcome:
    outcome, names = batch.Outcome(), fields[0].read().type_names

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


def _of_study(study: Study) -> list[_Field]:
    return [
        _Field(
            row.stem,
            lambda row=row: study.read_cells(row),
            study.image_path(row),
            study.pixel_size_of(row),
        )
        for row in study.accepted_rows()
        if study.cells_path(row).exists()
    ]


def _of_run(predictions: Predictions) -> list[_Field]:
    images = predictions.images
    lost = sum(not path.exists() for path, _ in images.values())
    if lost:
        logging.warning(
            "%d of %d images are not where `predict` found them; what needs them is left "
            "out.",
            lost,
            len(images),
        )
    return [
        _Field(
            stem,
            lambda stem=stem: predictions.read(stem),
            *images.get(stem, (None, None)),
        )
        for stem in predictions.stems
    ]
