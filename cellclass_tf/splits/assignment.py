"""Assigns splits: a group stays in one split, and a field never changes its split."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence

from cellclass_tf.core.manifest import MIXED, SPLITS, ImageRow
from cellclass_tf.errors import InputError
from cellclass_tf.splits import near_duplicates
from cellclass_tf.splits.near_duplicates import Likeness

# Split of mixed fields that are composed of pure ones; no image of a study is in it.
COMPOSED = "composed"
# Split of fields in which not all cells have a type; no image of images.csv is in it.
UNTYPED = "untyped"
# Number of units of a type from which on two of them are for validation.
UNITS_FOR_TWO = 6
DEFAULT_SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def assign_splits(
    rows: Sequence[ImageRow],
    shares: Mapping[str, float] | None = None,
    counted: Collection[str] | None = None,
    units_for_two: int | None = UNITS_FOR_TWO,
) -> dict[str, str]:
    """Gives every image a split.

    All images of a unit go to the same split. A unit is a group (a dish, for example), or
    several groups whose images show the same scene (see
    `near_duplicates.find_near_duplicates`). A unit that has a split keeps it, so that no
    field changes its split when others are added. New units are taken in the order of a
    hash of their groups' names. Each goes to the split that lacks most images of its types.
    If a type has two units or more, at least one of them is for validation; if it has
    `units_for_two` or more, two are, which shows how errors differ between dishes.
    Mixed fields, and all fields of a unit with a mixed field, are in the split `mixed`.

    Args:
      rows: images of the study.
      shares: the desired share of each type's images in train, validation and test.
      counted: names of the images to assign; the others only join groups. A unit without
        any of them gets no split. None counts all.
      units_for_two: number of units of a type from which on two of them are for
        validation; None for one, whatever their number.

    Returns:
      The split by image; '' for images of a unit without a split.

    Raises:
      ValueError: if images of one unit are in different splits already.
    """
    shares = dict(shares or DEFAULT_SHARES)
    units = _units(rows, {row.image for row in rows} if counted is None else counted)
    fixed = {name: split for name, unit in units.items() if (split := unit.split)}
    free = {name: unit for name, unit in units.items() if fixed.get(name) != MIXED}
    totals: collections.Counter[str] = collections.Counter()
    units_of: collections.Counter[str] = collections.Counter()
    for unit in free.values():
        totals.update(unit.counts)
        units_of.update(set(unit.counts))
    filled: dict[str, collections.Counter[str]] = {
        split: collections.Counter() for split in SPLITS
    }
    validated: collections.Counter[str] = collections.Counter()
    chosen = dict(fixed)
    for name, split in fixed.items():
        filled[split].update(units[name].counts)
        if split == "validation":
            validated.update(set(units[name].counts))
    for name in sorted(set(units) - set(fixed)):
        counts = units[name].counts
        if not counts:
            chosen[name] = ""
            continue
        # Of splits that lack equally many, one without images of these types is chosen, or
        # the first one.
        chosen[name] = max(
            shares,
            key=lambda s: (
                round(_shortfall(counts, filled[s], totals, shares[s]), 6),
                not filled[s].keys() & counts.keys(),
            ),
        )
        wanted = {
            t: 2 if units_for_two and units_of[t] >= units_for_two else 1
            for t in counts
        }
        if _is_for_validation(counts, filled, units_of, validated, wanted):
            chosen[name] = "validation"
        if chosen[name] == "validation":
            validated.update(set(counts))
        filled[chosen[name]].update(counts)
    return {
        row.image: chosen[name] for name, unit in units.items() for row in unit.rows
    }


@dataclasses.dataclass(frozen=True)
class _Unit:
    """Images of groups that belong into one split.

    Attributes:
      rows: the rows of all images.
      split: the split of the groups; '' if they have none yet.
      counted: names of the images that count for the sizes of splits.
    """

    rows: list[ImageRow]
    split: str
    counted: Collection[str]

    @property
    def counts(self) -> collections.Counter[str]:
        """Number of counted images by type."""
        return collections.Counter(
            row.cell_type for row in self.rows if row.image in self.counted
        )


def _units(rows: Sequence[ImageRow], counted: Collection[str]) -> dict[str, _Unit]:
    """Returns the units by the smallest hash of their groups' names.

    Raises:
      ValueError: if images of one unit are in different splits already.
    """
    groups = collections.defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    split_of = {name: _split_so_far(name, groups[name]) for name in sorted(groups)}
    links = collections.defaultdict(list)
    for likeness in near_duplicates.find_near_duplicates(
        sorted(rows, key=lambda row: row.image), lambda row: row.group
    ):
        links[likeness.one.group].append(likeness)
        links[likeness.other.group].append(likeness)
    units, reached = {}, set()
    for group in sorted(groups):
        if group in reached:
            continue
        members = sorted({group, *_linked_groups(group, links)})
        _check_links(members, links, split_of)
        reached.update(members)
        units[min(map(_hash, members))] = _Unit(
            [row for member in members for row in groups[member]],
            max(split_of[member] for member in members),
            counted,
        )
    return units


def _linked_groups(
    start: str, links: Mapping[str, Sequence[Likeness]]
) -> dict[str, Likeness]:
    """Returns the groups linked with a group, nearest first, and the link to each."""
    joined: dict[str, Likeness] = {}
    waiting = collections.deque([start])
    while waiting:
        group = waiting.popleft()
        for link in links.get(group, ()):
            other = _other_group(link, group)
            if other != start and other not in joined:
                joined[other] = link
                waiting.append(other)
    return joined


def _other_group(link: Likeness, group: str) -> str:
    return link.other.group if link.one.group == group else link.one.group


def _check_links(
    members: Iterable[str],
    links: Mapping[str, Sequence[Likeness]],
    split_of: Mapping[str, str],
) -> None:
    """Raises ValueError if groups that are linked are in different splits."""
    placed = [group for group in members if split_of[group]]
    if len({split_of[group] for group in placed}) < 2:
        return
    joined = _linked_groups(placed[0], links)
    group = next(g for g in joined if split_of[g] not in ("", split_of[placed[0]]))
    last = group
    chain: list[Likeness] = []
    while not chain or not split_of[group]:
        chain.append(joined[group])
        group = _other_group(chain[-1], group)
    movable = group if split_of[last] == MIXED else last
    why = "; ".join(
        f"{link.one.image} and {link.other.image} have {link.why}"
        if link.why in (near_duplicates.SAME_BYTES, near_duplicates.SAME_FILE)
        else f"{link.one.image} and {link.other.image} are {link.why}"
        for link in reversed(chain)
    )
    raise ValueError(
        f"Group {group!r} is in the split {split_of[group]} and group {last!r} in "
        f"{split_of[last]}, but they show the same: {why}. That would be a data leak. Write "
        "rejected into the column verdict of one of these images, or empty the column "
        f"split of all images of group {movable!r} in images.csv."
    )


def splits_of(
    rows: Sequence[ImageRow], counted: Collection[str], manifest: os.PathLike
) -> dict[str, str]:
    """Returns the split by image; see `assign_splits`.

    Args:
      rows: rows of all accepted images of the study.
      counted: names of the images to assign.
      manifest: path of the manifest, for messages.

    Raises:
      InputError: if images of one group are in different splits already.
    """
    try:
        return assign_splits(rows, counted=counted)
    except ValueError as error:
        raise InputError(f"{manifest}: {error}") from error


def outlines_to_learn(
    rows: Sequence[ImageRow],
    splits: Mapping[str, str],
    typed: Collection[str],
    untyped: Collection[str],
) -> set[str]:
    """Returns the untyped images on whose outlines a network may be trained.

    These are images of units (see `assign_splits`) in the split train, and of units with a
    mixed field in which no image is typed. Other units have images for validation or tests,
    which must not be used for training.

    Args:
      rows: rows of all accepted images of the study.
      splits: splits of all these images, as `splits_of` returns them.
      typed: names of the images whose cells all have a type.
      untyped: names of the images with cells of unknown type.
    """
    found: set[str] = set()
    for unit in _units(rows, typed).values() if untyped else ():
        split = splits[unit.rows[0].image]
        is_tested_on = split in SPLITS[1:] and (split != MIXED or unit.counts)
        if not is_tested_on:
            found |= {row.image for row in unit.rows} & set(untyped)
    return found


def with_splits(
    rows: Sequence[ImageRow], every: Sequence[ImageRow], manifest: os.PathLike
) -> list[ImageRow]:
    """Returns rows with their splits, which depend on all images of their groups.

    Args:
      rows: rows of the images to assign.
      every: rows of all accepted images of the study, including `rows`.
      manifest: path of the manifest, for messages.

    Raises:
      InputError: if images of one group are in different splits already.
    """
    chosen = splits_of(every, {row.image for row in rows}, manifest)
    return [dataclasses.replace(row, split=chosen[row.image]) for row in rows]


def _is_for_validation(
    counts: Mapping[str, int],
    filled: Mapping[str, Mapping[str, int]],
    units_of: Mapping[str, int],
    validated: Mapping[str, int],
    wanted: Mapping[str, int],
) -> bool:
    """Returns whether a unit should be for validation.

    That is the case if each of its types has another unit for training, and one of them has
    fewer units for validation than wanted.
    """
    can_spare = all(units_of[t] >= 2 and filled["train"][t] for t in counts)
    return can_spare and any(validated[t] < wanted[t] for t in counts)


def _split_so_far(group: str, rows: Sequence[ImageRow]) -> str:
    found = sorted({row.split for row in rows} - {""})
    if any(row.cell_type == MIXED for row in rows):
        if set(found) - {MIXED}:
            raise ValueError(
                f"A mixed field has joined the group {group!r}, which is in the split "
                f"{found[0]}. Networks were trained with this group, but mixed fields are "
                "for testing them. "
                "Give the mixed field a group of its own, or empty the column split of "
                "all images of the group to move it to mixed."
            )
        return MIXED
    if len(found) > 1:
        raise ValueError(
            f"Group {group!r} is in the splits {' and '.join(found)}, which would be a data "
            "leak. Correct the column split in images.csv (empty it to assign a split again)."
        )
    if found and found[0] not in SPLITS:
        raise ValueError(
            f"Unknown split {found[0]!r} of group {group!r}; known are {SPLITS}."
        )
    return found[0] if found else ""


def _shortfall(
    counts: Mapping[str, int],
    filled: Mapping[str, int],
    totals: Mapping[str, int],
    share: float,
) -> float:
    return sum(n * (share - filled[t] / totals[t]) for t, n in counts.items())


def _hash(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()
