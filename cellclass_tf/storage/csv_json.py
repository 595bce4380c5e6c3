"""Tables and records: CSV and JSON, written whole or not at all."""

from __future__ import annotations

import codecs
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
    """Returns what `write_json` writes."""
    return json.dumps(value, indent=2, sort_keys=False) + "\n"


def write_csv(
    path: str | os.PathLike, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Writes `rows` under `columns`, whole or not at all; None becomes an empty cell."""
    atomic.write_text(path, csv_text(columns, rows))


def csv_text(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Returns what `write_csv` writes."""
    buffer = io.StringIO()
    writer = TableWriter(buffer, columns)
    for row in rows:
        writer.write(row)
    return buffer.getvalue()


class TableWriter:
    """Writes the lines of a CSV table, so that every text comes back as it was."""

    def __init__(self, file: IO[str], columns: Iterable[str]) -> None:
        """Writes the header.

        Args:
          file: opened with newline="".
          columns: the header.
        """
        self._columns = list(columns)
        self._known = frozenset(self._columns)
        self._plain = csv.writer(file, lineterminator="\n")
        self._quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self.write_values(self._columns)

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes a row; what it lacks, and None, become empty cells.

        Raises:
          ValueError: if it has a value of no column.
        """
        if not row.keys() <= self._known:
            strange = sorted(row.keys() - self._known)
            raise ValueError(f"no columns of the table: {strange}")
        self.write_values([row.get(name, "") for name in self._columns])

    def write_values(self, values: Sequence[Any]) -> None:
        """Writes the values of a row, in the order of the columns."""
        # Of line breaks, Python before 3.13 quotes those alone that end its own lines.
        has_return = any(isinstance(value, str) and "\r" in value for value in values)
        (self._quoted if has_return else self._plain).writerow(values)


def read_csv(path: str | os.PathLike) -> list[dict[str, str]]:
    """Reads a table with a header into one dictionary of strings a row.

    As programs and spreadsheets write it: parted by commas, semicolons or tabs; in UTF-8
    or UTF-16 with a byte order mark or without, or else in Windows-1252; with any line
    ends. Cells that a short row lacks are empty.

    Raises:
      InputError: if it cannot be read, or is no table: a row has more cells than the
        header.
    """
    return parse_csv(read_bytes(path), path)


def read_bytes(path: str | os.PathLike) -> bytes:
    """Returns what a file holds.

    Raises:
      InputError: if it is none, or cannot be read.
    """
    try:
        paths.check_is_file(path)
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}).") from error


def parse_csv(content: bytes, path: str | os.PathLike) -> list[dict[str, str]]:
    """Reads the content of a table, as `read_csv` does; `path` is for messages.

    Raises:
      InputError: if it is no table.
    """
    text = _decoded(content, path)
    first = text.partition("\n")[0]
    # A hint that Excel understands, and writes.
    hint = re.fullmatch(r"sep=(.)\s*", first)
    delimiter = hint[1] if hint else _delimiter_of(first)
    lines = io.StringIO(text[len(first) + 1 :] if hint else text, newline="")
    reader = csv.DictReader(lines, restval="", delimiter=delimiter)
    rows = []
    try:
        for row in reader:
            if any(row.pop(None, ())):
                raise InputError(
                    f"{path}, line {reader.line_num}: expected at most "
                    f"{len(reader.fieldnames or ())} cells, as the header has. Is a comma in a "
                    "cell that is not quoted?"
                )
            rows.append(row)
    except csv.Error as error:
        raise InputError(f"{path}: expected a CSV table ({error}).") from error
    return rows


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
    """The one of comma, semicolon and tab that a header has most of."""
    unquoted = re.sub(r'"[^"]*"', "", header)
    return max(",;\t", key=unquoted.count)
