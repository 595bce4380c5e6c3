"""The diameter of the cells of an acquisition group, estimated once for all its fields."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from cellclass_tf import batch
from cellclass_tf.annotation.annotators.protocol import Annotator
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError

# Fields of a group on which its cells' diameter is estimated.
_FIELDS_TO_SIZE = 5


def estimate_diameters(
    study: Study,
    rows: Sequence[ImageRow],
    finder: Annotator,
    journal: batch.Journal,
    engine: batch.Engine,
) -> dict[str, float]:
    """Returns the diameter of each group's cells, estimated when first asked for.

    It then stays: a field that comes later does not have all others annotated again.

    Args:
      study: of the fields.
      rows: the fields.
      finder: who estimates.
      journal: remembers the estimates.
      engine: runs them.

    Returns:
      The diameters in pixels, by group; fields without a group have none.
    """
    groups: dict[str, list[ImageRow]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    # Without groups each field has its own diameter.
    groups.pop("", None)
    jobs = [
        batch.Job(group, _spread(members), finder.size_fingerprint)
        for group, members in sorted(groups.items())
    ]
    outcome = batch.run(
        _DiameterEstimate(study, finder),
        jobs,
        description="estimate diameters",
        journal=journal,
        engine=engine,
    )
    return outcome.results


def _spread(rows: Sequence[ImageRow]) -> list[ImageRow]:
    """A few rows, from the first to the last in equal steps."""
    count = min(len(rows), _FIELDS_TO_SIZE)
    return [rows[index * len(rows) // count] for index in range(count)]


@dataclasses.dataclass(frozen=True)
class _DiameterEstimate:
    """Estimates the diameter of a group's cells on some of its fields."""

    study: Study
    finder: Annotator

    def __call__(self, rows: Sequence[ImageRow]) -> float:
        estimates: list[float] = []
        problems: list[InputError] = []
        for row in rows:
            try:
                image = self.study.read_image(row)
                estimates.append(self.finder.estimate_diameter_px(image))
            except InputError as error:
                problems.append(error)
        if not estimates:
            raise problems[-1]
        return round(statistics.median(estimates), 2)
