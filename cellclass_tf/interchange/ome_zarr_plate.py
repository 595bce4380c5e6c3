"""Writes images and cells of a well plate as OME-Zarr."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.errors import InputError
from cellclass_tf.interchange import ome_zarr
from cellclass_tf.storage import atomic

if TYPE_CHECKING:
    import zarr

# Rows A to P and columns 1 to 24 of 384 wells, rows to AF and columns to 48 of 1536.
_WELL = re.compile(r"(?<![^\W_])(A[A-F]|[A-P])([0-9]{1,2})(?![^\W_])")
_MOST_COLUMNS = 48
_NAME_OF_NO_NAME = "plate"


class Well(NamedTuple):
    """A well of a plate.

    Attributes:
      plate: name of the plate.
      row: letters, 'A' to 'AF'.
      column: two digits, '01' to '48'.
    """

    plate: str
    row: str
    column: str

    @property
    def order(self) -> tuple[int, str, int]:
        """Sort key of wells: A comes before B, and Z before AA."""
        return len(self.row), self.row, int(self.column)


class PlateField(NamedTuple):
    """A field of a well, with its pixels.

    Attributes:
      name: name of the field.
      cells: cells of the field.
      image: (H, W, 3) uint8 merged image.
      pixel_size_um: pixel size in µm; None if unknown.
    """

    name: str
    cells: Cells
    image: np.ndarray
    pixel_size_um: float | None


def well_of(group: str) -> Well:
    """Finds plate and well in the name of a group: 'plate1_B02' is well B02 of plate1.

    The rest of the group's name is the name of the plate, with '_' between its words. So
    two groups may have the same well, such as 'plate 1_B02' and 'plate+1_B02'.

    Raises:
      InputError: if the name contains no well, or several.
    """
    # Some file systems decompose letters such as ü, and regular expressions split these.
    group = unicodedata.normalize("NFC", group)
    found = [m for m in _WELL.finditer(group) if 0 < int(m[2]) <= _MOST_COLUMNS]
    if len(found) != 1:
        raise InputError(
            f"the group {group!r} names {'no well' if not found else 'several wells'}; "
            "expected one, such as A01 or plate1_B02. Write the wells into the column group "
            "of images.csv, or set `cellclass convert --group`."
        )
    (well,) = found
    parts = group[: well.start()], group[well.end() :]
    words = re.findall(r"(?:[^\W_]|[.-])+", " ".join(parts))
    plate = "_".join(word.strip(".-") for word in words if word.strip(".-"))
    return Well(plate or _NAME_OF_NO_NAME, well[1], f"{int(well[2]):02}")


def write_plate(
    path: str | os.PathLike,
    name: str,
    wells: Mapping[Well, Iterable[PlateField]],
) -> None:
    """Writes a plate as OME-Zarr 0.4, whole or not at all.

    The fields of well B02 are the images B/02/0, B/02/1, …, each with its labels, as
    `ome_zarr.write_ome_zarr` writes them. The fields are iterated one at a time, so that
    only one is in memory. Wells without a field are left out.

    Args:
      path: path of the folder, NAME.ome.zarr.
      name: name of the plate.
      wells: the fields of each well.

    Raises:
      InputError: if no well has a field, or if zarr is not installed.
    """
    with atomic.atomic_folder(path) as temporary:
        root = ome_zarr.create_root(temporary)
        counts: dict[Well, int] = {}
        for well in sorted(wells, key=lambda well: well.order):
            count = _write_well(root, well, wells[well])
            if count:
                counts[well] = count
        if not counts:
            raise InputError(f"{path}: no field of this plate could be read.")
        root.attrs["plate"] = _plate(name, counts)


def _write_well(root: zarr.Group, well: Well, fields: Iterable[PlateField]) -> int:
    """Writes the fields of a well, and returns their number."""
    count = 0
    for field in fields:
        ome_zarr.write_image(
            root.create_group(f"{well.row}/{well.column}/{count}"),
            field.cells,
            field.image,
            pixel_size_um=field.pixel_size_um,
            name=field.name,
        )
        count += 1
    if count:
        images = [{"path": str(number)} for number in range(count)]
        group = root[f"{well.row}/{well.column}"]
        group.attrs["well"] = {"version": "0.4", "images": images}
    return count


def _plate(name: str, counts: Mapping[Well, int]) -> dict:
    rows = sorted({well.row for well in counts}, key=lambda row: (len(row), row))
    columns = sorted({well.column for well in counts})
    return {
        "version": "0.4",
        "name": name,
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": [
            {
                "path": f"{well.row}/{well.column}",
                "rowIndex": rows.index(well.row),
                "columnIndex": columns.index(well.column),
            }
            for well in counts
        ],
        "field_count": max(counts.values()),
    }
