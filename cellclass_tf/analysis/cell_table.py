"""Tables of cells: one row a cell, and one row an image."""

from __future__ import annotations

import csv
import math
import os
import pathlib
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellclass_tf.analysis import raw_counts
from cellclass_tf.analysis.raw_counts import CHANNELS
from cellclass_tf.core.cells import UNCERTAIN_BELOW, Cells
from cellclass_tf.errors import InputError
from cellclass_tf.labels import neighbours, nuclei, runs, shapes, sizes
from cellclass_tf.labels.nuclei_per_cell import nuclei_per_cell
from cellclass_tf.storage import atomic, csv_json

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.csv

PARQUET_FILE = "cells.parquet"
# What a dish was treated with, in cells.csv alone.
CONDITION = "condition"
# Whether a cell counts in another tile, in cells.csv; number of such cells, in counts.csv.
REPEATED = "repeated"
# Columns that say of which dish, place and time a field is.
PLACE = ("group", "scene", "time")
# A value for each cell.
Column = Sequence[Any] | np.ndarray
# Columns in pixels, which are also given in µm.
_LENGTHS = (
    "equivalent_diameter",
    "major_axis",
    "minor_axis",
    "feret_diameter",
    "perimeter",
)


def columns(type_names: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of cells.csv for these types, in order."""
    probabilities = (f"p_{name}" for name in type_names)
    head = ("image", "cell", "cell_type", "call", "probability")
    beside = (f"neighbours_{name}" for name in type_names)
    return (
        *head,
        *probabilities,
        "score",
        "centroid_y_px",
        "centroid_x_px",
        "area_px",
        "area_um2",
        *(f"{key}_{unit}" for key in _LENGTHS for unit in ("px", "um")),
        "eccentricity",
        "circularity",
        "orientation_deg",
        "solidity",
        *(f"mean_{channel}_grey" for channel in CHANNELS),
        *raw_counts.columns(),
        "nucleus_area_px",
        "nucleus_area_um2",
        "nucleus_share_of_area",
        *(f"mean_{channel}_in_nucleus_grey" for channel in CHANNELS),
        "nuclei",
        "nuclei_area_px",
        "nuclei_area_um2",
        "neighbours",
        *beside,
        "nearest_px",
        "nearest_um",
        "on_border",
        "in_frame",
        *PLACE,
    )


def count_columns(type_names: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of counts.csv for these types, in order."""
    counts = (f"n_{name}" for name in type_names)
    shares = (f"share_{name}" for name in type_names)
    head = ("image", "group", "scene", "time", "area_px", "cells")
    return (*head, *counts, "unknown", "uncertain", REPEATED, *shares)


def cell_table(
    cells: Cells,
    image: np.ndarray | None = None,
    *,
    name: str,
    group: str = "",
    scene: str = "",
    time: int = 0,
    pixel_size_um: float | None = None,
    limits: Mapping[str, raw_counts.Limits] | None = None,
    min_probability: float = UNCERTAIN_BELOW,
) -> list[dict[str, Any]]:
    """Describes every cell of a field in one row.

    Lengths and areas end with _px and _um or _um2: in pixels of the image, and in µm and
    µm², which are None if the pixel size is unknown. Shapes are as those of
    `skimage.measure.regionprops`. Floats are rounded to 6 significant digits.

    Args:
      cells: the cells of the field.
      image: (H, W, 3) uint8 merged image (0, cytoplasm, nuclei), for the brightness.
      name: the image's stem: 'TYPE/NAME', or 'NAME'.
      group: the dish or slide that the field is of.
      scene: the same for all times of one place; '' if it is not known.
      time: number of the time point.
      pixel_size_um: width of a pixel in the specimen in µm; None if unknown.
      limits: (low, high) of the raw counts in 'cytoplasm' and 'nuclei' that grey levels 0
        and 255 stand for; None if unknown.
      min_probability: a call of a lower probability is 'uncertain'.

    Returns:
      N rows with the keys of `columns(cells.type_names)`:
        image: `name`.
        cell: 1..N, the cell's number in the label image.
        cell_type: the most probable type, or 'unknown'.
        call: the same, or 'uncertain' if its probability is less than asked.
        probability: of the most probable type; None where it is unknown. Calibrated on
          held-out fields when the model was exported, if there were any.
        p_TYPE: probability of each type.
        score: how sure it is that this is a cell at all, in [0, 1].
        centroid_y_px, centroid_x_px: centre of mass; 0 is the first pixel's centre.
        area_px, area_um2: number of pixels, and their area.
        equivalent_diameter_*: diameter of the circle of the same area.
        major_axis_*, minor_axis_*: of the ellipse of the same moments.
        feret_diameter_*: largest distance of two points of the outline; see
          `labels.shapes`.
        perimeter_*: length of the outline, by Crofton's formula in four directions.
        eccentricity: of the ellipse of the same moments; 0 is a circle, 1 a line.
        circularity: 4 pi area / perimeter², at most 1; 1 is a circle.
        orientation_deg: of that ellipse's long axis, in (-90, 90]: 0 is along x, and
          positive angles rise to the right.
        solidity: area over the area of the convex hull; 1 is convex.
        mean_cytoplasm_grey, mean_nuclei_grey: mean 8-bit brightness (0 to 255) in the
          cell of the merged image's two channels. Contrast was set when the image was
          merged, so they compare within a set merged together. None without an image.
        mean_CHANNEL_counts, integrated_CHANNEL_counts: mean and sum of the raw counts above
          the field's background; see `raw_counts.counts_of`.
        nucleus_area_px, nucleus_area_um2: of the cell's nucleus (see `nuclei_of`); 0
          where it has none. None without an image.
        nucleus_share_of_area: nucleus_area_px over area_px.
        mean_cytoplasm_in_nucleus_grey, mean_nuclei_in_nucleus_grey: mean brightness in
          the nucleus; None where there is none.
        nuclei: number of nuclei (see `nuclei_per_cell`); None where the field has none.
        nuclei_area_*: of all nuclei of the cell together.
        neighbours: cells with at most 2 px between them and this one.
        neighbours_TYPE: of them, those of which TYPE is the most probable.
        nearest_*: distance to the nearest other cell's centroid; None of a cell alone.
        on_border: whether the cell touches the image's edge and may be cut by it.
        in_frame: whether the cell counts in an unbiased frame: it touches neither the left
          nor the lower edge of the image. Where types differ in size, counts of all cells
          have too many of the larger ones (Gundersen 1977, J. Microsc. 111, 219).
        group, scene, time: of the field.

    Raises:
      ValueError: if the image does not have the size of the label image.
    """
    shape = cells.labels.shape
    if image is not None and image.shape != (*shape, 3):
        raise ValueError(
            f"{name}: expected a merged image {(*shape, 3)} for the label image "
            f"{shape}; got {image.shape}."
        )
    if not len(cells):
        return []
    in_rows = runs.runs_of(cells.labels)
    means = {
        channel: runs.sums_of(in_rows, image[..., i], len(cells)) / cells.areas_px
        for i, channel in enumerate(CHANNELS, start=1)
        if image is not None
    }
    called = _type_values(cells, name, min_probability)
    shapes = _shape_values(cells, in_rows, pixel_size_um)
    values = called | shapes | _nucleus_values(cells, image, pixel_size_um)
    values |= _neighbour_values(cells, shapes, pixel_size_um)
    nothing = [None] * len(cells)
    values |= {f"mean_{key}_grey": means.get(key, nothing) for key in CHANNELS}
    values |= raw_counts.counts_of(cells, image, limits, means)
    place = dict(zip(PLACE, (group, scene, time), strict=True))
    values |= {key: [value] * len(cells) for key, value in place.items()}
    keys = columns(cells.type_names)
    rounded = (_rounded(values[key]) for key in keys)
    return [dict(zip(keys, row, strict=True)) for row in zip(*rounded, strict=True)]


def count_row(
    cells: Cells,
    *,
    name: str,
    group: str = "",
    scene: str = "",
    time: int = 0,
    min_probability: float = UNCERTAIN_BELOW,
) -> dict[str, Any]:
    """Counts the types of one field.

    Returns:
      A row with the keys of `count_columns(cells.type_names)`:
        image: `name`.
        group: `group`, the dish or slide that the field is of.
        scene: `scene`, the same for all times of one place; '' if it is not known.
        time: `time`, number of the time point.
        area_px: of the field.
        cells: number of cells.
        n_TYPE: cells of which TYPE is the most probable.
        unknown: cells without a type.
        uncertain: cells with a type of less than `min_probability`; n_TYPE has them too.
        repeated: 0; see `without_repeated`.
        share_TYPE: n_TYPE over all cells with a type; None if there are none.
    """
    names = cells.type_names
    counts = np.bincount(cells.type_ids, minlength=len(names) + 1).tolist()
    row = {"image": name, "group": group, "scene": scene, "time": time}
    row |= {"area_px": cells.labels.size, "cells": len(cells)}
    row |= {f"n_{key}": n for key, n in zip(names, counts[1:], strict=True)}
    row["unknown"] = counts[0]
    row["uncertain"] = int((cells.called_probabilities < min_probability).sum())
    row[REPEATED] = 0
    return row | _shares_of(row, names)


def without_repeated(
    row: Mapping[str, Any],
    repeated: Iterable[Mapping[str, str]],
    type_names: Sequence[str],
    counted_share: float,
) -> dict[str, Any]:
    """Takes the cells that count in another tile out of a row of counts.csv.

    Args:
      row: row of `count_row`.
      repeated: the rows of these cells in cells.csv.
      type_names: names of the types.
      counted_share: share of the field's area that counts in this field.

    Returns:
      The row, with the area that counts, and the number of the cells in `repeated`.
    """
    found = dict(row)
    for cell in repeated:
        kind = cell["cell_type"]
        found[f"n_{kind}" if kind in type_names else "unknown"] -= 1
        found["uncertain"] -= cell["call"] == "uncertain"
        found["cells"] -= 1
        found[REPEATED] += 1
    found["area_px"] = round(found["area_px"] * counted_share)
    return found | _shares_of(found, type_names)


def _shares_of(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    counts = [row[f"n_{name}"] for name in names]
    typed = sum(counts)
    shares = _rounded([n / typed if typed else None for n in counts])
    return {f"share_{key}": s for key, s in zip(names, shares, strict=True)}


def write_cells_csv(
    path: str | os.PathLike,
    tables: Iterable[Sequence[Mapping[str, Any]]],
    type_names: Sequence[str],
) -> None:
    """Writes the rows of `cell_table` of one or more fields, whole or not at all.

    Tables are drawn one at a time, so they may come from a generator.
    """
    with (
        atomic.atomic_path(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv_json.TableWriter(file, columns(type_names))
        for table in tables:
            for row in table:
                writer.write(row)


def write_counts_csv(
    path: str | os.PathLike,
    rows: Iterable[Mapping[str, Any]],
    type_names: Sequence[str],
) -> None:
    """Writes the rows of `count_row`, whole or not at all."""
    csv_json.write_csv(path, count_columns(type_names), rows)


def join_csv(
    path: str | os.PathLike,
    parts: Iterable[str | os.PathLike],
    conditions: Mapping[str, str],
    repeated: Mapping[str, Collection[int]] = types.MappingProxyType({}),
) -> None:
    """Joins tables of `write_cells_csv` into one, a row at a time.

    Args:
      path: of the joined table.
      parts: of the tables, which have one header.
      conditions: of groups that have one, for the last column, `condition`.
      repeated: {image: numbers of its cells that count in another tile}, for the column
        `repeated`.

    Raises:
      InputError: if there is no part, or if the headers of two parts differ.
    """
    header: list[str] = []
    with (
        atomic.atomic_path(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as joined,
    ):
        for part in parts:
            with open(pathlib.Path(part), encoding="utf-8", newline="") as file:
                reader = csv.reader(file)
                first = next(reader, [])
                if not header:
                    header = first
                    writer = csv_json.TableWriter(
                        joined, [*header, REPEATED, CONDITION]
                    )
                if first != header:
                    raise InputError(
                        f"{part}: expected the header {','.join(header)!r}, got "
                        f"{','.join(first)!r}. Was it made for other types? Make it again."
                    )
                group, image, cell = map(header.index, ("group", "image", "cell"))
                for row in reader:
                    counts_elsewhere = int(row[cell]) in repeated.get(row[image], ())
                    condition = conditions.get(row[group], "")
                    writer.write_values([*row, counts_elsewhere, condition])
        if not header:
            raise InputError(f"{path}: there are no parts to join.")


def write_parquet(path: str | os.PathLike, cells_csv: str | os.PathLike) -> None:
    """Writes cells.csv as Parquet, a block at a time, whole or not at all.

    Columns have the types of `open_arrow`.
    """
    from pyarrow import parquet

    with (
        atomic.atomic_path(path) as temporary,
        open_arrow(cells_csv) as blocks,
        parquet.ParquetWriter(temporary, blocks.schema) as writer,
    ):
        for block in blocks:
            writer.write_batch(block)


def open_arrow(cells_csv: str | os.PathLike) -> pyarrow.csv.CSVStreamingReader:
    """Opens cells.csv as a `pyarrow.csv.CSVStreamingReader`, which gives it in blocks.

    Numbers are float64, numbers of cells and pixels int64, on_border, in_frame and repeated
    bool, the others text; an empty cell is null.
    """
    from pyarrow import csv as arrow_csv

    with open(cells_csv, encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    kinds = {name: _arrow_kind(name) for name in header}
    # Without strings_can_be_null an empty text stays text, and an empty number is null.
    options = arrow_csv.ConvertOptions(
        column_types=kinds, true_values=["True"], false_values=["False"]
    )
    return arrow_csv.open_csv(
        cells_csv,
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=options,
    )


def _arrow_kind(column: str) -> pyarrow.DataType:
    import pyarrow

    if column in ("image", "cell_type", "call", "group", "scene", CONDITION):
        return pyarrow.string()
    if column in ("on_border", "in_frame", REPEATED):
        return pyarrow.bool_()
    whole = column in ("cell", "nuclei", "time") or column.endswith("area_px")
    return (
        pyarrow.int64()
        if whole or column.startswith("neighbours")
        else pyarrow.float64()
    )


def _type_values(cells: Cells, name: str, min_probability: float) -> dict[str, Column]:
    values: dict[str, Column] = {
        "image": [name] * len(cells),
        "cell": range(1, len(cells) + 1),
        "cell_type": cells.cell_types,
        "call": cells.calls(min_probability),
        "probability": cells.called_probabilities,
    }
    values |= {
        f"p_{k}": p
        for k, p in zip(cells.type_names, cells.probabilities.T, strict=True)
    }
    return values | {"score": cells.scores}


def _shape_values(
    cells: Cells, in_rows: runs.Runs, pixel_size_um: float | None
) -> dict[str, Column]:
    found = shapes.shapes_of(cells, in_rows)
    lengths: dict[str, Column] = {}
    in_px = (
        sizes.diameters_of(cells.areas_px),
        found.axis_major,
        found.axis_minor,
        found.feret_diameter,
        found.perimeter,
    )
    for key, values in zip(_LENGTHS, in_px, strict=True):
        lengths[f"{key}_px"] = values
        lengths[f"{key}_um"] = _times(values, pixel_size_um)
    around = np.maximum(found.perimeter, 1e-9) ** 2
    labels = cells.labels
    out_of_frame = np.union1d(labels[:, 0], labels[-1])
    return lengths | {
        "centroid_y_px": found.centroid_y,
        "centroid_x_px": found.centroid_x,
        "area_px": cells.areas_px,
        "area_um2": _times(cells.areas_px, pixel_size_um, power=2),
        "eccentricity": found.eccentricity,
        "circularity": np.minimum(1.0, 4 * np.pi * cells.areas_px / around),
        # scikit-image's is the angle from the rows' axis, which points down, in radians.
        "orientation_deg": 90 - np.degrees(-found.orientation) % 180,
        "solidity": found.solidity,
        "on_border": cells.touch_border(),
        "in_frame": ~np.isin(np.arange(1, len(cells) + 1), out_of_frame),
    }


def _nucleus_values(
    cells: Cells, image: np.ndarray | None, pixel_size_um: float | None
) -> dict[str, Column]:
    nothing = [None] * len(cells)
    keys = ["nucleus_area_px", "nucleus_area_um2", "nucleus_share_of_area"]
    keys += [f"mean_{channel}_in_nucleus_grey" for channel in CHANNELS]
    keys += ["nuclei", "nuclei_area_px", "nuclei_area_um2"]
    if image is None:
        return dict.fromkeys(keys, nothing)
    found = nuclei.nuclei_of(image[..., 2], cells)
    areas = np.array([len(of.rows) for of in found])
    totals = np.array([of.total_px for of in found])
    rows, columns = (
        np.concatenate([getattr(of, key) for of in found])
        for key in ("rows", "columns")
    )
    of = np.repeat(np.arange(len(cells)), areas)
    with np.errstate(invalid="ignore"):
        means = [
            np.bincount(of, image[rows, columns, i], len(cells)) / areas for i in (1, 2)
        ]
    diameter = float(np.median(sizes.diameters_of(cells.areas_px)))
    counts = nuclei_per_cell(image[..., 2], cells, diameter)
    in_um2 = [_times(of, pixel_size_um, power=2) for of in (areas, totals)]
    shares = areas / cells.areas_px
    values = (areas, in_um2[0], shares, *means)
    values += (nothing if counts is None else counts, totals, in_um2[1])
    return dict(zip(keys, values, strict=True))


def _neighbour_values(
    cells: Cells, shapes: Mapping[str, Column], pixel_size_um: float | None
) -> dict[str, Column]:
    pairs = neighbours.neighbours(cells.labels) - 1
    both = np.concatenate([pairs, pairs[:, ::-1]])
    counts = np.zeros((len(cells), len(cells.type_names) + 1), np.int64)
    np.add.at(counts, (both[:, 0], cells.type_ids[both[:, 1]]), 1)
    middles = np.stack([shapes["centroid_y_px"], shapes["centroid_x_px"]], axis=1)
    values = {"neighbours": counts.sum(axis=1)}
    for i, name in enumerate(cells.type_names, start=1):
        values[f"neighbours_{name}"] = counts[:, i]
    nearest = neighbours.nearest_px(middles)
    um = _times(nearest, pixel_size_um)
    return values | {"nearest_px": nearest, "nearest_um": um}


def _times(values: np.ndarray, pixel_size_um: float | None, power: int = 1) -> Column:
    """Converts pixels to µm, or areas to µm²; None for each cell if the size is unknown."""
    if pixel_size_um is None:
        return [None] * len(values)
    return values * pixel_size_um**power


def _rounded(values: Column) -> list[Any]:
    """Returns plain Python values, floats with 6 digits; None in place of NaN."""
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    return [
        (float(f"{value:.6g}") if math.isfinite(value) else None)
        if isinstance(value, float)
        else value
        for value in plain
    ]
