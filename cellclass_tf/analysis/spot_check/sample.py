"""Draws the windows to label: a random sample with known probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from scipy import spatial

from cellclass_tf.analysis import table_files
from cellclass_tf.core.cells import UNKNOWN
from cellclass_tf.core.label_files import label_image_size
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.errors import InputError
from cellclass_tf.storage import digests
from cellclass_tf.storage.records import Record

SPOT_CHECK_FOLDER, SAMPLE_FILE = "spotcheck", "sample.json"
# Mean number of cells in a window, and limits of its width in cell diameters.
_CELLS_A_WINDOW = 2.25
_LEAST_WIDTH, _MOST_WIDTH = 1.5, 4.0
# Smallest number of windows with cells, and of windows without, if there are so many.
_LEAST_WINDOWS = 10
# A drawn window without cells represents this many times as many windows as one with
# cells. At most as many windows without cells are drawn as with cells.
_EMPTY_STANDS_FOR = 2.0


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of a field that a person labels.

    Attributes:
      image: name of the field.
      box_yxyx: first row and column, and the row and column after the last, in pixels.
      cells: {number in the label image: called type, or 'unknown'} of the cells whose centre
        is in the window, except cells that count in another field.
    """

    image: str
    box_yxyx: tuple[int, int, int, int]
    cells: Mapping[int, str]

    @property
    def is_empty(self) -> bool:
        """Whether no cell was found in the window."""
        return not self.cells


@dataclasses.dataclass(frozen=True)
class Sample(Record):
    """Windows that were drawn, in the order in which they are labelled.

    All fields are cut into windows, except those whose labels the model was trained with.
    Where fields overlap, cells that count in another field are left out, and so are windows
    with no other cells, and windows without cells whose nearest cell is one of these. (In
    earlier versions, all cells of both fields were drawn.)
    Windows with cells and windows without are two strata: within each, every window has the
    same probability of being drawn, and the draw is spread evenly over dishes and fields.
    The order is random, so that a person who stops early has labelled a smaller random
    sample.

    Attributes:
      cells_sha256: `table_files.sha256_of_cells` of the cells.csv from which the sample was
        drawn; earlier versions recorded the SHA-256 of the file.
      types: names of the types.
      seed: seed of the random draw.
      cells: number of cells that was asked for.
      windows: windows that were drawn.
      occupied: number of all windows with cells.
      empty: number of all windows without cells.
      called: {type: number of cells called so in all windows}.
    """

    NAME: ClassVar[str] = "cellclass_tf spot check"
    EXPECTED: ClassVar[str] = "a sample that `cellclass spotcheck` drew"
    REMEDY: ClassVar[str] = "Run `cellclass spotcheck --overwrite`."

    cells_sha256: str
    types: tuple[str, ...]
    seed: int
    cells: int
    windows: tuple[Window, ...]
    occupied: int
    empty: int
    called: Mapping[str, int]

    @property
    def key(self) -> str:
        """SHA-256 of the content, by which labels are matched to the sample."""
        return digests.fingerprint("spot check", self.as_content())

    @property
    def labelled_cells(self) -> int:
        """Number of outlined cells in the windows."""
        return sum(len(window.cells) for window in self.windows)


def draw(predictions: Predictions, cells: int, seed: int) -> Sample:
    """Draws windows that contain about the given number of cells.

    Fields whose labels the model was trained with are left out, since the model errs less
    there than elsewhere. Cells that count in another, overlapping field are left out, too.

    Args:
      predictions: predictions of the culture.
      cells: approximate number of cells to label.
      seed: seed of the random draw.

    Raises:
      InputError: if there are fewer cells than asked for, or if the model was trained with
        labels of all fields.
    """
    seen = predictions.record_if_any.labelled_stems
    if seen.issuperset(predictions.stems):
        raise InputError(
            f"{predictions.folder}: {why_seen(len(seen), len(predictions.stems))}, so new "
            "labels there would not show its errors in other fields. Predict other fields, "
            "or train a model without these labels."
        )
    tables = {
        image: table
        for image, table in predictions.tables(*_COLUMNS).items()
        if image not in seen
    }
    counting = {
        image: ~np.isin(
            table[:, _CELL], list(predictions.repeated_cells.get(image, ()))
        )
        for image, table in tables.items()
    }
    total = sum(int(of.sum()) for of in counting.values())
    if not 0 < cells <= total:
        raise InputError(
            f"{predictions.folder}: cells={cells}: expected a number from 1 to {total}, "
            "the number of cells."
        )
    rows = [row for row in predictions.count_rows if row["image"] not in seen]
    rows = sorted(rows, key=_place)
    sizes = [label_image_size(predictions.labels_path(row["image"])) for row in rows]
    area = sum(float(table[:, _AREA].sum()) for table in tables.values())
    found = sum(map(len, tables.values()))
    width = _width_of_windows(sum(h * w for h, w in sizes), area, found)
    fields = [
        _Field.cut(
            stem, size, tables.get(stem, _NO_CELLS), counting.get(stem, _NONE), width
        )
        for stem, size in zip((row["image"] for row in rows), sizes, strict=True)
    ]
    occupied = [of.occupied for of in fields]
    empty = [of.empty for of in fields]
    there = sum(map(len, occupied)), sum(map(len, empty))
    wanted = _clipped(cells * there[0] / total, there[0])
    beside = _clipped(there[1] * wanted / (_EMPTY_STANDS_FOR * there[0]), there[1])
    beside = min(beside, max(wanted, _LEAST_WINDOWS))
    rng = np.random.default_rng(seed)
    names = (UNKNOWN, *predictions.type_names)
    drawn = [
        fields[field].window(place, names)
        for places, count in ((occupied, wanted), (empty, beside))
        for field, place in _spread(rng, places, count)
    ]
    called = np.sum(
        [
            np.bincount(table[counting[image], _TYPE].astype(int), minlength=len(names))
            for image, table in tables.items()
        ],
        axis=0,
    )
    return Sample(
        cells_sha256=table_files.sha256_of_cells(predictions.cells_path),
        types=predictions.type_names,
        seed=seed,
        cells=cells,
        windows=tuple(drawn[i] for i in rng.permutation(len(drawn))),
        occupied=there[0],
        empty=there[1],
        called=dict(zip(names[1:], called[1:].tolist(), strict=True)),
    )


def why_seen(seen: int, fields: int) -> str:
    """Says in words how many of the fields have labels that the model was trained with."""
    return (
        f"the model was trained or calibrated with labels of {seen} of {fields} fields"
    )


# Columns of the tables of `Predictions.tables`.
_CELL, _TYPE, _Y, _X, _AREA = range(5)
_COLUMNS = ("centroid_y_px", "centroid_x_px", "area_px")
_NO_CELLS, _NONE = np.zeros((0, 5)), np.zeros(0, bool)


def _place(row: Mapping[str, str]) -> tuple[str, str, str]:
    """Returns a sort key that puts fields of the same dish and scene side by side."""
    return row.get("group") or "", row.get("scene") or "", row["image"]


def _width_of_windows(whole_px: float, cells_px: float, cells: int) -> float:
    diameter = (4 / np.pi * cells_px / cells) ** 0.5
    wanted = (_CELLS_A_WINDOW * whole_px / cells) ** 0.5
    return float(np.clip(wanted, _LEAST_WIDTH * diameter, _MOST_WIDTH * diameter))


@dataclasses.dataclass(frozen=True, eq=False)
class _Field:
    """A field that is cut into adjacent windows, which cover it.

    Attributes:
      stem: name of the field.
      rows, columns: edges of the windows in pixels.
      cells: (N, 5) table of its cells, see `_COLUMNS`.
      counting: (N,) whether each cell counts in this field, not in another.
      places: (N,) index of each cell's window, row by row.
    """

    stem: str
    rows: np.ndarray
    columns: np.ndarray
    cells: np.ndarray
    counting: np.ndarray
    places: np.ndarray

    @classmethod
    def cut(
        cls,
        stem: str,
        size: tuple[int, int],
        cells: np.ndarray,
        counting: np.ndarray,
        width: float,
    ) -> _Field:
        """Cuts a field into windows about as wide as `width` pixels."""
        rows, columns = (
            np.linspace(0, length, max(1, round(length / width)) + 1).round()
            for length in size
        )
        # The centre of the first pixel is at 0.
        row, column = (
            np.clip(
                np.searchsorted(edges, middle + 0.5, "right") - 1, 0, len(edges) - 2
            )
            for edges, middle in ((rows, cells[:, _Y]), (columns, cells[:, _X]))
        )
        places = row * (len(columns) - 1) + column
        return cls(stem, rows, columns, cells, counting, places)

    @property
    def occupied(self) -> np.ndarray:
        """Indices of the windows with cells that count."""
        return np.unique(self.places[self.counting])

    @property
    def empty(self) -> np.ndarray:
        """Indices of the windows without cells, in which a missed cell would count."""
        count = (len(self.rows) - 1) * (len(self.columns) - 1)
        places = np.setdiff1d(np.arange(count), self.places)
        if self.counting.all():
            return places
        # The cells in an overlap are found in both fields, and count in one. So the nearest
        # cell says in which of them a missed cell would count.
        middles = [
            (edges[at] + edges[at + 1] - 1) / 2
            for edges, at in zip(
                (self.rows, self.columns),
                np.divmod(places, len(self.columns) - 1),
                strict=True,
            )
        ]
        tree = spatial.KDTree(self.cells[:, [_Y, _X]])
        _, nearest = tree.query(np.stack(middles, axis=1))
        return places[self.counting[nearest]]

    def window(self, place: int, names: Sequence[str]) -> Window:
        """Returns the window of an index; `names` are those of the type ids, from 0 on."""
        row, column = divmod(int(place), len(self.columns) - 1)
        top, bottom = self.rows[row : row + 2]
        left, right = self.columns[column : column + 2]
        here = self.cells[(self.places == place) & self.counting]
        cells = {int(of[_CELL]): names[int(of[_TYPE])] for of in here}
        box = int(top), int(left), int(bottom), int(right)
        return Window(self.stem, box, cells)


def _clipped(wanted: float, most: int) -> int:
    return min(most, max(_LEAST_WINDOWS, round(wanted)))


def _spread(
    rng: np.random.Generator, places: Sequence[np.ndarray], count: int
) -> list[tuple[int, int]]:
    """Draws a systematic sample: one place from each of `count` equal parts.

    Every place has the same probability (Cochran 1977, Sampling Techniques, chapter 8). The
    places of a field are shuffled first, so that periodic structures in it do not matter.

    Args:
      rng: random number generator.
      places: places of each field.
      count: number of places to draw.

    Returns:
      (index of the field, place) of each drawn place.
    """
    ends = np.cumsum([len(of) for of in places])
    places = [rng.permutation(of) for of in places]
    found = []
    for at in (rng.uniform() + np.arange(count)) * (ends[-1] / max(count, 1)):
        number = min(int(at), int(ends[-1]) - 1)
        field = int(np.searchsorted(ends, number, "right"))
        found.append((field, int(places[field][number - ends[field]])))
    return found
