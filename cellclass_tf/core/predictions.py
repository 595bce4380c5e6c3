"""Predictions: reads the folder that `predict` writes."""

from __future__ import annotations

import csv
import functools
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from cellclass_tf.core.cells import UNKNOWN, Cells
from cellclass_tf.core.label_files import read_labels
from cellclass_tf.core.run_record import RUN_FILE, PredictedImage, RunRecord
from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json, digests, paths

CELLS_FILE, COUNTS_FILE = "cells.csv", "counts.csv"
LABELS_FOLDER, OVERLAYS_FOLDER = "labels", "overlays"
UNLIKE_FOLDER = "unlike"


def labels_path(folder: pathlib.Path, stem: str) -> pathlib.Path:
    """Returns the path of the label image of a field in a prediction folder."""
    return folder / LABELS_FOLDER / f"{stem}.tif"


def overlay_path(folder: pathlib.Path, stem: str) -> pathlib.Path:
    """Returns the path of the overlay of a field in a prediction folder."""
    return folder / OVERLAYS_FOLDER / f"{stem}.png"


def unlike_path(folder: pathlib.Path, stem: str) -> pathlib.Path:
    """Returns the path of the picture of cells that look unlike the training cells."""
    return folder / UNLIKE_FOLDER / f"{stem}.png"


class Predictions:
    """The predicted cells of many fields.

    cells.csv is read once, into a few numbers per cell. Label images are read one at a
    time, on demand.

    Attributes:
      folder: path of the prediction folder.
      cells_path: path of cells.csv.
      type_names: names of the cell types, in class order.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        """Opens a prediction folder.

        Args:
          folder: the folder with cells.csv and labels/STEM.tif.

        Raises:
          InputError: if there is no cells.csv, or if it lacks columns.
        """
        self.folder = pathlib.Path(folder)
        self.cells_path = self.folder / CELLS_FILE
        if not self.cells_path.exists():
            raise InputError(
                f"{self.cells_path} does not exist: {self.folder} holds no predictions. "
                "Make them with `cellclass predict`."
            )
        with open(self.cells_path, encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
        missing = {"image", "cell", "cell_type", "score"} - set(header)
        types = [n.removeprefix("p_") for n in header if n.startswith("p_")]
        if missing or not types:
            raise InputError(
                f"{self.cells_path}: expected the columns image, cell, cell_type, score "
                f"and p_TYPE for each type; got {', '.join(header) or 'an empty file'}. "
                "Run `cellclass predict` again."
            )
        self.type_names: tuple[str, ...] = tuple(types)

    @classmethod
    def open(cls, predictions: str | os.PathLike | Predictions) -> Predictions:
        """Opens the predictions in a folder; predictions are returned as they are.

        Raises:
          InputError: as when the class is called.
        """
        if isinstance(predictions, Predictions):
            return predictions
        return cls(predictions)

    @classmethod
    def exist(cls, folder: str | os.PathLike) -> bool:
        """Returns whether a folder holds predictions."""
        return (pathlib.Path(folder) / CELLS_FILE).is_file()

    @functools.cached_property
    def count_rows(self) -> list[dict[str, str]]:
        """The rows of counts.csv, one per predicted image, sorted by image.

        Raises:
          InputError: if the file does not exist, or if it lacks columns or numbers.
        """
        path = self.folder / COUNTS_FILE
        if not path.exists():
            raise InputError(
                f"{path} does not exist, and it lists the predicted images. Run "
                "`cellclass predict` again."
            )
        rows = csv_json.read_csv(path)
        counts = ("cells", *(f"n_{n}" for n in self.type_names), "unknown", "uncertain")
        for number, row in enumerate(rows, start=2):
            is_whole = all((row.get(key) or "").isdecimal() for key in counts)
            if "image" not in row or not is_whole:
                raise InputError(
                    f"{path}, line {number}: expected a name in image and whole numbers "
                    f"in {', '.join(counts)}. Run `cellclass predict` again."
                )
            paths.inside(row["image"], path)
        return sorted(rows, key=lambda row: row["image"])

    @functools.cached_property
    def record(self) -> RunRecord:
        """The content of run.json, which `predict` wrote.

        Raises:
          InputError: if there is no run.json, or if it is not valid.
        """
        return RunRecord.read(self.folder / RUN_FILE)

    @property
    def record_if_any(self) -> RunRecord:
        """The content of run.json; an empty record if there is no such file.

        Raises:
          InputError: if run.json is not valid.
        """
        is_there = (self.folder / RUN_FILE).exists()
        return self.record if is_there else RunRecord()

    @functools.cached_property
    def recorded_images(self) -> dict[str, PredictedImage]:
        """The images that run.json lists, by stem; none if there is no such file.

        Raises:
          InputError: if run.json is not valid.
        """
        return {entry.stem: entry for entry in self.record_if_any.images}

    def images(self) -> dict[str, tuple[pathlib.Path, float | None]]:
        """Returns by stem the likely path of the image, and its pixel size in µm or None.

        Only images that run.json lists are returned.
        """
        places = self.record_if_any.places_of_study(self.folder) or [pathlib.Path()]
        root = next(filter(Study.exists, places), places[-1])
        return {
            stem: (root / "images" / entry.image, entry.pixel_size_um)
            for stem, entry in self.recorded_images.items()
        }

    @functools.cached_property
    def repeated_cells(self) -> dict[str, set[int]]:
        """Numbers of the cells that count in another, overlapping field, by stem.

        Runs of versions before this column have none.
        """
        found: dict[str, set[int]] = {}
        if any((row.get("repeated") or "0") != "0" for row in self.count_rows):
            for cell in self.cell_rows():
                if cell.get("repeated") == "True":
                    found.setdefault(cell["image"], set()).add(int(cell["cell"]))
        return found

    @property
    def stems(self) -> tuple[str, ...]:
        """The predicted images, 'TYPE/NAME' or 'NAME', sorted; also those without cells.

        They are taken from counts.csv, since the folder may have label images of other runs.
        """
        return tuple(row["image"] for row in self.count_rows)

    def labels_path(self, stem: str) -> pathlib.Path:
        """Returns the path of the label image of a field."""
        return labels_path(self.folder, stem)

    def read(self, stem: str) -> Cells:
        """Returns the cells of a field, with types, scores and probabilities.

        Raises:
          InputError: if the field was not predicted, if its label image was changed since,
            or if the label image and its rows in cells.csv do not have the same cells.
        """
        path = self.labels_path(stem)
        if not path.exists():
            raise InputError(
                f"{path} does not exist: {stem!r} was not predicted, or its label image "
                "was deleted. Run `cellclass predict` again."
            )
        labels = read_labels(path).astype(np.int32)
        table = self._table(stem)
        self._check_unchanged(stem, path)
        areas = np.bincount(labels.ravel(), minlength=1)[1:]
        whole = areas.all() and len(areas) == len(table)
        if not whole or (table[:, 0] != np.arange(1, len(areas) + 1)).any():
            raise InputError(
                f"{path}: expected cells 1..N, each with a row in {self.cells_path}; "
                f"got {np.count_nonzero(areas)} cells up to number {len(areas)}, and "
                f"{len(table)} rows for {stem!r}. Run `cellclass predict` again."
            )
        ids, scores = table[:, 1].astype(np.int32), table[:, 2].astype(np.float32)
        probabilities = table[:, 3:].astype(np.float32)
        return Cells(labels, self.type_names, ids, scores, probabilities)

    def _check_unchanged(self, stem: str, path: pathlib.Path) -> None:
        entry = self.recorded_images.get(stem)
        recorded = entry.labels_sha256 if entry else ""
        if recorded and digests.sha256_of_file(path) != recorded:
            raise InputError(
                f"{path} was changed since `predict` wrote it (its SHA-256 is not that in "
                f"{RUN_FILE}), and {CELLS_FILE} describes the cells as they were. Restore "
                "it, or run `cellclass predict` again. Corrected cells can be imported into "
                "a study: `cellclass import --format=masks`."
            )

    def probabilities(self, stem: str) -> np.ndarray:
        """Returns the (N, K) float32 probabilities of the cells that have a type.

        Cells that count in another field are left out.

        Raises:
          InputError: if cells.csv cannot be read.
        """
        table = self._table(stem)
        counts = ~np.isin(table[:, 0], list(self.repeated_cells.get(stem, ())))
        return table[(table[:, 1] > 0) & counts, 3:].astype(np.float32)

    def cell_rows(self) -> Iterator[dict[str, str]]:
        """Yields the rows of cells.csv, one at a time."""
        with open(self.cells_path, encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)

    def tables(self, *columns: str) -> dict[str, np.ndarray]:
        """Reads columns of cells.csv that hold numbers.

        Args:
          *columns: names of the C columns.

        Returns:
          An (N, 2 + C) float64 array for each field with cells, by stem: number, type id (0
          if unknown) and the columns of each cell.

        Raises:
          InputError: if a column is missing, or if a value is not a number.
        """
        found: dict[str, list[np.ndarray]] = {}
        with open(self.cells_path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            try:
                for image, group in itertools.groupby(rows, lambda row: row["image"]):
                    table = _numbers(group, self.type_names, columns)
                    found.setdefault(image, []).append(table)
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"{self.cells_path}, line {rows.line_num}: expected whole numbers in "
                    f"cell, a type in cell_type and numbers in {', '.join(columns)}; "
                    f"{type(error).__name__}: {error}. Run `cellclass predict` again."
                ) from error
        return {image: np.concatenate(parts) for image, parts in found.items()}

    def _table(self, stem: str) -> np.ndarray:
        """Returns (N, 3 + K) float64, sorted by cell: cell, type id, score, probabilities."""
        table = self._index.get(stem)
        if table is None:
            return np.empty((0, 3 + len(self.type_names)))
        return table[np.argsort(table[:, 0])]

    @functools.cached_property
    def _index(self) -> Mapping[str, np.ndarray]:
        return self.tables("score", *(f"p_{name}" for name in self.type_names))


def _numbers(
    rows: Iterable[Mapping[str, str]], type_names: Sequence[str], columns: Sequence[str]
) -> np.ndarray:
    ids = {UNKNOWN: 0, **{name: i for i, name in enumerate(type_names, start=1)}}
    table = [
        (int(row["cell"]), ids[row["cell_type"]], *(float(row[key]) for key in columns))
        for row in rows
    ]
    return np.array(table, np.float64)
