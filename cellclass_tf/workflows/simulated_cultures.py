"""Makes examples of simulated cultures, dish by dish, so that workers can share the work."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from cellclass_tf.core.study import MIXED, ImageRow, Study
from cellclass_tf.datasets import examples, simulation
from cellclass_tf.interchange import masks
from cellclass_tf.microscopy import conversion
from cellclass_tf.splits import assignment
from cellclass_tf.workflows import copy_paste

Dish = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class SimulatedCultures:
    """Arguments of `simulate` of the same names."""

    images_per_type: int
    mixed: int
    size: int
    seed: int = 0
    dishes: int = 4

    def units(self) -> dict[str, list[tuple[Dish, ...]]]:
        """Returns the independent pieces of work of each split.

        Returns:
          {split: pieces}. A piece is one dish, as ((culture, number),), or for `composed` a
          pair of dishes of different types, both from the split `validation`.
        """
        rows = [
            _plan_row(culture, number % self.dishes + 1, number)
            for culture in (*simulation.CELL_TYPES, MIXED)
            for number in range(
                self.mixed if culture == MIXED else self.images_per_type
            )
        ]
        # One dish per type is for validation, however many dishes there are.
        chosen = assignment.assign_splits(rows, units_for_two=None)
        units: dict[str, list[tuple[Dish, ...]]] = {}
        firsts = {row.group: row for row in reversed(rows)}
        for row in firsts.values():
            units.setdefault(chosen[row.image], []).append((_dish(row),))
        held_out = [r for r in firsts.values() if chosen[r.image] == "validation"]
        couples = copy_paste.pairs(held_out)
        if couples:
            units[assignment.COMPOSED] = [(_dish(a), _dish(b)) for a, b in couples]
        return {split: sorted(found) for split, found in sorted(units.items())}


def examples_of_unit(
    cultures: SimulatedCultures, unit: tuple[Dish, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Simulates a dish, or a pair of dishes to compose, and yields (key, example).

    The fields are processed like files of a microscope: they are simulated as raw files,
    converted with one contrast per dish, checked for quality, and their true cells are
    imported.

    Args:
      cultures: the cultures to simulate.
      unit: one dish, or a pair of dishes, as in `SimulatedCultures.units`.

    Raises:
      RuntimeError: if a field cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="cell_types_") as folder:
        study = _study(cultures, unit, pathlib.Path(folder))
        rows = study.accepted_rows()
        if len(unit) == 1:
            for row in rows:
                yield row.image, examples.example_of_row(study, row)
            return
        first = [row for row in rows if row.cell_type == unit[0][0]]
        others = [row for row in rows if row.cell_type == unit[1][0]]
        couples = list(zip(first, others, strict=False))
        yield from copy_paste.composed_examples(study, couples)


def _study(
    cultures: SimulatedCultures, unit: tuple[Dish, ...], root: pathlib.Path
) -> Study:
    outcomes = [
        simulation.simulate(root, **dataclasses.asdict(cultures), only=unit),
        conversion.convert(root / "raw", root, group=simulation.GROUP_PATTERN),
        masks.import_masks(root, root / "truth"),
    ]
    failures = {k: v for outcome in outcomes for k, v in outcome.failures.items()}
    if failures:
        raise RuntimeError(f"The simulated dish could not be made: {failures}")
    return Study.open(root)


def _plan_row(culture: str, dish: int, number: int) -> ImageRow:
    group = f"{culture}_dish{dish}"
    return ImageRow(f"{culture}/{group}_{number + 1:04d}.png", culture, group=group)


def _dish(row: ImageRow) -> Dish:
    return row.cell_type, int(row.group.rpartition("_dish")[2])
