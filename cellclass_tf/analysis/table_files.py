"""Writes, joins and reads the tables of cells: cells.csv, counts.csv, cells.parquet."""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import pathlib
import types
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cellclass_tf.analysis.cell_table import REPEATED, columns, count_columns
from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic, csv_json

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.csv

PARQUET_FILE = "cells.parquet"
# Column with the treatment of the dish, which only cells.csv has.
CONDITION = "condition"


def write_cells_csv(
    path: str | os.PathLike,
    tables: Iterable[Sequence[Mapping[str, Any]]],
    type_names: Sequence[str],
) -> None:
    """Writes the rows of `cell_table` of one or more fields, completely or not at all.

    Args:
      path: path of cells.csv.
      tables: rows of each field; they are taken one at a time, so that a generator needs
        memory for one field only.
      type_names: names of the types, in class order.
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
    """Writes the rows of `count_row` as counts.csv, completely or not at all."""
    csv_json.write_csv(path, count_columns(type_names), rows)


def join_csv(
    path: str | os.PathLike,
    parts: Iterable[str | os.PathLike],
    conditions: Mapping[str, str],
    repeated: Mapping[str, Collection[int]] = types.MappingProxyType({}),
) -> None:
    """Joins tables of `write_cells_csv` into one, row by row.

    Args:
      path: path of the joined table.
      parts: paths of the tables, which must have the same header.
      conditions: {group: condition}, for the last column, `condition`; it is empty for
        other groups.
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


def sha256_of_cells(cells_csv: str | os.PathLike) -> str:
    """Returns the SHA-256 of the cells in cells.csv, without what `join_csv` adds.

    A person may fill in conditions.csv after the cells were labelled or evaluated, and earlier
    versions did not mark cells that count in another tile. Both change the file but no cell.
    """
    digest = hashlib.sha256()
    with open(cells_csv, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        is_own = [name not in (REPEATED, CONDITION) for name in header]
        for row in itertools.chain([header], rows):
            kept = itertools.compress(row, is_own)
            # The unit separator of ASCII, which no value contains.
            digest.update("\x1f".join(kept).encode() + b"\n")
    return digest.hexdigest()


def write_parquet(path: str | os.PathLike, cells_csv: str | os.PathLike) -> None:
    """Writes cells.csv as Parquet, block by block, completely or not at all.

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
    """Opens cells.csv as a `pyarrow.csv.CSVStreamingReader`, which reads it in blocks.

    Counts of cells and pixels are int64, other numbers float64, on_border, in_frame
    and repeated bool, and the others text; an empty number is null.
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

    return {
        str: pyarrow.string(),
        bool: pyarrow.bool_(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
    }[_kind_of(column)]


def _kind_of(column: str) -> type:
    """Returns the type of a column's values: str, bool, int or float."""
    if column in ("image", "cell_type", "call", "group", "scene", CONDITION):
        return str
    if column in ("on_border", "in_frame", REPEATED):
        return bool
    whole = column in ("cell", "nuclei", "time") or column.endswith("area_px")
    return int if whole or column.startswith("neighbours") else float


class FieldRows:
    """Reads the rows of cells.csv field by field.

    The file is read once, as far as needed. Rows of other fields are kept until they are
    asked for, so little is kept if fields are asked for in the order of the file.
    """

    def __init__(self, cells_csv: str | os.PathLike) -> None:
        self._path = cells_csv
        self._rows: Iterator[dict[str, str]] | None = None
        self._kept: dict[str, list[dict[str, str]]] = {}

    def of(self, image: str, count: int) -> list[dict[str, Any]]:
        """Returns the rows of a field, which can be asked for once.

        Args:
          image: name of the field.
          count: number of its cells.

        Returns:
          `count` rows as those of `cell_table`, with repeated and condition, sorted by cell;
          numbers that are missing are None.

        Raises:
          InputError: if the file has fewer rows of the field, or if a value is not a number.
        """
        if self._rows is None:
            self._rows = self._read()
        found = self._kept.pop(image, [])
        while len(found) < count and (row := next(self._rows, None)):
            own = row["image"] == image
            (found if own else self._kept.setdefault(row["image"], [])).append(row)
        try:
            values = [_values(row) for row in found]
            if len(values) != count:
                raise ValueError(f"{len(values)} rows")
        except ValueError as error:
            raise InputError(
                f"{self._path}: expected {count} rows of numbers for {image!r}; got {error}. "
                "Run `cellclass predict` again."
            ) from error
        return sorted(values, key=lambda row: row["cell"])

    def _read(self) -> Iterator[dict[str, str]]:
        with open(self._path, encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)


def _values(row: Mapping[str, str]) -> dict[str, Any]:
    """Converts the texts of a row; columns that people added are left out."""
    types = [name.removeprefix("p_") for name in row if str(name).startswith("p_")]
    known = {*columns(types), REPEATED, CONDITION}
    return {name: _value(name, row[name] or "") for name in row if name in known}


def _value(column: str, text: str) -> Any:
    kind = _kind_of(column)
    if kind is bool:
        return text == "True"
    if kind is str:
        return text
    return kind(float(text)) if text else None
