"""Tables and records: CSV and JSON, written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    atomic.write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


def write_csv(
    path: str | os.PathLike, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Writes `rows` under `columns`, whole or not at all; None becomes an empty cell."""
    rows = list(rows)
    # Of line breaks, Python before 3.13 quotes those alone that end its own lines.
    has_returns = any("\r" in str(value) for row in rows for value in row.values())
    quoting = csv.QUOTE_ALL if has_returns else csv.QUOTE_MINIMAL
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(columns), lineterminator="\n", quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    atomic.write_text(path, buffer.getvalue())


def read_csv(path: str | os.PathLike) -> list[dict[str, str]]:
    """Reads a CSV file with a header into one dictionary of strings a row.

    Cells that a short row lacks are empty.

    Raises:
      InputError: if it is not UTF-8, or no table: a row has more cells than the header.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            rows = []
            for row in reader:
                if any(row.pop(None, ())):
                    raise InputError(
                        f"{path}, line {reader.line_num}: expected at most "
                        f"{len(reader.fieldnames)} cells, as the header has. Is a comma "
                        "in a cell that is not quoted?"
                    )
                rows.append(row)
            return rows
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected UTF-8 ({error}). Save it as 'CSV UTF-8'."
        ) from error
    except csv.Error as error:
        raise InputError(f"{path}: expected a CSV table ({error}).") from error
