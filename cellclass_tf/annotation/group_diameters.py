"""Estimates the diameter of the cells of an acquisition group, once for all its fields."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from cellclass_tf import batch
from cellclass_tf.annotation.annotators.protocol import Annotator
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError

# Number of fields of a group on which the diameter of its cells is estimated.
_FIELDS_TO_SIZE = 5


def estimate_diameters(
    study: Study,
    rows: Sequence[ImageRow],
    finder: Annotator,
    journal: batch.Journal,
    engine: batch.Engine,
) -> dict[str, float]:
    """Returns the diameter of each group's cells, estimated at the first call.

    Later calls return the same diameter, so that a field that is added later does not
    change the annotation of the others.

    Args:
      study: the study.
      rows: rows of the fields.
      finder: annotator that estimates the diameters.
      journal: journal that keeps the estimates.
      engine: what runs the jobs.

    Returns:
      The diameters in pixels, by group; fields without a group have none.
    """
    groups: dict[str, list[ImageRow]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    # Fields without a group each have their own diameter.
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
    """Returns a few rows in equal steps."""
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
