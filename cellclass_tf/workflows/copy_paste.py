"""Composes mixed fields from two pure fields, with exact ground truth."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import MIXED, ImageRow, Study
from cellclass_tf.datasets import examples
from cellclass_tf.datasets.contents import FieldFacts
from cellclass_tf.splits.assignment import COMPOSED
from cellclass_tf.storage import png


def pairs(rows: Sequence[ImageRow]) -> list[tuple[ImageRow, ImageRow]]:
    """Pairs each pure field with a field of the next type, in alphabetical order."""
    by_type = collections.defaultdict(list)
    for row in sorted(rows, key=lambda row: row.image):
        if row.cell_type != MIXED:
            by_type[row.cell_type].append(row)
    types = sorted(by_type)
    if len(types) < 2:
        return []
    return [
        (row, others[i % len(others)])
        for one, other in zip(types, [*types[1:], types[0]], strict=True)
        for others in [by_type[other]]
        for i, row in enumerate(by_type[one])
    ]


def composed_examples(
    study: Study,
    couples: Sequence[tuple[ImageRow, ImageRow]],
    fields: Mapping[str, FieldFacts] | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (key, example) for each pair in which both fields have cells.

    Args:
      study: study of the fields.
      couples: pairs of pure fields of two types.
      fields: recorded facts about their files, by image; None checks nothing.

    Raises:
      InputError: if a file has changed since `fields` was recorded, or cannot be read.
    """
    for one, other in couples:
        if fields:
            for row in (one, other):
                examples.check_unchanged(study, row, fields[row.image])
        found = composed_example(study, one, other)
        if found is not None:
            yield found["image_name"], found


def composed_example(
    study: Study, one: ImageRow, other: ImageRow
) -> dict[str, Any] | None:
    """Moves cells of one pure field into another; None if either has no cells.

    The other field is resampled to the first one's pixel size, if both are known, and
    cropped or padded to its size. A cell is moved if at most a fifth of it would cover
    existing cells. A cell of which less than three tenths remain visible is no longer
    counted as a cell.

    Args:
      study: study of the fields.
      one: row of the field that receives cells.
      other: row of the field whose cells are moved.

    Returns:
      An example as `examples.example` makes it, with both images as its sources.

    Raises:
      InputError: if an image or its cells cannot be read.
    """
    from cellclass_tf.maskrcnn.input import augmentation

    image, cells = study.read_field(one)
    other_image, other_cells = study.read_field(other)
    if not len(cells) or not len(other_cells):
        return None
    zoom = _zoom(study, one, other)
    other_image = _frame(_zoom_by(other_image, zoom, smooth=True), image.shape[:2])
    other_labels = _zoom_by(other_cells.labels, zoom, smooth=False)
    # Of a cell that the frame cuts, the part outside of it is not visible.
    other_areas = np.bincount(other_labels.ravel(), minlength=len(other_cells) + 1)
    other_labels = _frame(other_labels, image.shape[:2])
    diameter = np.median(cells.diameters_px)
    composed, moved = augmentation.copy_paste(
        image,
        cells.labels,
        other_image,
        other_labels,
        most_overlap=augmentation.MOST_OVERLAP,
        diameter_px=float(diameter),
    )
    moved = np.asarray(moved)
    labels = np.where(moved > 0, moved + len(cells), cells.labels)
    areas = np.concatenate([[0], cells.areas_px, other_areas[1:]])
    seen = np.bincount(labels.ravel(), minlength=len(areas))
    keeps = seen >= augmentation.MIN_VISIBLE_SHARE * areas
    labels = np.where(keeps[labels], labels, 0).astype(np.int32)
    present = np.unique(labels[labels > 0])
    types = (*cells.cell_types, *other_cells.cell_types)
    both = Cells.from_labels(labels, cells.type_names, [types[i - 1] for i in present])
    return examples.example(
        png.encode_png(np.asarray(composed)),
        both,
        name=f"{COMPOSED}/{one.stem.replace('/', '-')}+{other.stem.replace('/', '-')}.png",
        culture=MIXED,
        group="",
        pixel_size_um=study.pixel_size_of(one),
        sources=(one.image, other.image),
    )


def _zoom(study: Study, one: ImageRow, other: ImageRow) -> float:
    size_um, other_um = study.pixel_size_of(one), study.pixel_size_of(other)
    return other_um / size_um if size_um and other_um else 1.0


def _zoom_by(image: np.ndarray, zoom: float, *, smooth: bool) -> np.ndarray:
    """Resamples an image; differences in scale below 1 % are ignored."""
    if abs(zoom - 1) < 0.01:
        return image
    from skimage import transform

    shape = tuple(max(1, round(side * zoom)) for side in image.shape[:2])
    resized = transform.resize(
        image, shape, order=int(smooth), preserve_range=True, anti_aliasing=smooth
    )
    return np.rint(resized).astype(image.dtype)


def _frame(image: np.ndarray, shape_yx: Sequence[int]) -> np.ndarray:
    """Crops or pads an image around its centre to the given height and width."""
    for axis, side in enumerate(shape_yx):
        free = image.shape[axis] - side
        if free > 0:
            image = image.take(range(free // 2, free // 2 + side), axis)
        elif free < 0:
            padding = [(0, 0)] * image.ndim
            padding[axis] = (-free // 2, -free - -free // 2)
            image = np.pad(image, padding)
    return image
