"""Chooses unique names for merged images."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from cellclass_tf.core.micrograph import FILE_SEPARATOR
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.microscopy.files import raw_files
from cellclass_tf.microscopy.files.raw_files import RawFile
from cellclass_tf.storage import digests


class Names:
    """Chooses for each raw file a stem below images/ that no other file has."""

    def __init__(self, study: Study) -> None:
        self._owners: dict[str, ImageRow] = {row.stem: row for row in study.rows()}
        self._taken: set[str] = set()
        # Some file systems ignore case, or the Unicode normal form.
        self._folded = set(map(_folded, self._owners))

    def take(self, raw: RawFile, suffixes: Sequence[str]) -> str | None:
        """Reserves and returns the stem of a file's images, TYPE/NAME.

        If another file has that name, the name gets the folder before it, or the ending
        after it.

        Returns:
          The stem; None if other files have all of these names.
        """
        folder = raw_files.stem_of(raw.path.parent.name)
        ending = raw.path.suffix.lower().lstrip(".")
        for name in (
            *self._as_before(raw, suffixes),
            raw.stem,
            f"{folder}_{raw.stem}",
            f"{raw.stem}_{ending}",
            f"{folder}_{raw.stem}_{ending}",
        ):
            stems = [f"{raw.cell_type}/{name}{suffix}" for suffix in suffixes]
            if all(self._is_free(stem, raw) for stem in stems):
                self._taken.update(stems)
                self._folded.update(map(_folded, stems))
                return f"{raw.cell_type}/{name}"
        return None

    def _as_before(self, raw: RawFile, suffixes: Sequence[str]) -> list[str]:
        """Returns the shortened name that an earlier version gave to this file, if any."""
        name = raw.stem_of_earlier_versions
        owner = self._owners.get(f"{raw.cell_type}/{name}{suffixes[0]}")
        return [name] if owner and name != raw.stem and _is_of(owner, raw) else []

    def _is_free(self, stem: str, raw: RawFile) -> bool:
        owner = self._owners.get(stem)
        if owner is None:
            return _folded(stem) not in self._folded
        return stem not in self._taken and _is_of(owner, raw)


def _folded(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()


def _is_of(row: ImageRow, raw: RawFile) -> bool:
    """Whether a row was made from this file, which may have changed or moved since."""
    if row.raw_file == raw.name:
        return True
    found = (digests.sha256_of_path(path) for path in raw.files.paths)
    return row.raw_sha256 == FILE_SEPARATOR.join(found)
