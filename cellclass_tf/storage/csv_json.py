"""Reads and writes tables (CSV) and JSON; files are written whole or not at all."""

from __future__ import annotations

import codecs
import collections
import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from cellclass_tf.errors import InputError
from cellclass_tf.messages import logger
from cellclass_tf.storage import atomic, paths


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    atomic.write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Returns the text that `write_json` writes."""
    return json.dumps(value, indent=2, sort_keys=False) + "\n"


def read_json_object(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the object in a JSON file that the program wrote for itself.

    It is empty if there is no such file, or if the file holds anything else: a damaged
    record counts as none.
    """
    with contextlib.suppress(OSError, ValueError):
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        if isinstance(content, dict):
            return content
    return {}


def write_csv(
    path: str | os.PathLike, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Writes `rows` under `columns`, whole or not at all; None becomes an empty cell."""
    atomic.write_text(path, csv_text(columns, rows))


def csv_text(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Returns the text that `write_csv` writes."""
    buffer = io.StringIO()
    writer = TableWriter(buffer, columns)
    for row in rows:
        writer.write(row)
    return buffer.getvalue()


class TableWriter:
    """Writes the lines of a CSV table so that every text survives a round trip."""

    def __init__(self, file: IO[str], columns: Iterable[str]) -> None:
        """Writes the header.

        Args:
          file: text file, opened with newline="".
          columns: names of the columns.
        """
        self._columns = list(columns)
        self._known = frozenset(self._columns)
        self._plain = csv.writer(file, lineterminator="\n")
        self._quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self.write_values(self._columns)

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes a row; missing values and None become empty cells.

        Raises:
          ValueError: if the row has a key that is not a column.
        """
        if not row.keys() <= self._known:
            strange = sorted(row.keys() - self._known)
            raise ValueError(f"not columns of the table: {strange}")
        self.write_values([row.get(name, "") for name in self._columns])

    def write_values(self, values: Sequence[Any]) -> None:
        """Writes the values of a row, in the order of the columns."""
        # Before version 3.13, Python does not quote a carriage return by itself.
        has_return = any(isinstance(value, str) and "\r" in value for value in values)
        (self._quoted if has_return else self._plain).writerow(values)


def read_csv(path: str | os.PathLike) -> list[dict[str, str]]:
    """Reads a table with a header; returns one dictionary of strings per row.

    The table may be written by programs and spreadsheets: the delimiter is a comma,
    semicolon or tab; the encoding is UTF-8 (with or without a byte order mark), UTF-16 with
    a byte order mark, or Windows-1252; line endings may be of any kind. Missing cells of a
    short row are empty. A column without a header has the name ''.

    Raises:
      InputError: if the file cannot be read or is not a table, for example because a row
        has more cells than the header, or because two columns have the same name.
    """
    return parse_csv(read_bytes(path), path)


def read_bytes(path: str | os.PathLike) -> bytes:
    """Returns the content of a file.

    Raises:
      InputError: if the path is not a file, or if the file cannot be read.
    """
    try:
        paths.check_is_file(path)
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}).") from error


def parse_csv(content: bytes, path: str | os.PathLike) -> list[dict[str, str]]:
    """Parses the content of a table like `read_csv`; `path` is for messages.

    Raises:
      InputError: if the content is not a table.
    """
    text = _decoded(content, path)
    first = text.partition("\n")[0]
    # Excel reads and writes this hint for the delimiter.
    hint = re.fullmatch(r"sep=(.)\s*", first)
    delimiter = hint[1] if hint else _delimiter_of(first)
    lines = io.StringIO(text[len(first) + 1 :] if hint else text, newline="")
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        columns = next(reader, [])
        _check_header(columns, path)
        return [
            _row_of(columns, cells, f"{path}, line {reader.line_num}")
            for cells in reader
            if cells
        ]
    except csv.Error as error:
        raise InputError(f"{path}: expected a CSV table ({error}).") from error


def _check_header(columns: Sequence[str], path: str | os.PathLike) -> None:
    """Raises InputError if two columns have the same name."""
    counts = collections.Counter(filter(None, columns))
    if twice := [name for name, count in counts.items() if count > 1]:
        raise InputError(
            f"{path}: expected columns with different names, found {counts[twice[0]]} "
            f"with the name {twice[0]!r}. Rename one of them."
        )


def _row_of(columns: Sequence[str], cells: Sequence[str], place: str) -> dict[str, str]:
    """Returns the cells of a row by column; texts without a header have the key ''.

    Raises:
      InputError: if there are more cells than columns, or several texts without a header.
    """
    if any(cells[len(columns) :]):
        raise InputError(
            f"{place}: expected at most {len(columns)} cells, like the header. Does a cell "
            "contain a comma without quotation marks?"
        )
    row = dict.fromkeys(columns, "")
    nameless = []
    for column, cell in zip(columns, cells, strict=False):
        if column:
            row[column] = cell
        elif cell:
            nameless.append(cell)
    if len(nameless) > 1:
        raise InputError(
            f"{place}: expected at most one text without a header, found "
            f"{nameless[0]!r} and {nameless[1]!r}. Give each column a name."
        )
    return row | {"": nameless[0]} if nameless else row


def _decoded(content: bytes, path: str | os.PathLike) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings: tuple[str, ...] = ("utf-16",)
    else:
        encodings = ("utf-8-sig", "cp1252")
    for encoding in encodings:
        with contextlib.suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            if encoding == "cp1252":
                logger.warning("%s is not in UTF-8; read as Windows-1252.", path)
            return text
    raise InputError(
        f"{path}: expected UTF-8, UTF-16 or Windows-1252. Save it as 'CSV UTF-8'."
    )


def _delimiter_of(header: str) -> str:
    """Returns the most frequent of comma, semicolon and tab in a header."""
    unquoted = re.sub(r'"[^"]*"', "", header)
    return max(",;\t", key=unquoted.count)
