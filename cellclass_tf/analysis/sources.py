"""Lists fields with cells: the annotated fields of a study, or the fields of a run."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cellclass_tf.analysis import table_files
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.study import ImageRow, Study, read_merged
from cellclass_tf.errors import InputError
from cellclass_tf.messages import logger
from cellclass_tf.storage import digests

# SHA-256 of the merged image and of the raw file of a field; '' if unknown.
Digests = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class FieldOfCells:
    """A field with cells.

    Attributes:
      stem: name of the field, 'TYPE/NAME' or 'NAME'.
      read: function that reads its cells.
      image: path of the merged image; None if unknown.
      pixel_size_um: width of a pixel in µm; None if unknown.
      type_names: names of the types, in class order.
      group: acquisition group, such as a dish or well; '' if unknown.
      digests: SHA-256 of the merged image and of its raw file, as recorded.
      is_predicted: whether the cells were predicted in the recorded merged image, so that
        they do not belong to any other one.
      row: its row in images.csv; None for a field of a run.
      table: function that returns its rows of cells.csv, given the number of cells, once; None
        for a field of a study.
    """

    stem: str
    read: Callable[[], Cells]
    image: pathlib.Path | None
    pixel_size_um: float | None
    type_names: tuple[str, ...]
    group: str = ""
    digests: Digests = ("", "")
    is_predicted: bool = False
    row: ImageRow | None = None
    table: Callable[[int], list[dict[str, Any]]] | None = None

    def pixels(self) -> np.ndarray | None:
        """Reads the merged image; returns None if there is no file.

        Raises:
          InputError: if the file is not a valid image, or not the one that was predicted.
        """
        if self.image is None or not os.path.lexists(self.image):
            return None
        recorded = self.digests[0] if self.is_predicted else ""
        if recorded and digests.sha256_of_file(self.image) != recorded:
            raise InputError(
                f"{self.image} is not the image in which the cells of {self.stem} were "
                "predicted (its SHA-256 is not that in run.json): it was converted anew or "
                "edited since. Run `cellclass predict` again, or restore the image."
            )
        return read_merged(self.image)

    def pixels_of(self, cells: Cells) -> np.ndarray:
        """Reads the merged image of cells of this field.

        Raises:
          InputError: if there is no file, if it is not a valid image or not the one that
            was predicted, or if it does not have the size of the label image.
        """
        pixels = self.pixels()
        if pixels is None:
            raise InputError(
                f"{self.stem}: its merged image is missing (expected "
                f"{self.image or 'a path, but none is recorded'}). Move the study back to "
                "where it was when `predict` ran, or run `cellclass predict` again."
            )
        if pixels.shape[:2] != cells.labels.shape:
            raise InputError(
                f"{self.image}: expected the size of its label image, "
                f"{cells.labels.shape[0]} x {cells.labels.shape[1]} px; got "
                f"{pixels.shape[0]} x {pixels.shape[1]}. Annotate or predict it again."
            )
        return pixels


def source_of(
    predictions: str | os.PathLike | None, study: str | os.PathLike | None
) -> pathlib.Path:
    """Returns the folder that was given, of predictions or of a study.

    Raises:
      InputError: if none or both of them were given.
    """
    source = predictions or study
    if not source or (predictions and study):
        raise InputError("Expected either --study or --predictions.")
    return pathlib.Path(source)


def are_other_images(one: Digests, other: Digests) -> bool:
    """Returns whether two fields certainly show different images.

    An image that was converted anew is the same image, since its raw file is the same. If
    one side records neither hash that the other one records, nothing is certain.

    Args:
      one: SHA-256 of the merged image and of the raw file of a field; '' if unknown.
      other: those of the other field.
    """
    pairs = zip(one, other, strict=True)
    known = [a == b for a, b in pairs if a and b]
    return bool(known) and not any(known)


def check_types(a: Sequence[str], b: Sequence[str], places: tuple[str, str]) -> None:
    """Checks that the cells of two sides can be compared by type.

    Gives a warning if one side has types that the other one lacks.

    Args:
      a: names of the types of one side.
      b: names of the types of the other side.
      places: where the types of either side are listed, for messages.

    Raises:
      InputError: if two types differ only in upper and lower case.
    """
    for one, other in itertools.product(a, b):
        if one != other and one.casefold() == other.casefold():
            raise InputError(
                f"{places[0]} has the type {one!r}, and {places[1]} has {other!r}: cells of "
                "these types would count as different. Give the type the same name in both."
            )
    for own, place, others in ((a, places[0], b), (b, places[1], a)):
        if missing := [name for name in own if name not in others]:
            logger.warning(
                "Only %s has the types %s: their cells count as cells of another type.",
                place,
                ", ".join(missing),
            )


def fields_of(source: str | os.PathLike) -> list[FieldOfCells]:
    """Returns the accepted, annotated fields of a study, or the fields of a run.

    Args:
      source: folder of a study, or output folder of `predict`.

    Raises:
      InputError: if the folder is neither.
    """
    source = pathlib.Path(source)
    if Study.exists(source):
        return _of_study(Study.open(source))
    return _of_run(Predictions(source))


def stems_of(source: str | os.PathLike) -> list[str]:
    """Returns the names of all images of a study, also without cells, or of a run.

    Raises:
      InputError: if the folder is neither.
    """
    if Study.exists(source):
        return [row.stem for row in Study.open(source).rows()]
    return list(Predictions(source).stems)


def annotated_of(source: str | os.PathLike) -> dict[str, FieldOfCells]:
    """Returns the fields of a run that have annotated cells in the study of its images.

    Args:
      source: output folder of `predict`; a study has no such fields.

    Returns:
      {stem of the predicted field: the field of the study}.

    Raises:
      InputError: if run.json or study.yaml is not valid.
    """
    if Study.exists(source):
        return {}
    predictions = Predictions(source)
    record = predictions.record_if_any
    study = record.find_study(predictions.folder)
    if study is None:
        return {}
    annotated = {row.image: row for row in study.rows() if study.has_cells(row)}
    return {
        entry.stem: _of_row(study, annotated[entry.image])
        for entry in record.images
        if entry.image in annotated
    }


def _of_study(study: Study) -> list[FieldOfCells]:
    rows = study.accepted_rows()
    return [_of_row(study, row) for row in rows if study.has_cells(row)]


def _of_row(study: Study, row: ImageRow) -> FieldOfCells:
    return FieldOfCells(
        row.stem,
        functools.partial(study.read_cells, row),
        _image_path(study, row),
        study.pixel_size_of(row),
        tuple(study.cell_types),
        row.group,
        (row.image_sha256, row.raw_sha256),
        row=row,
    )


def _image_path(study: Study, row: ImageRow) -> pathlib.Path | None:
    """Returns the image's path; None if its name is invalid, which `read` reports."""
    with contextlib.suppress(InputError):
        return study.image_path(row)
    return None


def _of_run(predictions: Predictions) -> list[FieldOfCells]:
    images = predictions.images()
    lost = sum(not path.exists() for path, _ in images.values())
    if lost:
        logger.warning(
            "%d of %d images are no longer where they were when `predict` ran; results "
            "that need the images leave them out.",
            lost,
            len(images),
        )
    groups = {row["image"]: row.get("group") or "" for row in predictions.count_rows}
    fields, rows = [], table_files.FieldRows(predictions.cells_path)
    for stem in predictions.stems:
        image, pixel_size_um = images.get(stem, (None, None))
        entry = predictions.recorded_images.get(stem)
        fields.append(
            FieldOfCells(
                stem,
                functools.partial(predictions.read, stem),
                image,
                pixel_size_um,
                predictions.type_names,
                groups[stem],
                (entry.sha256, entry.raw_sha256) if entry else ("", ""),
                is_predicted=True,
                table=functools.partial(rows.of, stem),
            )
        )
    return fields
