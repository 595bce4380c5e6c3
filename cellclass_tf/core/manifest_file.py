"""images.csv: read, and changed so that what people write into it stays."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cellclass_tf.core import manifest
from cellclass_tf.core.manifest import COLUMNS, ImageRow
from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic, csv_json
from cellclass_tf.storage.ledger import Ledger, Written, ledger_of

# Columns of which the value that a person wrote stays, whatever the program finds out;
# those of one line are one thing to say.
_KEPT = (("verdict", "reason"), ("cell_type",), ("group",), ("pixel_size_um",))
# A spreadsheet that saves while it is written cannot do so for ever.
_MOST_ATTEMPTS = 20


@dataclasses.dataclass(frozen=True)
class ManifestFile:
    """images.csv of a study, which remembers what the program wrote into it.

    Attributes:
      path: of images.csv.
    """

    path: pathlib.Path

    def rows(self) -> list[ImageRow]:
        """Reads the rows, in their own order.

        Raises:
          InputError: if the table is broken: it names line and column.
        """
        return list(_parse(self.path, self._content())[0].values())

    def update(
        self,
        rows: Iterable[ImageRow],
        *parts: str,
        seen: Iterable[ImageRow] | None = None,
    ) -> None:
        """Brings rows to the table, which is read anew for it.

        Of images that it has, the columns of some parts are replaced, so that what
        others wrote meanwhile stays. Others come behind them, whole. Rows keep their
        order, and columns that are not of `ImageRow` stay as they are.

        What a person wrote wins: a cell that is not as it was `seen`; and a verdict with
        its reason, a type, a group or a pixel size that is not as the program wrote it,
        unless it was `seen` and the new value was decided from it.

        Args:
          rows: of the images.
          parts: of `manifest.PARTS`, that are the caller's to write; none for whole rows.
          seen: the rows from which these were made; None if they do not depend on what
            is in the table.

        Raises:
          InputError: if the table is broken, or never stays as it is.
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
            f"{self.path} is changed all the time by another program. Close that, and "
            "run this again."
        )

    def edited(self) -> dict[str, set[str]]:
        """Returns the columns that a person changed and that stay, by image."""
        rows = _parse(self.path, self._content())[0].values()
        ledger = self._ledger(rows)
        return {row.image: _edited(ledger, row) for row in rows}

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
        if not ledger.path.exists():
            # Until now verdicts alone were remembered; the rest counts as the program's.
            earlier = _verdicts_of_earlier_versions(self.path)
            for row in rows:
                for verdict, reason in earlier.get(row.image, [("", "")]):
                    told = {"verdict": verdict, "reason": reason}
                    ledger.add(row.image, Written(_state(_as_dict(row)) | told))
        return ledger


class _Changed(Exception):
    """The table is not as it was read."""


def _as_dict(row: ImageRow) -> dict[str, Any]:
    # dataclasses.asdict copies every value, for nothing.
    return {name: getattr(row, name) for name in COLUMNS}


def _state(values: Mapping[str, Any]) -> dict[str, Any]:
    names = [name for unit in _KEPT for name in unit if name in values]
    found = {name: values[name] for name in names}
    # As it is read back.
    return {k: v.strip() if isinstance(v, str) else v for k, v in found.items()}


def _told(ledger: Ledger, image: str, values: Mapping[str, Any]) -> Written:
    """What the program says of an image from now on."""
    known = ledger.known(image)
    return Written((known[0].state if known else {}) | _state(values))


def _edited(ledger: Ledger, row: ImageRow) -> set[str]:
    """The columns of a row that a person changed and that stay."""
    known = [written.state for written in ledger.known(row.image)]
    edited: set[str] = set()
    for unit in _KEPT:
        values = [getattr(row, name) for name in unit]
        told = [[state.get(name) for name in unit] for state in known]
        # An empty verdict, or group, is for the program to fill again.
        if known and values[0] != "" and values not in told:
            edited.update(unit)
    return edited


def _kept(
    ledger: Ledger,
    row: ImageRow,
    seen: Mapping[str, ImageRow] | None,
    columns: Sequence[str],
) -> set[str]:
    """The columns of a row that are not to be replaced."""
    if seen is None:
        return _edited(ledger, row)
    before = seen.get(row.image)
    if before is None:
        return set()
    return {name for name in columns if getattr(row, name) != getattr(before, name)}


def _verdicts_of_earlier_versions(path: pathlib.Path) -> dict[str, list]:
    """By image the [verdict, reason] that the program wrote."""
    with contextlib.suppress(OSError, ValueError):
        memory = path.parent / ".journal" / "verdicts.json"
        found = json.loads(memory.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _parse(
    path: pathlib.Path, content: bytes
) -> tuple[dict[str, ImageRow], list[str], dict[str, dict[str, str]]]:
    """Returns the rows by image, and the users' own columns with their values by image."""
    rows: dict[str, ImageRow] = {}
    lines = csv_json.parse_csv(content, path)
    columns = [c for c in (lines[0] if lines else ()) if c and c not in COLUMNS]
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
