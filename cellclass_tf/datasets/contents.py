"""Records what a dataset was made of, and reports what has changed since."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from cellclass_tf.storage import digests

_NAMES_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class FieldFacts:
    """One field of a dataset, and how its cells were found.

    Attributes:
      culture: the type of a pure culture, or 'mixed'.
      group: acquisition group (dish, well, slide).
      split: split of the dataset.
      pixel_size_um: width of a pixel in µm; 0 if unknown.
      image_sha256: SHA-256 of the merged image.
      cells_sha256: SHA-256 of the label image.
      types_sha256: SHA-256 of the table of types; '' if there is none.
      cells: number of cells by type.
      annotator: name of the annotator that outlined the cells.
      annotator_sha256: SHA-256 of its weights.
      annotator_settings: its settings in words.
      corrected: whether a person changed the cells.
    """

    culture: str
    group: str
    split: str
    pixel_size_um: float
    image_sha256: str
    cells_sha256: str
    types_sha256: str
    cells: Mapping[str, int]
    annotator: str = ""
    annotator_sha256: str = ""
    annotator_settings: str = ""
    corrected: bool = False


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a dataset is made of.

    Attributes:
      cell_types: cell types in class order.
      fields: fields by image.
      excluded: reasons of rejected images, by image.
    """

    cell_types: tuple[str, ...]
    fields: Mapping[str, FieldFacts]
    excluded: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """Hash of pixels, labels, types, groups, splits, pixel sizes and exclusions."""
        parts = [
            (
                image,
                field.culture,
                field.group,
                field.split,
                field.pixel_size_um,
                field.image_sha256,
                field.cells_sha256,
                field.types_sha256,
            )
            for image, field in sorted(self.fields.items())
        ]
        return digests.fingerprint(self.cell_types, parts, dict(self.excluded))

    def to_json(self) -> dict[str, Any]:
        """Returns the contents as JSON-like values, with their fingerprint."""
        return {
            "fingerprint": self.fingerprint,
            "cell_types": list(self.cell_types),
            "fields": {k: dataclasses.asdict(v) for k, v in self.fields.items()},
            "excluded": dict(self.excluded),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Contents:
        """Reads the values of `to_json`.

        Raises:
          KeyError or TypeError: if the value has another form.
        """
        fields = {
            image: FieldFacts(**field) for image, field in value["fields"].items()
        }
        return cls(tuple(value["cell_types"]), fields, value["excluded"])

    def cells_of(self, images: Iterable[str]) -> collections.Counter[str]:
        """Counts the cells of some fields by type."""
        total: collections.Counter[str] = collections.Counter()
        for image in images:
            total.update(self.fields[image].cells)
        return total

    def changes_since(self, old: Contents) -> list[str]:
        """Describes the changes of types, fields, cells and splits, a line for each."""
        before, now = set(old.fields), set(self.fields)
        both = sorted(before & now)
        lines = []
        if old.cell_types != self.cell_types:
            names = (", ".join(types) for types in (old.cell_types, self.cell_types))
            lines.append("cell types: {} -> {}".format(*names))
        lines += self._said("added", sorted(now - before))
        lines += old._said("removed", sorted(before - now))
        lines += [
            f"{_count(len(changed), 'field')} with {what} {_some(changed)}"
            for what, attribute in _ATTRIBUTES.items()
            if (changed := _differing(old, self, both, attribute))
        ]
        lines += self._redrawn(old, both)
        moved = collections.Counter(
            f"{old.fields[i].split} -> {self.fields[i].split}"
            for i in _differing(old, self, both, "split")
        )
        lines += [f"{_count(n, 'field')} moved: {way}" for way, n in moved.items()]
        if rejected := sorted(set(self.excluded) - set(old.excluded)):
            lines.append(f"{_count(len(rejected), 'image')} rejected {_some(rejected)}")
        if back := sorted(set(old.excluded) - set(self.excluded)):
            lines.append(
                f"{_count(len(back), 'image')} no longer rejected {_some(back)}"
            )
        return lines

    def _said(self, what: str, images: list[str]) -> list[str]:
        if not images:
            return []
        cells = ", ".join(f"{n} {t}" for t, n in sorted(self.cells_of(images).items()))
        held = f", {cells} cells" if cells else ""
        return [f"{_count(len(images), 'field')} {what} {_some(images)}{held}"]

    def _redrawn(self, old: Contents, images: list[str]) -> list[str]:
        redrawn = _differing(old, self, images, "cells_sha256")
        renamed = _differing(old, self, images, "types_sha256")
        changed = sorted({*redrawn, *renamed})
        if not changed:
            return []
        before, now = old.cells_of(changed), self.cells_of(changed)
        counts = ", ".join(f"{t} {before[t]} -> {now[t]}" for t in sorted(before | now))
        return [
            f"{_count(len(changed), 'field')} with other cells {_some(changed)}: {counts}"
        ]


# Attributes of a field that may change, besides its cells and its split.
_ATTRIBUTES = {
    "other pixels": "image_sha256",
    "another group": "group",
    "another culture": "culture",
    "another pixel size": "pixel_size_um",
}


def _differing(
    old: Contents, new: Contents, images: Iterable[str], attribute: str
) -> list[str]:
    return [
        image
        for image in images
        if getattr(old.fields[image], attribute)
        != getattr(new.fields[image], attribute)
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"({shown}{f' and {more} more' if more > 0 else ''})"
