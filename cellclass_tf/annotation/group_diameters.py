"""Estimates the diameter of the cells of an acquisition group, once for all its fields."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cellclass_tf import batch
from cellclass_tf.annotation import cell_files
from cellclass_tf.annotation.annotators.protocol import Annotator
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.storage import digests

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

    Later calls return the same diameter as long as the group has one of the images on which
    it was estimated, so that a field that is added later does not change the annotation of
    the others. If all of them were converted anew since, it is estimated again.

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
    known = journal.read()
    jobs = []
    for group, members in sorted(groups.items()):
        sample, entry = _spread(members), known.get(group)
        if entry and _is_valid(entry, study, members, finder):
            key = entry["fingerprint"]
        else:
            versions = [_version_if_readable(study, row) for row in sample]
            key = digests.fingerprint(finder.size_fingerprint, versions)
        jobs.append(batch.Job(group, sample, key))
    outcome = batch.run(
        _DiameterEstimate(study, finder),
        jobs,
        description="estimate diameters",
        journal=journal,
        engine=engine,
    )
    return {
        group: result["diameter_px"] if isinstance(result, dict) else result
        for group, result in outcome.results.items()
    }


def _is_valid(
    entry: Mapping[str, Any], study: Study, rows: Sequence[ImageRow], finder: Annotator
) -> bool:
    """Whether an estimate is of this annotator, and of images that are still there."""
    result = entry["result"]
    if not isinstance(result, dict):
        # Earlier versions recorded the diameter alone.
        return entry["fingerprint"] == finder.size_fingerprint
    names = {name for name, _ in result["images"]}
    return result["size_fingerprint"] == finder.size_fingerprint and any(
        _version_if_readable(study, row) in result["images"]
        for row in rows
        if row.image in names
    )


def _version_if_readable(study: Study, row: ImageRow) -> Sequence:
    """Returns the version of an image; [] if it cannot be read, which is reported later."""
    try:
        return cell_files.version_of_image(study, row)
    except InputError:
        return []


def _spread(rows: Sequence[ImageRow]) -> list[ImageRow]:
    """Returns a few rows in equal steps."""
    count = min(len(rows), _FIELDS_TO_SIZE)
    return [rows[index * len(rows) // count] for index in range(count)]


@dataclasses.dataclass(frozen=True)
class _DiameterEstimate:
    """Estimates the diameter of a group's cells on some of its fields."""

    study: Study
    finder: Annotator

    def __call__(self, rows: Sequence[ImageRow]) -> dict[str, Any]:
        estimates: list[float] = []
        images: list[Sequence] = []
        problems: list[InputError] = []
        for row in rows:
            try:
                image = self.study.read_image(row)
                estimates.append(self.finder.estimate_diameter_px(image))
                images.append(cell_files.version_of_image(self.study, row))
            except InputError as error:
                problems.append(error)
        if not estimates:
            raise problems[-1]
        return {
            "diameter_px": round(statistics.median(estimates), 2),
            "size_fingerprint": self.finder.size_fingerprint,
            "images": images,
        }
