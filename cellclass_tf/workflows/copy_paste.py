"""Mixed fields made of two pure ones, with exact truth."""

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
    """Pairs each pure field with one of the next type, in the order of names."""
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
    """Yields the keys and examples of pairs in which both fields hold cells.

    Args:
      study: the study of the fields.
      couples: pure fields of two types.
      fields: what is known of their files, by image; None compares nothing.

    Raises:
      InputError: if a file is not as `fields` has it, or cannot be read.
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
    """Moves the cells of one pure field into another; None if either has no cell.

    The other field is brought to the first one's pixel size, where both are known, and
    to its frame. Moved are cells of which at most a fifth would cover cells that are
    there; cells of which less than three tenths stay visible are no cells any more.

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
    other_labels = _frame(
        _zoom_by(other_cells.labels, zoom, smooth=False), image.shape[:2]
    )
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
    other_areas = np.bincount(other_labels.ravel(), minlength=len(other_cells) + 1)
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
    """An image at another scale; scales that differ by less than 1 % are one."""
    if abs(zoom - 1) < 0.01:
        return image
    from skimage import transform

    shape = tuple(max(1, round(side * zoom)) for side in image.shape[:2])
    resized = transform.resize(
        image, shape, order=int(smooth), preserve_range=True, anti_aliasing=smooth
    )
    return np.rint(resized).astype(image.dtype)


def _frame(image: np.ndarray, shape_yx: Sequence[int]) -> np.ndarray:
    """The middle of an image, or the image in the middle of nothing."""
    for axis, side in enumerate(shape_yx):
        free = image.shape[axis] - side
        if free > 0:
            image = image.take(range(free // 2, free // 2 + side), axis)
        elif free < 0:
            padding = [(0, 0)] * image.ndim
            padding[axis] = (-free // 2, -free - -free // 2)
            image = np.pad(image, padding)
    return image
