"""Refuses datasets that lack what a network needs, and tells of what they lack."""

from __future__ import annotations

import collections

import numpy as np

from cellclass_tf.core.study import MIXED, Study
from cellclass_tf.datasets.contents import Contents
from cellclass_tf.errors import InputError, first_names
from cellclass_tf.splits import assignment
from cellclass_tf.splits.assignment import UNTYPED

# Largest ratio of a pixel size to the median one.
_LARGEST_RATIO = 8
# Pixel sizes whose ratio is smaller count as equal.
_SAME_SIZE = 1.01


def refuse_gaps(
    study: Study, contents: Contents, *, allow_no_validation: bool = False
) -> None:
    """Refuses a dataset that lacks cells to train on, or fields for validation.

    Raises:
      InputError: if a type has no cells in pure cultures, or all of its fields are in one
        group, so that none can be held out, or all are held out; or if pixel sizes differ,
        and some are unknown.
    """
    groups = collections.defaultdict(set)
    held_out, trained = set(), set()
    for field in contents.fields.values():
        if (
            field.culture != MIXED
            and field.split not in (MIXED, UNTYPED)
            and any(field.cells.values())
        ):
            groups[field.culture].add(field.group)
            held_out |= {field.culture} if field.split == "validation" else set()
            trained |= {field.culture} if field.split == "train" else set()
    empty = [name for name in study.cell_types if name not in groups]
    if empty:
        raise InputError(
            f"{study.root}: study.yaml names the types {', '.join(study.cell_types)}, but "
            f"there is no annotated cell of a pure culture of {', '.join(empty)}. Annotate "
            "such fields, or remove the type from study.yaml."
        )
    _refuse_odd_pixel_sizes(study, contents)
    untrained = [name for name in study.cell_types if name not in trained]
    if untrained:
        raise InputError(
            f"{study.root}: no field of {', '.join(untrained)} is left for training. All "
            "of its groups with annotated cells are held out. Empty the column split of the "
            "fields of one of them in images.csv, or add another dish."
        )
    without = [name for name in study.cell_types if name not in held_out]
    if without and not allow_no_validation:
        found = "; ".join(
            f"{name} in {len(groups[name])} ({', '.join(sorted(groups[name])[:3])})"
            for name in without
        )
        raise InputError(
            f"{study.root}: no field of {', '.join(without)} can be held out for "
            f"validation. Groups with annotated cells: {found}. Every type needs at least "
            "two groups, since all images of a group stay in one split. Add another dish, "
            "set `cellclass convert --group` to a pattern that distinguishes dishes, or "
            "correct the column split of images.csv. To train without validation, add "
            "--allow_no_validation."
        )


def told_of_held_out(contents: Contents) -> list[str]:
    """Returns a line for each type of which only a single group is held out."""
    groups = collections.defaultdict(set)
    for field in contents.fields.values():
        if field.split == "validation" and any(field.cells.values()):
            groups[field.culture].add(field.group)
    return [
        f"One dish of {name} is held out ({min(held_out)}). It cannot show how errors "
        "differ between dishes, and the intervals of the proportions do not include that. "
        f"With {assignment.UNITS_FOR_TWO} dishes or more, two are held out."
        for name, held_out in sorted(groups.items())
        if len(held_out) == 1
    ]


def told_of_pixel_sizes(contents: Contents) -> list[str]:
    """Returns a line if only some of the pixel sizes are known."""
    unknown = [i for i, field in contents.fields.items() if not field.pixel_size_um]
    if not 0 < len(unknown) < len(contents.fields):
        return []
    return [
        f"The pixel size of {len(unknown)} fields is unknown ({first_names(unknown)}), so "
        "that the network takes all fields for equally enlarged, and the model knows no "
        "pixel size. Fill in the column pixel_size_um of images.csv, or set pixel_size_um "
        "in study.yaml"
    ]


def _refuse_odd_pixel_sizes(study: Study, contents: Contents) -> None:
    known = {i: f.pixel_size_um for i, f in contents.fields.items() if f.pixel_size_um}
    middle = float(np.median(list(known.values()))) if known else 0.0
    odd = [
        f"{image} ({size} µm)"
        for image, size in known.items()
        if not middle / _LARGEST_RATIO <= size <= middle * _LARGEST_RATIO
    ]
    if odd:
        raise InputError(
            f"{study.root}: pixel sizes more than {_LARGEST_RATIO} times off the median "
            f"of {middle} µm: {first_names(odd)}. Their unit "
            "may not be µm. Correct the column pixel_size_um of images.csv."
        )
    unknown = [image for image in contents.fields if image not in known]
    sizes = sorted(known.values())
    if unknown and sizes and sizes[-1] > sizes[0] * _SAME_SIZE:
        raise InputError(
            f"{study.root}: expected all pixel sizes or none, since they differ ({sizes[0]} "
            f"to {sizes[-1]} µm); those of {first_names(unknown)} are unknown. Fill in the "
            "column pixel_size_um of images.csv, or set pixel_size_um in study.yaml for all "
            "images without one."
        )
