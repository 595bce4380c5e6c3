"""Writes cells as GeoJSON for QuPath."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.drawing.palette import colour_of_type
from cellclass_tf.labels.outlines import outlines_of, signed_area
from cellclass_tf.storage import atomic

# Fixed, so that the same cell of the same field always gets the same id.
_NAMESPACE = uuid.UUID("6d0b3c5e-5a53-4a2e-9a41-51b7a3f6f1c2")


def write_geojson(
    path: str | os.PathLike,
    cells: Cells,
    measurements: Sequence[Mapping[str, Any]],
    *,
    name: str,
) -> None:
    """Writes a feature collection of QuPath detections, whole or not at all.

    Polygons follow the edges of pixels, in pixels of the field (x, y). A cell may have
    holes and several pieces. Classes have the colours of the types.

    Args:
      path: path of the file, NAME.geojson.
      cells: the N cells of one field.
      measurements: N rows of `cell_table`, whose numbers become measurements.
      name: name of the field, of which the ids of the features are made.
    """
    features = [
        {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, f"{name}/{cells.numbers[index]}")),
            "geometry": _geometry(cells, index),
            "properties": {
                "objectType": "detection",
                "name": f"{cells.numbers[index]}",
                "classification": {
                    "name": cell_type,
                    "color": list(colour_of_type(int(cells.type_ids[index]))),
                },
                "measurements": _numbers(measurements[index]),
            },
        }
        for index, cell_type in enumerate(cells.cell_types)
    ]
    collection = {"type": "FeatureCollection", "features": features}
    atomic.write_text(path, json.dumps(collection, allow_nan=False))


def _geometry(cells: Cells, index: int) -> dict[str, Any]:
    corner = cells.boxes_yxyx[index, 1::-1]
    outlines = outlines_of(cells.mask(index))
    outer = [o for o in outlines if signed_area(o) > 0]
    holes = [o for o in outlines if signed_area(o) < 0]
    polygons = [[o] for o in outer]
    for hole in holes:
        # The hole belongs to the smallest piece that contains it.
        around = min(
            (p for p in polygons if _holds(p[0], hole)), key=lambda p: signed_area(p[0])
        )
        around.append(hole)
    rings = [[_ring(outline + corner) for outline in polygon] for polygon in polygons]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}


def _ring(outline: np.ndarray) -> list[list[int]]:
    """Returns a closed ring.

    GeoJSON expects outer rings to be counter-clockwise with y pointing up; these are.
    """
    return [*outline.tolist(), outline[0].tolist()]


def _holds(outer: np.ndarray, hole: np.ndarray) -> bool:
    """Returns whether an outer ring contains a hole."""
    # The first corner is the topmost, then leftmost one, and the pixel below and to the
    # right of it is part of the hole. A ray from there to the right crosses upright sides.
    x, y = hole[0] + 0.5
    corners_x, corners_y = outer.T
    crossed = (corners_y > y) != (np.roll(corners_y, -1) > y)
    return bool((crossed & (corners_x > x)).sum() % 2)


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in row.items()
        if key != "cell" and isinstance(value, int | float) and value is not None
    }
