"""Writes and reads conditions.csv, the table with the treatment of each dish."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping

from cellclass_tf import process_state
from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError, first_names
from cellclass_tf.messages import logger
from cellclass_tf.storage import csv_json, lock

CONDITIONS_FILE = "conditions.csv"
_COLUMNS = ("group", "condition", "replicate", "fields")


@dataclasses.dataclass(frozen=True)
class Assignment:
    """Condition and replicate of a dish.

    Attributes:
      condition: name of the treatment.
      replicate: name of the independent repeat, such as an animal, a culture or a day;
        dishes of the same condition and replicate are one observation, and a replicate that
        is named in two conditions is a pair.
    """

    condition: str
    replicate: str


@process_state.keep()
@lock.writes("study")
def conditions(study: str | os.PathLike | Study) -> pathlib.Path:
    """Writes STUDY/conditions.csv with one row per group, to be filled in by a person.

    The columns are `group`, `condition`, `replicate` and `fields`, the number of images of
    the group. A group whose `replicate` is empty is a replicate of its own; the same name in
    two conditions pairs the groups. Rows that are filled in are kept, and new groups are
    added.

    Args:
      study: folder of the study whose dishes are listed.

    Returns:
      The path of the table.

    Raises:
      InputError: if there is no study, the table cannot be read, or names a group twice.
    """
    study = Study.open(study)
    path = study.root / CONDITIONS_FILE
    known = {row["group"]: row for row in _rows(path)} if path.exists() else {}
    fields: dict[str, int] = {}
    for row in study.rows():
        fields[row.group] = fields.get(row.group, 0) + 1
    # Columns that a person added are kept.
    columns = dict.fromkeys(
        (*_COLUMNS, *(name for row in known.values() for name in row))
    )
    rows = [
        dict.fromkeys(columns, "")
        | known.get(group, {})
        | {"group": group, "fields": fields.get(group, 0)}
        for group in sorted({*known, *fields})
    ]
    csv_json.write_csv(path, columns, rows)
    filled = [group for group, row in known.items() if row["condition"].strip()]
    _warn_of_strangers(path, filled, fields)
    return path


def read_conditions(
    path: str | os.PathLike, groups: Iterable[str]
) -> Mapping[str, Assignment]:
    """Reads the condition and replicate of groups.

    Args:
      path: path of the table.
      groups: the groups to look up.

    Returns:
      The assignment of each group that has a condition.

    Raises:
      InputError: if the table cannot be read, names a group twice, or names no condition
        for any of the groups.
    """
    found = _assignments(path)
    wanted = set(groups)
    if not wanted & found.keys():
        raise InputError(
            f"{path}: none of the predicted groups ({first_names(sorted(wanted))}) has "
            f"a condition; the table has conditions for {first_names(sorted(found))}. Fill "
            "in the column `condition`."
        )
    if wanted - found.keys():
        # A table that names all groups may have more than these.
        _warn_of_strangers(path, found, wanted)
    return {group: of for group, of in found.items() if group in wanted}


def conditions_of(study: Study) -> dict[str, str]:
    """Returns the condition of each group that has one; empty if there is no table.

    Raises:
      InputError: if images.csv or the table cannot be read, or if the table names a group
        twice.
    """
    path = study.root / CONDITIONS_FILE
    found = _assignments(path) if path.exists() else {}
    if found:
        _warn_of_strangers(path, found, (row.group for row in study.rows()))
    return {group: of.condition for group, of in found.items()}


def _assignments(path: str | os.PathLike) -> dict[str, Assignment]:
    """Returns the assignment of each group that has a condition."""
    found = {}
    for row in _rows(path):
        group, condition = row["group"], row["condition"].strip()
        if condition:
            replicate = (row.get("replicate") or "").strip()
            found[group] = Assignment(condition, replicate or group)
    return found


def _rows(path: str | os.PathLike) -> list[dict[str, str]]:
    """Reads the rows that are not empty, and checks that no group occurs twice.

    Spaces around a group's name are removed, as in images.csv.
    """
    rows = csv_json.read_csv(path)
    missing = {"group", "condition"} - set(rows[0] if rows else ("group", "condition"))
    if missing:
        raise InputError(
            f"{path}: expected the columns group, condition and replicate; missing "
            f"{', '.join(sorted(missing))}. `cellclass conditions` writes such a table."
        )
    rows = [row | {"group": row["group"].strip()} for row in rows]
    lines: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        if any(row.values()) and lines.setdefault(row["group"], number) != number:
            raise InputError(
                f"{path}: the group {row['group']!r} occurs in the lines "
                f"{lines[row['group']]} and {number}. Keep one of them."
            )
    return [row for row in rows if any(row.values())]


def _warn_of_strangers(
    path: str | os.PathLike, found: Iterable[str], groups: Iterable[str]
) -> None:
    """Warns if a condition is that of a group that does not exist.

    Args:
      path: path of the table.
      found: the groups that have a condition.
      groups: the groups that exist.
    """
    strangers = sorted(set(found) - set(groups))
    if strangers:
        logger.warning(
            "%s has conditions of groups without fields: %s. Did a spreadsheet change "
            "their names (01 becomes 1, and 1-2 a date)? Correct the column `group`.",
            path,
            first_names(list(map(repr, strangers))),
        )
