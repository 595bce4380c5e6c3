"""Finds the cells that `predict` found in two overlapping tiles, and counts them once."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cellclass_tf import batch, versions
from cellclass_tf.analysis import cell_table, overlaps
from cellclass_tf.storage import csv_json, digests, png
from cellclass_tf.workflows.chosen_fields import ChosenField


@dataclasses.dataclass(frozen=True)
class Overlaps:
    """The overlaps of the fields of a run.

    Attributes:
      placements: places of the fields of one dish at one time, by each of their names.
      doubt: a sentence about fields that may overlap; '' if there are none.
    """

    placements: Mapping[str, overlaps.Placement]
    doubt: str = ""

    def repeated(self, stem: str, table: pathlib.Path) -> list[dict[str, str]]:
        """Returns the rows of the cells of a field that count in another field.

        Args:
          stem: name of the field.
          table: path of its part of cells.csv.
        """
        placement = self.placements.get(stem)
        if placement is None or not placement.covers(stem):
            return []
        rows = csv_json.read_csv(table)
        middles = np.array(
            [(float(r["centroid_y_px"]), float(r["centroid_x_px"])) for r in rows]
        )
        found = placement.repeated(stem, middles)
        return [
            row for row, is_repeated in zip(rows, found, strict=True) if is_repeated
        ]

    def counts(
        self,
        stem: str,
        row: dict[str, Any],
        repeated: Sequence[Mapping[str, str]],
        type_names: Sequence[str],
    ) -> dict[str, Any]:
        """Returns a field's row of counts.csv without the cells of `repeated`."""
        placement = self.placements.get(stem)
        if placement is None or not placement.covers(stem):
            return row
        share = placement.counted_share(stem)
        return cell_table.without_repeated(row, repeated, type_names, share)


def find(
    fields: Sequence[ChosenField], *, journal: batch.Journal, engine: batch.Engine
) -> Overlaps:
    """Finds the overlaps of the fields of each dish and time point.

    A file that holds several fields is looked at on its own. Files that hold one field each
    are looked at together with the others of their dish (`group`). Files whose dish is not
    known are looked at with the others of their folder. Since these may be of different
    dishes, it is no doubt if their images do not agree.

    Args:
      fields: fields that were predicted, in the order of the manifest.
      journal: journal of the dishes that were done before.
      engine: what runs the jobs, one a dish and time point.
    """
    jobs, of_folders = [], set()
    for name, (part, is_of_folder) in _sets(fields).items():
        places = [(field.row.stage_um, field.pixel_size_um) for field in part]
        key = digests.fingerprint(
            versions.OVERLAPS, places, *(field.image for field in part)
        )
        jobs.append(batch.Job(name, part, key))
        of_folders |= {name} if is_of_folder else set()
    if not jobs:
        return Overlaps({})
    outcome = batch.run(
        _place,
        jobs,
        description="overlaps",
        unit="scan",
        journal=journal,
        engine=engine,
    )
    placements: dict[str, overlaps.Placement] = {}
    doubts: list[tuple[str, str, float, float]] = []
    for name, result in outcome.results.items():
        placement = overlaps.Placement.parse(result)
        placements.update(dict.fromkeys(placement.places, placement))
        doubts += () if name in of_folders else placement.doubts
    told = [_doubt(doubts)] if doubts else []
    told += [
        f"Whether the tiles of {name} overlap could not be found out: {reason}"
        for name, reason in sorted(outcome.failures.items())
    ]
    return Overlaps(placements, " ".join(told))


def notes(repeated: int, found: Overlaps) -> tuple[str, ...]:
    """Returns what a person should know about the overlaps, one line each."""
    told = []
    if repeated:
        told.append(
            f"{repeated} cells are also in another tile, which overlaps, and are counted "
            "there (column repeated of cells.csv)."
        )
    return (*told, *filter(None, [found.doubt]))


class _Set(NamedTuple):
    """Fields that may overlap, and whether they only have their folder in common."""

    fields: list[ChosenField]
    is_of_folder: bool


def _sets(fields: Sequence[ChosenField]) -> dict[str, _Set]:
    """Returns the fields that may overlap, by a name of the set."""
    known = [
        field
        for field in fields
        if field.row.stage_um is not None and field.pixel_size_um
    ]
    several = collections.Counter(
        (field.row.raw_file, field.row.time) for field in known
    )
    found: dict[tuple[str, ...], _Set] = {}
    for field in known:
        row = field.row
        # `convert` names the group of a file without a dish after the file itself.
        is_lone = row.group in ("", f"{row.cell_type}/{row.name}")
        if several[row.raw_file, row.time] > 1:
            # The wells of a plate are groups of one file, and never overlap.
            own, is_lone = f"{row.raw_file}, {row.group}", False
        elif is_lone:
            own = str(pathlib.PurePath(row.raw_file).parent)
        else:
            own = row.group
        # Images of another magnification cannot be compared.
        key = (own, f"time {row.time}", f"pixels of {field.pixel_size_um:.3g} µm")
        found.setdefault(key, _Set([], is_lone)).fields.append(field)
    return {
        ", ".join(key): part
        for key, part in sorted(found.items())
        if len({field.row.stage_um for field in part.fields}) > 1
    }


def _place(fields: Sequence[ChosenField]) -> dict[str, Any]:
    tiles = []
    for field in fields:
        stage_um, size_um = field.row.stage_um, field.pixel_size_um
        if stage_um is None or size_um is None:
            continue
        with png.open_image(field.image) as image:
            width, height = image.size
        size_yx = (height, width)
        tiles.append(overlaps.Tile(field.stem, field.image, size_yx, size_um, stage_um))
    return overlaps.place_tiles(tiles).as_content()


def _doubt(doubts: Sequence[tuple[str, str, float, float]]) -> str:
    first, second, share, correlation = doubts[0]
    more = f" (and {len(doubts) - 1} more pairs)" if len(doubts) > 1 else ""
    return (
        f"According to their files {first} and {second} overlap by {share:.0%}{more}, but "
        f"the images do not agree there (correlation {correlation:.2f}; expected at least "
        f"{overlaps.LEAST_CORRELATION}), so cells in the overlap are counted in both fields. "
        "If the fields do overlap, check the pixel size (--pixel_size_um), or stitch them "
        "and predict the whole; if they do not, nothing needs to be done."
    )
