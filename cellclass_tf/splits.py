"""Splits that never part an acquisition group and never move a field."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping, Sequence

from cellclass_tf.files import InputError
from cellclass_tf.study import MIXED, ImageRow

SPLITS = ("train", "validation", "test", MIXED)
DEFAULT_SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def assign_splits(
    rows: Sequence[ImageRow], shares: Mapping[str, float] | None = None
) -> dict[str, str]:
    """Gives every image a split.

    Whole groups go to one split. A group that has a split keeps it, so a field never
    moves when others come. New groups, in the order of a hash of their names, go where
    most of their types' images are still wanted; but of three groups or more one is for
    validation. Mixed fields are the split `mixed`,
    and so is every field that shares a group with one.

    Args:
      rows: images of the study.
      shares: the wished-for share of each type's images in train, validation and test.

    Returns:
      The split by image.

    Raises:
      ValueError: if images of one group already are in different splits.
    """
    shares = dict(shares or DEFAULT_SHARES)
    groups = collections.defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    totals = collections.Counter(row.cell_type for row in rows)
    groups_of = collections.Counter(
        t for g in groups.values() for t in {r.cell_type for r in g}
    )
    filled = {split: collections.Counter() for split in SPLITS}
    chosen: dict[str, str] = {}
    for group in sorted(groups):
        split = _split_so_far(group, groups[group])
        if split:
            chosen[group] = split
            filled[split].update(row.cell_type for row in groups[group])
    for group in sorted(set(groups) - set(chosen), key=_hash):
        counts = collections.Counter(row.cell_type for row in groups[group])
        # The first of equals is taken, so that a lone group becomes `train`.
        chosen[group] = max(
            shares, key=lambda s: _shortfall(counts, filled[s], totals, shares[s])
        )
        if all(groups_of[t] >= 3 and _lacks_validation(filled, t) for t in counts):
            chosen[group] = "validation"
        filled[chosen[group]].update(counts)
    return {row.image: chosen[row.group] for row in rows}


def compiled_group(group: str | None) -> re.Pattern | None:
    """Compiles the regular expression that names a group in a path; None for none.

    Raises:
      InputError: if it is none.
    """
    try:
        return re.compile(group) if group else None
    except re.error as error:
        raise InputError(
            f"--group={group}: no regular expression ({error})."
        ) from error


def with_splits(
    rows: Sequence[ImageRow], every: Sequence[ImageRow], manifest: os.PathLike
) -> list[ImageRow]:
    """Returns rows with their splits, which depend on all images of their groups.

    Args:
      rows: of the images that are wanted.
      every: rows of all accepted images of the study, those among them.
      manifest: its path, for messages.

    Raises:
      InputError: if images of one group already are in different splits.
    """
    try:
        chosen = assign_splits(every)
    except ValueError as error:
        raise InputError(f"{manifest}: {error}") from error
    return [dataclasses.replace(row, split=chosen[row.image]) for row in rows]


def _lacks_validation(filled, cell_type: str) -> bool:
    return bool(filled["train"][cell_type]) and not filled["validation"][cell_type]


def _split_so_far(group: str, rows: Sequence[ImageRow]) -> str:
    if any(row.cell_type == MIXED for row in rows):
        return MIXED
    found = sorted({row.split for row in rows} - {""})
    if len(found) > 1:
        raise ValueError(
            f"Group {group!r} is in the splits {' and '.join(found)}: its images would "
            "leak. Correct the column split in images.csv (empty it to choose anew)."
        )
    if found and found[0] not in SPLITS:
        raise ValueError(
            f"Unknown split {found[0]!r} of group {group!r}; known are {SPLITS}."
        )
    return found[0] if found else ""


def _shortfall(counts, filled, totals, share: float) -> float:
    return sum(n * (share - filled[t] / totals[t]) for t, n in counts.items())


def _hash(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()
