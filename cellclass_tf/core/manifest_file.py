"""Reads and updates images.csv without overwriting what people wrote into it."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cellclass_tf.core import manifest
from cellclass_tf.core.manifest import COLUMNS, ImageRow
from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic, csv_json
from cellclass_tf.storage.ledger import Ledger, Written, ledger_of

# Columns in which a person's value is never overwritten. Columns of one tuple belong
# together: a change of one counts as a change of all.
_KEPT = (("verdict", "reason"), ("cell_type",), ("group",), ("pixel_size_um",))
# How often writing is tried while another program changes the file.
_MOST_ATTEMPTS = 20


@dataclasses.dataclass(frozen=True)
class ManifestFile:
    """images.csv of a study, with a ledger of what the program wrote into it.

    Attributes:
      path: path of images.csv.
    """

    path: pathlib.Path

    def rows(self) -> list[ImageRow]:
        """Reads the rows in the order of the file.

        Raises:
          InputError: if the table is not valid; the message names line and column.
        """
        return list(_parse(self.path, self._content())[0].values())

    def update(
        self,
        rows: Iterable[ImageRow],
        *parts: str,
        seen: Iterable[ImageRow] | None = None,
    ) -> None:
        """Writes rows into the table, which is read again for this purpose.

        If the table has a row for an image, only the columns of the given parts are
        replaced, so that changes by other programs stay. Rows of new images are appended
        as a whole. The order of rows and the users' own columns do not change.

        A person's edits are never overwritten. If `seen` is given, a value counts as
        edited if it differs from the value in `seen`. If not, a verdict with its reason, a
        type, a group or a pixel size counts as edited if the program did not write it.

        Args:
          rows: the new rows.
          parts: the `manifest.PARTS` to write; none for all.
          seen: the rows from which the new ones were made; None if they do not depend on
            the content of the table.

        Raises:
          InputError: if the table is not valid, or if another program keeps changing it.
        """
        own = manifest.columns_of(*(parts or manifest.PARTS))
        new = {row.image: row for row in sorted(rows, key=lambda row: row.image)}
        before = None if seen is None else {row.image: row for row in seen}
        for _ in range(_MOST_ATTEMPTS):
            content = self._content()
            current, columns, extra = _parse(self.path, content)
            ledger = self._ledger(current.values())
            merged, told = dict(current), {}
            for image, row in new.items():
                old = current.get(image)
                kept = _kept(ledger, old, before, own) if old else set()
                values = {name: getattr(row, name) for name in own}
                merged[image] = dataclasses.replace(
                    old or row, **{k: v for k, v in values.items() if k not in kept}
                )
                told[image] = _told(ledger, image, values if old else _as_dict(row))
            text = csv_json.csv_text(
                (*COLUMNS, *columns),
                (extra.get(image, {}) | _as_dict(row) for image, row in merged.items()),
            )
            with contextlib.suppress(_Changed):
                self._write(text, content, ledger, told)
                return
        raise InputError(
            f"{self.path}: another program keeps changing this file. Close that program, "
            "and run this again."
        )

    def edited(self) -> dict[str, set[str]]:
        """Returns by image the columns that a person edited and that are kept."""
        rows = _parse(self.path, self._content())[0].values()
        ledger = self._ledger(rows)
        return {row.image: _edited(ledger, row) for row in rows}

    def lost(self, images: Iterable[str]) -> list[str]:
        """Returns those of the images whose rows were deleted since they were written."""
        there, ledger = {row.image for row in self.rows()}, self._ledger(())
        # The row of a pending record may not have been written.
        return [
            image
            for image in images
            if image not in there
            and ledger.known(image)
            and not ledger.is_pending(image)
        ]

    def _content(self) -> bytes:
        return csv_json.read_bytes(self.path) if self.path.exists() else b""

    def _write(
        self, text: str, content: bytes, ledger: Ledger, told: Mapping[str, Written]
    ) -> None:
        @contextlib.contextmanager
        def unless_changed(_: pathlib.Path) -> Iterator[None]:
            with ledger.recording(told):
                if self._content() != content:
                    raise _Changed
                yield

        with atomic.atomic_path(self.path, unless_changed) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")

    def _ledger(self, rows: Iterable[ImageRow]) -> Ledger:
        ledger = ledger_of(self.path.parent, self.path)
        if ledger.path.exists():
            return ledger
        earlier = _verdicts_of_earlier_versions(self.path)
        for row in rows:
            if not earlier:
                # Without any record, all values count as a person's.
                ledger.add(row.image, Written({}))
                continue
            # Earlier versions recorded verdicts only; other values count as the program's.
            for verdict, reason in earlier.get(row.image, [("", "")]):
                told = {"verdict": verdict, "reason": reason}
                ledger.add(row.image, Written(_state(_as_dict(row)) | told))
        return ledger


class _Changed(Exception):
    """Another program changed the table after it was read."""


def _as_dict(row: ImageRow) -> dict[str, Any]:
    # Unlike dataclasses.asdict, this does not copy every value.
    return {name: getattr(row, name) for name in COLUMNS}


def _state(values: Mapping[str, Any]) -> dict[str, Any]:
    names = [name for unit in _KEPT for name in unit if name in values]
    found = {name: values[name] for name in names}
    # Reading strips texts, too.
    return {k: v.strip() if isinstance(v, str) else v for k, v in found.items()}


def _told(ledger: Ledger, image: str, values: Mapping[str, Any]) -> Written:
    """Returns the values that the program writes for an image, for the ledger."""
    known = ledger.known(image)
    return Written((known[0].state if known else {}) | _state(values))


def _edited(ledger: Ledger, row: ImageRow) -> set[str]:
    """Returns the columns of a row that a person edited and that are kept."""
    known = [written.state for written in ledger.known(row.image)]
    edited: set[str] = set()
    for unit in _KEPT:
        values = [getattr(row, name) for name in unit]
        told = [[state.get(name) for name in unit] for state in known]
        # If a person empties a verdict or a group, the program fills it again.
        if known and values[0] != "" and values not in told:
            edited.update(unit)
    return edited


def _kept(
    ledger: Ledger,
    row: ImageRow,
    seen: Mapping[str, ImageRow] | None,
    columns: Sequence[str],
) -> set[str]:
    """Returns the columns of a row that must not be replaced."""
    if seen is None:
        return _edited(ledger, row)
    before = seen.get(row.image)
    if before is None:
        return set()
    return {name for name in columns if getattr(row, name) != getattr(before, name)}


def _verdicts_of_earlier_versions(path: pathlib.Path) -> dict[str, list]:
    """Returns by image the [verdict, reason] that earlier versions wrote."""
    return csv_json.read_json_object(path.parent / ".journal" / "verdicts.json")


def _check_columns(path: pathlib.Path, there: Iterable[str]) -> None:
    """Checks that a table has the columns that people edit, under their names.

    Tables of earlier versions lack some of the other columns.

    Raises:
      InputError: if one is missing, or if a column has the name of a missing one but for
        upper and lower case or spaces.
    """
    found = set(there)
    meant = {name.strip().casefold(): name for name in found - set(COLUMNS)}
    for column in COLUMNS:
        if column in found:
            continue
        if column in meant:
            raise InputError(
                f"{path}: expected the column {column!r}, found {meant[column]!r}. Give "
                f"the column the name {column!r}."
            )
        if column in manifest.EDITED_COLUMNS:
            raise InputError(
                f"{path}: expected the column {column!r}, which is missing, so that "
                "entries by people may be lost. Take it from an older copy of the table, or "
                f"add a column {column!r} with empty cells if it had no entries by people."
            )


def _parse(
    path: pathlib.Path, content: bytes
) -> tuple[dict[str, ImageRow], list[str], dict[str, dict[str, str]]]:
    """Returns rows by image, names of the users' own columns, and their values by image."""
    rows: dict[str, ImageRow] = {}
    lines = csv_json.parse_csv(content, path)
    _check_columns(path, lines[0] if lines else COLUMNS)
    # Spreadsheets write empty columns without a header beside a table.
    has_notes = any(line.get("") for line in lines)
    own = [c for c in (lines[0] if lines else ()) if c not in COLUMNS]
    columns = [c for c in own if c or has_notes]
    extra = {}
    for number, line in enumerate(lines, start=2):
        try:
            row = manifest.row_from_strings(line)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        if row.image in rows:
            raise InputError(f"{path}: {row.image} has two rows. Delete one of them.")
        rows[row.image] = row
        extra[row.image] = {column: line[column] for column in columns}
    return rows, columns, extra
