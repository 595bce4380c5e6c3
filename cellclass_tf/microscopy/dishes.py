"""Decides to which dish the fields of each raw file belong."""

from __future__ import annotations

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from cellclass_tf.core.micrograph import FILE_SEPARATOR
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.microscopy.files.raw_files import RawFile
from cellclass_tf.microscopy.measurement import FieldMeasurement
from cellclass_tf.splits.groups import normalized


class GroupedFile(NamedTuple):
    """A raw file with its groups.

    Attributes:
      raw: the raw file.
      stem: TYPE/NAME of its images, to which each field adds its suffix.
      groups: acquisition group (dish) of each of its fields, unless a person edited it.
      contrast: contrast group of its fields.
      found: acquisition group of each field according to the folder or the pattern.
      edited: whether a person wrote another group of the first field into the manifest.
    """

    raw: RawFile
    stem: str
    groups: tuple[str, ...]
    contrast: str
    found: tuple[str, ...]
    edited: bool

    @property
    def is_lone(self) -> bool:
        """Whether nothing names the dish, so that the file counts as one of its own."""
        if self.edited or self.raw.grouped:
            return False
        return set(self.groups) == {self.stem}

    @property
    def differs(self) -> bool:
        """Whether the file keeps another dish than the one that its folder names now."""
        return not self.edited and self.groups != self.found


@dataclasses.dataclass(frozen=True)
class Dishes:
    """The groups that raw files have, and those that the manifest gives their images.

    Attributes:
      study: the study before the conversion.
      folder: the input, as an absolute path.
      source: name of the input, the contrast group of files whose dish is not known.
      keeps: whether files keep the groups that the manifest gives them, if they lie where
        they lay. True if no conversion of the study was given `group`: earlier versions
        did not record it, so the groups may come from a pattern that is not known any
        more.
    """

    study: Study
    folder: pathlib.Path
    source: str
    keeps: bool

    def of(
        self, raw: RawFile, fields: Sequence[FieldMeasurement], stem: str
    ) -> GroupedFile:
        """Returns a file with the groups of its fields.

        A group that a person wrote into the manifest is also the contrast group, unless
        the file is a plate, whose wells share their contrast limits.

        Args:
          raw: the file, with the group that a folder or a pattern gives it.
          fields: measurements of its fields.
          stem: TYPE/NAME of its images.
        """
        if not raw.grouped:
            # Unlike the file's name, the image's name belongs to no other file.
            raw = dataclasses.replace(raw, group=stem)
        found = tuple(raw.group_of(field.well) for field in fields)
        rows = [self._rows.get(f"{stem}{field.suffix}") for field in fields]
        kept = [row if row and self._is_kept(row, raw) else None for row in rows]
        first = kept[0]
        edited = (
            rows[0] is not None
            and rows[0].group != found[0]
            and self._is_edited(rows[0])
        )
        contrast = raw.group if raw.grouped else self.source
        if any(field.well for field in fields):
            groups = tuple(
                _group_of(row, group) if row and not self._is_edited(row) else group
                for row, group in zip(kept, found, strict=True)
            )
            contrast = (first.contrast_group if first else "") or contrast
            return GroupedFile(raw, stem, groups, contrast, found, edited)
        if rows[0] and edited:
            # The manifest keeps the person's group. If it came from here, it would count
            # as written by the program.
            contrast = normalized(rows[0].group)
        elif first:
            shared = first.contrast_group == first.group
            group = _group_of(first, raw.group)
            raw = dataclasses.replace(raw, group=group, grouped=shared)
            contrast = raw.group if raw.grouped else self.source
        groups = (raw.group,) * len(fields)
        return GroupedFile(raw, stem, groups, contrast, found, edited)

    def _is_kept(self, row: ImageRow, raw: RawFile) -> bool:
        """Whether an image keeps its group, whatever the folder of its file says."""
        if not self.keeps or not row.group:
            return False
        return self._is_edited(row) or _lies_where_it_lay(row, raw, self.folder)

    def _is_edited(self, row: ImageRow) -> bool:
        return "group" in self._edited[row.image]

    @functools.cached_property
    def _rows(self) -> dict[str, ImageRow]:
        """The rows of the manifest before the conversion, by stem."""
        return {row.stem: row for row in self.study.rows()}

    @functools.cached_property
    def _edited(self) -> dict[str, set[str]]:
        """The columns that a person edited, by image."""
        return self.study.edited_columns()


def notes(files: Sequence[GroupedFile]) -> tuple[str, ...]:
    """Returns notes on files whose dish is not known, or is not the one of their folder."""
    return _notes_of_lone(files) + _notes_of_kept(files)


def _notes_of_lone(files: Sequence[GroupedFile]) -> tuple[str, ...]:
    """Returns a note if a type has several files whose dish is not known."""
    lone = collections.Counter(file.raw.cell_type for file in files if file.is_lone)
    if max(lone.values(), default=0) < 2:
        return ()
    return (
        f"dishes: each of {lone.total()} files counts as a dish of its own. If several are of "
        "one dish, put them into a folder TYPE/DISH, or name the dish with --group",
    )


def _notes_of_kept(files: Sequence[GroupedFile]) -> tuple[str, ...]:
    """Returns a note if images keep a dish that their folder does not name."""
    kept = [file for file in files if file.differs]
    if not kept:
        return ()
    images = sum(len(file.groups) for file in kept)
    first = kept[0]
    own, found = next(
        pair
        for pair in zip(first.groups, first.found, strict=True)
        if len(set(pair)) > 1
    )
    told = (
        f"dishes: {images} images keep the dish of an earlier conversion, and not that of "
        f"their folder ({first.raw.path}: {own}, and not {found}). To change that, empty "
        "their column group in images.csv, and convert again"
    )
    return (told,)


def _group_of(row: ImageRow, found: str) -> str:
    """Returns the group of an image; `found` is the one that its folder names now."""
    # The group of a file that is one of its own has exactly the name of its image.
    if row.group == row.stem:
        return row.group
    group = normalized(row.group)
    return found if normalized(found) == group else group


def _lies_where_it_lay(row: ImageRow, raw: RawFile, folder: pathlib.Path) -> bool:
    """Whether a file lies in the same folder as when its image was made.

    If the whole input was moved, or an earlier version recorded a relative path, it is the
    folder below the input that counts.
    """
    before = pathlib.Path(row.raw_file.split(FILE_SEPARATOR)[0]).parent
    now = raw.path.parent
    if before == now:
        return True
    if before.is_relative_to(folder) or not now.is_relative_to(folder):
        return False
    parts = now.relative_to(folder).parts
    return before.parts[len(before.parts) - len(parts) :] == parts
