"""Compares the cells of two runs, or of a run and the ground truth, cell by cell."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf import process_state
from cellclass_tf.analysis import sources
from cellclass_tf.core.cells import Cells
from cellclass_tf.drawing import overlay
from cellclass_tf.errors import InputError, first_names, one_line
from cellclass_tf.labels import matching
from cellclass_tf.messages import logger, progress_bar
from cellclass_tf.storage import csv_json, ledger, lock, png

SAME, OTHER_TYPE, OTHER_OUTLINE = "same", "other type", "other outline"
ONLY_A, ONLY_B = "only in A", "only in B"
CHANGES = (OTHER_TYPE, ONLY_A, ONLY_B, OTHER_OUTLINE)
_COLUMNS = ("image", "change", "cell_a", "cell_b", "type_a", "type_b", "iou")
_FIELD_COLUMNS = ("image", "cells_a", "cells_b", SAME, *CHANGES, "picture")
# IoU from which two cells are the same cell, and from which they have the same outline.
_SAME_CELL_IOU, _SAME_OUTLINE_IOU = 0.5, 0.75


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Result of `compare`.

    Attributes:
      fields: number of fields that were compared.
      counts: number of cells by kind of change.
      only_a, only_b: names of the fields that only A, or only B, has.
      folder: folder with tables and pictures.
      failures: {field: reason} for fields of both that could not be compared.
    """

    fields: int
    counts: dict[str, int]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    folder: pathlib.Path
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether all fields that both have could be compared."""
        return not self.failures

    def __str__(self) -> str:
        lines = [f"{self.fields} fields are in both and were compared."]
        lines += [f"  not compared: {one_line(why)}" for why in self.failures.values()]
        lines += [f"  {key:<14}{self.counts[key]}" for key in (SAME, *CHANGES)]
        for name, stems in (("A", self.only_a), ("B", self.only_b)):
            if stems:
                some = first_names(stems, 3)
                lines.append(f"{len(stems)} fields are only in {name}: {some}")
        lines.append(f"Tables and pictures, most changes first: {self.folder}")
        return "\n".join(lines)


@process_state.keep()
@lock.writes("output", creates=True)
def compare(
    a: str | os.PathLike,
    b: str | os.PathLike,
    output: str | os.PathLike,
    *,
    pictures: int = 20,
) -> Comparison:
    """Compares the cells of two folders field by field.

    Cells are matched one to one. Two cells with an IoU of at least 0.5 are the same cell;
    from 0.75 on they have the same outline. Writes changes.csv (one row per cell that
    differs, with its numbers in the label images), fields.csv (one row per field), and
    pictures of the fields with the most changes, A beside B, in which unchanged cells are
    grey.

    Args:
      a: first folder: output of `predict`, or a study (its annotated fields).
      b: second folder, of either kind. 'TYPE/NAME' in one and 'NAME' in the other are the
        same field if no other image has that name, with or without cells. Fields that
        were made of different raw files are not compared.
      output: folder for tables and pictures; those of an earlier comparison are replaced.
      pictures: largest number of pictures.

    Raises:
      InputError: if there are no fields that both have, none that can be compared, or two
        types that differ only in upper and lower case.
    """
    output = pathlib.Path(output)
    sides = [sources.fields_of(folder) for folder in (a, b)]
    names_a, names_b = (Counter(map(_name, sources.stems_of(side))) for side in (a, b))
    pairs, only_a, only_b = _pairs(sides[0], sides[1], names_a, names_b)
    if not pairs:
        first, second = (first_names([f.stem for f in side], 3) for side in sides)
        raise InputError(
            f"{a} and {b} have no field in common; their first fields are {first} and "
            f"{second}. Names must agree, and only one image of a study may have a name that "
            "is given without its folder."
        )
    types_a, types_b = (field.type_names for field in pairs[0])
    sources.check_types(types_a, types_b, (str(a), str(b)))
    changes: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    compared: list[tuple[sources.FieldOfCells, sources.FieldOfCells]] = []
    total: Counter[str] = Counter()
    failures: dict[str, str] = {}
    for one, other in progress_bar(pairs, "compare"):
        try:
            found = _changes(one, *_read(one, other))
        except InputError as error:
            failures[one.stem] = str(error)
            continue
        compared.append((one, other))
        kinds = Counter(change["change"] for change in found)
        total += kinds
        changes += [change for change in found if change["change"] != SAME]
        rows.append(
            {
                "image": one.stem,
                "cells_a": len(found) - kinds[ONLY_B],
                "cells_b": len(found) - kinds[ONLY_A],
                **{key: kinds[key] for key in (SAME, *CHANGES)},
                "picture": "",
            }
        )
    if not compared:
        raise InputError(next(iter(failures.values())))
    order = sorted(
        range(len(rows)), key=lambda i: (-_badness(rows[i]), rows[i]["image"])
    )
    output.mkdir(parents=True, exist_ok=True)
    for old in (output / "pictures").glob("*.png"):
        if ledger.is_own(output, old):
            old.unlink()
    worst = [i for i in order if _badness(rows[i])][:pictures]
    for rank, i in enumerate(worst, start=1):
        rows[i]["picture"] = _draw(output, rank, *compared[i])
    fields = [rows[i] for i in order]
    for name, columns, lines in (
        ("changes.csv", _COLUMNS, changes),
        ("fields.csv", _FIELD_COLUMNS, fields),
    ):
        ledger.write_text(output, output / name, csv_json.csv_text(columns, lines))
    counts = {key: total[key] for key in (SAME, *CHANGES)}
    return Comparison(len(compared), counts, only_a, only_b, output, failures)


def _pairs(
    a: Sequence[sources.FieldOfCells],
    b: Sequence[sources.FieldOfCells],
    names_a: Mapping[str, int],
    names_b: Mapping[str, int],
) -> tuple[list, tuple[str, ...], tuple[str, ...]]:
    """Returns the pairs of fields, and the names of fields only in A and only in B.

    `names_a` and `names_b` count the names of all images of either side. A name that occurs
    in two folders is ambiguous, even if only one of the images has cells.
    """
    by_stem = {field.stem: field for field in b}
    by_name = {_name(f.stem): f for f in b if names_b[_name(f.stem)] == 1}
    pairs, only_a = [], []
    for field in a:
        other = by_stem.get(field.stem)
        # 'TYPE/NAME' matches 'NAME', but not 'OTHER_TYPE/NAME', which is another field.
        if other is None and names_a[_name(field.stem)] == 1:
            other = by_name.get(_name(field.stem))
            both = other is not None and "/" in field.stem and "/" in other.stem
            other = None if both else other
        if other is None:
            only_a.append(field.stem)
        else:
            pairs.append((field, other))
    known = {id(other) for _, other in pairs}
    return pairs, tuple(only_a), tuple(f.stem for f in b if id(f) not in known)


def _name(stem: str) -> str:
    return stem.rpartition("/")[2]


def _read(
    one: sources.FieldOfCells, other: sources.FieldOfCells
) -> tuple[Cells, Cells]:
    if sources.are_other_images(one.digests, other.digests):
        raise InputError(
            f"{one.stem} is another image in A than in B: neither the merged image nor the "
            "raw file is the same. Compare cells of the same image."
        )
    cells = one.read(), other.read()
    shapes = [side.labels.shape for side in cells]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{one.stem}: the label images have different sizes, {shapes[0]} and {shapes[1]} "
            "px, and cannot be compared. Both must belong to the same image."
        )
    return cells


def _changes(field: sources.FieldOfCells, a: Cells, b: Cells) -> list[dict[str, Any]]:
    """Returns one row per cell of either side, with the numbers in the label images."""
    matches = matching.match_cells(a.labels, b.labels, _SAME_CELL_IOU)
    numbers_a, numbers_b = a.numbers.tolist(), b.numbers.tolist()
    rows = []
    for (i, j), iou in zip(matches.pairs.tolist(), matches.ious.tolist(), strict=True):
        types = a.cell_types[i - 1], b.cell_types[j - 1]
        change = SAME if iou >= _SAME_OUTLINE_IOU else OTHER_OUTLINE
        change = change if types[0] == types[1] else OTHER_TYPE
        cells = numbers_a[i - 1], numbers_b[j - 1]
        values = (field.stem, change, *cells, *types, round(iou, 4))
        rows.append(dict(zip(_COLUMNS, values, strict=True)))
    for i in matches.missed.tolist():
        cell, cell_type = numbers_a[i - 1], a.cell_types[i - 1]
        values = (field.stem, ONLY_A, cell, None, cell_type, None, None)
        rows.append(dict(zip(_COLUMNS, values, strict=True)))
    for j in matches.invented.tolist():
        cell, cell_type = numbers_b[j - 1], b.cell_types[j - 1]
        values = (field.stem, ONLY_B, None, cell, None, cell_type, None)
        rows.append(dict(zip(_COLUMNS, values, strict=True)))
    return rows


def _badness(row: dict[str, Any]) -> int:
    return sum(row[key] for key in CHANGES)


def _draw(
    output: pathlib.Path,
    rank: int,
    one: sources.FieldOfCells,
    other: sources.FieldOfCells,
) -> str:
    """Draws A beside B; returns the picture's name, or '' if there is no image."""
    try:
        pixels = one.pixels()
        pixels = other.pixels() if pixels is None else pixels
    except InputError as error:
        logger.warning("No picture of %s: %s", one.stem, error)
        return ""
    if pixels is None:
        return ""
    a, b = _read(one, other)
    changes = [row for row in _changes(one, a, b) if row["change"] != SAME]
    marked = [
        np.isin(side.numbers, [row[key] for row in changes if row[key]])
        for side, key in ((a, "cell_a"), (b, "cell_b"))
    ]
    names = tuple(dict.fromkeys(a.type_names + b.type_names))
    name = f"{rank:03d}_{one.stem.replace('/', '_')}.png"
    drawn = overlay.comparison(
        pixels,
        a.with_types(names),
        b.with_types(names),
        name=one.stem,
        pixel_size_um=one.pixel_size_um or other.pixel_size_um,
        titles=("A", "B"),
        marked=marked,
    )
    path = output / "pictures" / name
    with ledger.replace(output, path, overwrite=True) as temporary:
        temporary.write_bytes(png.encode_png(drawn))
    return f"pictures/{name}"
