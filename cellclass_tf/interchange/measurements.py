"""Returns the table of the cells of a field, as it is written for other programs."""

from __future__ import annotations

from typing import Any

from cellclass_tf.analysis import cell_table, sources
from cellclass_tf.core.cells import Cells
from cellclass_tf.microscopy import contrast


def rows_of(field: sources.FieldOfCells, cells: Cells) -> list[dict[str, Any]]:
    """Returns the rows of a field in cells.csv; the cells of a study are measured now.

    Args:
      field: a field of a study or of a run. The rows of a run can be read once.
      cells: its N cells.

    Returns:
      N rows with the columns of `cell_table`.

    Raises:
      InputError: if the image or cells.csv cannot be read.
    """
    if field.table is not None:
        return field.table(len(cells))
    row = field.row
    return cell_table.cell_table(
        cells,
        field.pixels(),
        name=field.stem,
        group=field.group,
        scene=row.place if row else "",
        time=row.time if row else 0,
        pixel_size_um=field.pixel_size_um,
        limits=contrast.limits_by_channel(row) if row else None,
    )
