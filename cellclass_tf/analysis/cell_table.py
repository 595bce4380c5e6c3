"""Measures cells: one row of values per cell, and one row of counts per field."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf.analysis import raw_counts
from cellclass_tf.analysis.raw_counts import CHANNELS
from cellclass_tf.core.cells import UNCERTAIN_BELOW, Cells
from cellclass_tf.labels import neighbours, nuclei, runs, shapes, sizes
from cellclass_tf.labels.nuclei_per_cell import nuclei_per_cell

# Number of cells that count in another tile, in counts.csv; whether a cell does, in cells.csv.
REPEATED = "repeated"
# Columns with the dish, the place and the time point of a field.
PLACE = ("group", "scene", "time")
# One value per cell.
Column = Sequence[Any] | np.ndarray
# Lengths, which have a column in pixels and a column in µm.
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
    """Measures every cell of a field, one row per cell.

    Lengths and areas whose names end with _px are in pixels of the image. Those that end
    with _um or _um2 are in µm or µm², and None if the pixel size is unknown. Shapes are
    defined as in `skimage.measure.regionprops`. Floats are rounded to 6 significant digits.

    Args:
      cells: N cells of the field.
      image: (H, W, 3) uint8 merged image (0, cytoplasm, nuclei), for measurements of
        brightness and nuclei; None leaves these empty.
      name: name of the field, 'TYPE/NAME' or 'NAME'.
      group: dish or slide of the field.
      scene: name of the place that was imaged, the same at all time points; '' if unknown.
      time: number of the time point.
      pixel_size_um: width of a pixel in the specimen in µm; None if unknown.
      limits: {'cytoplasm' or 'nuclei': (low, high)}, the raw counts that became the grey
        levels 0 and 255; None if unknown.
      min_probability: a call of a lower probability is 'uncertain'.

    Returns:
      N rows with the keys of `columns(cells.type_names)`:
        image: `name`.
        cell: 1..N, the cell's number in the label image.
        cell_type: the most probable type, or 'unknown'.
        call: cell_type, or 'uncertain' if its probability is below `min_probability`.
        probability: probability of the most probable type; None if the type is unknown.
          It was calibrated on held-out fields when the model was exported, if there were
          any.
        p_TYPE: probability of each type.
        score: detection score in [0, 1], higher if this is more likely a cell; not a
          calibrated probability.
        centroid_y_px, centroid_x_px: centre of mass; the centre of the first pixel is 0.
        area_px, area_um2: area of the cell.
        equivalent_diameter_*: diameter of the circle of the same area.
        major_axis_*, minor_axis_*: axes of the ellipse with the same second moments.
        feret_diameter_*: largest distance between two points of the outline; see
          `labels.shapes`.
        perimeter_*: length of the outline, by Crofton's formula in four directions.
        eccentricity: eccentricity of that ellipse; 0 is a circle, 1 a line.
        circularity: 4 pi area / perimeter², at most 1; 1 is a circle.
        orientation_deg: angle of that ellipse's long axis, in (-90, 90]: 0 is along x, and
          positive angles rise to the right.
        solidity: area divided by the area of the convex hull; 1 is convex.
        mean_cytoplasm_grey, mean_nuclei_grey: mean grey level (0 to 255) of the two
          channels in the cell. The contrast was set when the image was merged, so only
          images that were merged together can be compared. None without an image.
        mean_CHANNEL_counts, integrated_CHANNEL_counts: mean and sum of the raw counts above
          the field's background; see `raw_counts.counts_of`.
        nucleus_area_px, nucleus_area_um2: area of the cell's nucleus (see
          `labels.nuclei.nuclei_of`); 0 if it has none. None without an image.
        nucleus_share_of_area: nucleus_area_px divided by area_px.
        mean_cytoplasm_in_nucleus_grey, mean_nuclei_in_nucleus_grey: mean grey levels in the
          nucleus; None if there is none.
        nuclei: number of nuclei of the cell (see `nuclei_per_cell`); None if the field has
          no nuclei.
        nuclei_area_*: area of all nuclei of the cell together.
        neighbours: number of other cells at most 2 px away.
        neighbours_TYPE: number of these whose most probable type is TYPE.
        nearest_*: distance to the nearest centroid of another cell; None if there is none.
        on_border: whether the cell touches an edge of the image, which may cut it.
        in_frame: whether the cell counts in an unbiased counting frame, that is, touches
          neither the left nor the lower edge of the image. If types differ in size, counts
          of all cells include too many of the larger type (Gundersen 1977, J. Microsc. 111,
          219).
        group, scene, time: as given.

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
    shaped = _shape_values(cells, in_rows, pixel_size_um)
    values = called | shaped | _nucleus_values(cells, image, pixel_size_um)
    values |= _neighbour_values(cells, shaped, pixel_size_um)
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
        group, scene, time: as given; see `cell_table`.
        area_px: area of the field.
        cells: number of cells.
        n_TYPE: number of cells whose most probable type is TYPE.
        unknown: number of cells of unknown type.
        uncertain: number of cells whose type has a probability below `min_probability`;
          they are also included in n_TYPE.
        repeated: 0; see `without_repeated`.
        share_TYPE: n_TYPE divided by the number of typed cells; None if there are none.
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
        # scikit-image measures the angle from the axis of the rows, which points down.
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
    stained = np.ascontiguousarray(image[..., 2])
    found = nuclei.nuclei_of(stained, cells)
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
    counts = nuclei_per_cell(stained, cells, diameter)
    in_um2 = [_times(of, pixel_size_um, power=2) for of in (areas, totals)]
    shares = areas / cells.areas_px
    values = (areas, in_um2[0], shares, *means)
    values += (nothing if counts is None else counts, totals, in_um2[1])
    return dict(zip(keys, values, strict=True))


def _neighbour_values(
    cells: Cells, shaped: Mapping[str, Column], pixel_size_um: float | None
) -> dict[str, Column]:
    pairs = neighbours.neighbours(cells.labels) - 1
    both = np.concatenate([pairs, pairs[:, ::-1]])
    counts = np.zeros((len(cells), len(cells.type_names) + 1), np.int64)
    np.add.at(counts, (both[:, 0], cells.type_ids[both[:, 1]]), 1)
    middles = np.stack([shaped["centroid_y_px"], shaped["centroid_x_px"]], axis=1)
    values = {"neighbours": counts.sum(axis=1)}
    for i, name in enumerate(cells.type_names, start=1):
        values[f"neighbours_{name}"] = counts[:, i]
    nearest = neighbours.nearest_px(middles)
    nearest_um = _times(nearest, pixel_size_um)
    return values | {"nearest_px": nearest, "nearest_um": nearest_um}


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
