"""Writes images, cells and their table as SpatialData, for the tools of scverse."""

from __future__ import annotations

import os
import pathlib
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import cellclass_tf
from cellclass_tf.analysis import table_files
from cellclass_tf.core.cells import UNKNOWN, Cells
from cellclass_tf.errors import InputError

if TYPE_CHECKING:
    import anndata

TABLE = "cells"
REGION_KEY, INSTANCE_KEY = "region", "cell"
_CHUNK_PX = 1024
_CHANNELS = ("cytoplasm", "nuclei")
# Columns of cells.csv with few distinct values.
_CATEGORIES = ("image", "cell_type", "call", "group", "scene", table_files.CONDITION)


class Store:
    """A new SpatialData store, to which fields are written one at a time.

    Every field has an image FIELD_image (c, y, x), labels FIELD_cells and a coordinate
    system FIELD of its own, in µm, or in pixels if the pixel size is not known. FIELD is
    the stem of the field, with '_' in place of '/' and of characters that SpatialData does
    not allow in names. The table `cells` has one row per cell.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        """Creates the store.

        Args:
          path: path of the folder, NAME.zarr, which must not exist.

        Raises:
          InputError: if spatialdata is not installed.
        """
        try:
            import spatialdata
        except ImportError as error:
            raise InputError(
                "Writing SpatialData needs spatialdata, for Python 3.11 or newer: "
                "pip install 'cellclass_tf[spatialdata]'."
            ) from error
        self._fields: dict[str, dict[str, Any]] = {}
        self._data = spatialdata.SpatialData()
        self._data.write(pathlib.Path(path))

    def add(
        self,
        stem: str,
        cells: Cells,
        image: np.ndarray,
        *,
        pixel_size_um: float | None = None,
    ) -> None:
        """Writes the image and the labels of a field.

        Args:
          stem: stem of the field, 'TYPE/NAME' or 'NAME'.
          cells: cells of the field.
          image: (H, W, 3) uint8 merged image.
          pixel_size_um: pixel size in µm; None if unknown.
        """
        from spatialdata import models, transformations

        name = self._new_name(stem)
        size = pixel_size_um or 1.0
        scale = transformations.Scale([size, size], axes=("y", "x"))
        placed = {"transformations": {name: scale}}
        self._write(
            f"{name}_image",
            models.Image2DModel.parse(
                np.moveaxis(image[..., 1:], -1, 0),
                dims=("c", "y", "x"),
                c_coords=list(_CHANNELS),
                chunks=(1, _CHUNK_PX, _CHUNK_PX),
                **placed,
            ),
        )
        self._write(
            f"{name}_cells",
            models.Labels2DModel.parse(
                cells.labels,
                dims=("y", "x"),
                chunks=(_CHUNK_PX, _CHUNK_PX),
                **placed,
            ),
        )
        self._fields[stem] = {
            "name": name,
            "pixel_size_um": pixel_size_um,
            "unit": "micrometer" if pixel_size_um else "pixel",
        }

    def finish(self, cells_csv: str | os.PathLike) -> None:
        """Writes the table of the fields that were added.

        Its columns in `obs` are those of cells.csv, with '_' in place of characters that
        SpatialData does not allow in their names; `obsm` has `probabilities` by type, and
        `spatial`, the centres (x, y) of the cells in their field's coordinate system.

        Args:
          cells_csv: path of a table that `table_files.write_cells_csv` wrote; rows of
            other fields are ignored.
        """
        table = _table(cells_csv, self._fields)
        if table is not None:
            self._write(TABLE, table)
        told = {"version": cellclass_tf.__version__, "fields": self._fields}
        self._data.attrs["cellclass_tf"] = told
        self._data.write_attrs()
        self._data.write_consolidated_metadata()

    def _write(self, name: str, element: Any) -> None:
        self._data[name] = element
        with warnings.catch_warnings():
            # This warning for developers is about a default of anndata's next version.
            warnings.filterwarnings("ignore", "zarr v3 autosharding")
            self._data.write_element(name)
        # The element is on disk now, and need not stay in memory.
        del self._data[name]

    def _new_name(self, stem: str) -> str:
        """Returns a name that no other field has, whether in upper or lower case."""
        base = re.sub(r"[^A-Za-z0-9_.-]", "_", stem).strip("_.-") or "field"
        return _free_name(base, [of["name"] for of in self._fields.values()])


def _free_name(base: str, taken: Iterable[str]) -> str:
    """Returns a name, with a number if it is taken, whether in upper or lower case."""
    lower = {name.lower() for name in taken}
    name, number = base, 1
    while name.lower() in lower:
        number += 1
        name = f"{base}_{number}"
    return name


def _column_names(columns: Sequence[str]) -> dict[str, str]:
    """Returns names that SpatialData allows for columns, by their own names.

    A type such as 'N2a+' may be in the name of a column. Columns whose names are allowed keep
    them.
    """
    names = {column: re.sub(r"[^\w.-]", "_", column).lstrip("_") for column in columns}
    kept = {column: column for column, name in names.items() if name == column}
    for column in sorted(names.keys() - kept.keys()):
        kept[column] = _free_name(names[column] or "column", kept.values())
    return kept


def _table(
    cells_csv: str | os.PathLike, fields: dict[str, dict[str, Any]]
) -> anndata.AnnData | None:
    """Returns the AnnData table of the cells of some fields; None without any cell."""
    import anndata
    import pandas as pd
    from spatialdata import models

    with table_files.open_arrow(cells_csv) as blocks:
        rows = blocks.read_all().to_pandas()
    rows = rows[rows["image"].isin(list(fields))].reset_index(drop=True)
    if rows.empty:
        return None
    types = [name.removeprefix("p_") for name in rows if name.startswith("p_")]
    numbered = zip(rows["image"], rows["cell"], strict=True)
    rows.index = [f"{stem}:{cell}" for stem, cell in numbered]
    probabilities = rows[[f"p_{name}" for name in types]].set_axis(types, axis=1)
    sizes = rows["image"].map(lambda stem: fields[stem]["pixel_size_um"] or 1.0)
    # The centre of the first pixel is 0 in cells.csv, but 0.5 in SpatialData.
    centres = rows[["centroid_x_px", "centroid_y_px"]].to_numpy(float) + 0.5
    spatial = centres * sizes.to_numpy(float)[:, np.newaxis]
    regions = rows["image"].map(lambda stem: f"{fields[stem]['name']}_cells")
    obs = rows.drop(columns=[f"p_{name}" for name in types])
    obs[REGION_KEY] = regions
    for column in (*_CATEGORIES, REGION_KEY):
        if column in obs:
            known = [*types, UNKNOWN] if column == "cell_type" else None
            obs[column] = pd.Categorical(obs[column].fillna(""), known)
    # Types are the columns of `probabilities`. A list of them in `uns` would be read as an
    # array of numpy's StringDType, whose copy ends the process (numpy 2.0.2).
    table = anndata.AnnData(
        obs=obs.rename(columns=_column_names(list(obs))),
        obsm={"probabilities": probabilities, "spatial": spatial},
    )
    return models.TableModel.parse(
        table,
        region=list(obs[REGION_KEY].cat.categories),
        region_key=REGION_KEY,
        instance_key=INSTANCE_KEY,
    )
