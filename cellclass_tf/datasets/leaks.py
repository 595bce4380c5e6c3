"""Checks that the splits of a prepared dataset do not leak, from its records alone."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from cellclass_tf import process_state
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.manifest import ImageRow
from cellclass_tf.core.study import MIXED
from cellclass_tf.core.type_names import UNKNOWN
from cellclass_tf.errors import InputError
from cellclass_tf.messages import progress_bar
from cellclass_tf.splits import near_duplicates
from cellclass_tf.splits.assignment import COMPOSED, UNTYPED

# Splits from whose fields the composed test images may be made.
_HELD_OUT = ("validation", "test")
_FEATURES = ("image", "labels", "cells", "image_name", "culture", "group")
_LISTED = 3


@dataclasses.dataclass(frozen=True)
class Count:
    """The numbers of fields, groups and cells of one type in one split.

    Attributes:
      split: name of the split.
      cell_type: the cell type.
      fields: number of fields of the type's culture, or with a cell of the type.
      groups: number of groups of these fields.
      cells: number of cells of the type.
    """

    split: str
    cell_type: str
    fields: int
    groups: int
    cells: int


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of checking a dataset.

    Attributes:
      dataset: folder of the dataset.
      fields: number of fields that were read.
      leaks: descriptions of images that are both trained and tested on, a line each.
      damage: descriptions of records that contradict themselves, a line each.
      remarks: descriptions of what is unusual but not wrong, a line each.
      table: counts of every type in every split.
    """

    dataset: str
    fields: int
    leaks: tuple[str, ...]
    damage: tuple[str, ...]
    remarks: tuple[str, ...]
    table: tuple[Count, ...]

    @property
    def passed(self) -> bool:
        """Whether there are neither leaks nor damage."""
        return not (self.leaks or self.damage)

    def __str__(self) -> str:
        """Returns the report in words, with the table first and the verdict last."""
        head = ("split", "type", "fields", "groups", "cells")
        rows = [head, *(tuple(map(str, dataclasses.astuple(r))) for r in self.table)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        adjust = (str.ljust, str.ljust, str.rjust, str.rjust, str.rjust)
        lines = [
            "  ".join(
                pad(text, width)
                for pad, text, width in zip(adjust, row, widths, strict=True)
            )
            for row in rows
        ]
        lines += [f"Remark: {text}" for text in self.remarks]
        lines += [f"Damage: {text}" for text in self.damage]
        lines += [f"Leak: {text}" for text in self.leaks]
        verdict = f"Leaks: {len(self.leaks)}, damaged records: {len(self.damage)},"
        lines.append(f"{verdict} in {self.fields} fields of {self.dataset}.")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class _RecordedField:
    """The facts of a field that are compared; `row.image_sha256` is that of its pixels."""

    row: ImageRow
    sources: tuple[str, ...]
    cells: collections.Counter[str]


@process_state.keep()
def check_dataset(dataset_dir: str | os.PathLike) -> Report:
    """Reads every record of a prepared dataset and looks for leaks between its splits.

    Neither the study nor the code that made the dataset is used. These faults are found:
    groups and image names in two splits; the same pixels or near-duplicates (see
    `near_duplicates.scene_hash`) in two splits; mixed cultures in a split that is trained
    on; composed fields whose sources are not held out; and cells that contradict their
    label image.

    Args:
      dataset_dir: folder of one version of the dataset, with its dataset_info.json. It
        may have been prepared by an earlier version of this library.

    Raises:
      InputError: if it is not a prepared dataset of this kind, or a record is broken.
    """
    builder = _open(dataset_dir)
    damage: list[str] = []
    fields = [
        _field(builder, split, example, damage)
        for split, example in _examples(builder, dataset_dir)
    ]
    leaks = [
        *_groups_in_two_splits(fields),
        *_names_twice(fields),
        *_near_duplicates(fields),
        *_mixed_elsewhere(fields),
        *_sources_not_held_out(fields),
    ]
    table = _table(fields, builder.info.features["cells"]["type"].names)
    return Report(
        os.fspath(dataset_dir),
        len(fields),
        tuple(leaks),
        tuple(damage),
        tuple(_remarks(table)),
        tuple(table),
    )


def _open(dataset_dir: str | os.PathLike) -> Any:
    """Returns the dataset's builder."""
    import tensorflow_datasets as tfds

    # The path may be that of a cloud bucket.
    folder = tfds.core.Path(os.fspath(dataset_dir))
    if not (folder / "dataset_info.json").exists():
        raise InputError(
            f"{folder}: expected a prepared dataset, with its dataset_info.json, such as "
            "STUDY/tfds/cell_types/study/2.0.0. Make one with `cellclass dataset`."
        )
    try:
        builder = tfds.builder_from_directory(folder)
        known = set(builder.info.features or ())
    # Broken files raise errors of many kinds.
    except Exception as error:
        raise InputError(
            f"{folder}: the dataset's description cannot be read "
            f"({type(error).__name__}: {error}). Prepare it again with `cellclass "
            "dataset`."
        ) from error
    missing = [name for name in _FEATURES if name not in known]
    if missing:
        raise InputError(
            f"{folder}: expected a dataset of cell types, but its records have no "
            f"{', '.join(missing)}; they have {', '.join(sorted(known))}."
        )
    return builder


def _examples(
    builder: Any, folder: str | os.PathLike
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the split and the arrays of every record, in the order of the files."""
    import tensorflow_datasets as tfds

    one_file_at_a_time = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    splits = {name: builder.info.splits[name] for name in sorted(builder.info.splits)}
    total = sum(split.num_examples for split in splits.values())
    with progress_bar(description="check", total=total) as bar:
        for name, split in splits.items():
            done = 0
            try:
                loaded = builder.as_dataset(
                    split=name, shuffle_files=False, read_config=one_file_at_a_time
                )
                for example in tfds.as_numpy(loaded):
                    yield name, example
                    done += 1
                    bar.update()
            # TensorFlow raises errors of many kinds, and is not imported here.
            except Exception as error:
                raise InputError(_where_it_broke(split, done, folder)) from error


def _where_it_broke(split: Any, done: int, folder: str | os.PathLike) -> str:
    ends = np.cumsum(split.shard_lengths)
    shard = min(int(np.searchsorted(ends, done, side="right")), len(ends) - 1)
    return (
        f"{folder}: record {done + 1} of {split.num_examples} of the split {split.name} "
        f"cannot be read; {sorted(split.filenames)[shard]} is broken. Delete the folder "
        "and prepare the dataset again with `cellclass dataset`."
    )


def _field(
    builder: Any, split: str, example: dict[str, Any], damage: list[str]
) -> _RecordedField:
    """Returns the facts of a record to compare; adds its faults to `damage`."""
    features, image = builder.info.features, example["image"]
    name = example["image_name"].decode()
    least = -1 if split == UNTYPED else 0
    faults = _faults(example, least, len(features["cells"]["type"].names))
    damage += [
        f"Split {split}, {name}: {fault}. Prepare the dataset again with `cellclass "
        "dataset`."
        for fault in faults
    ]
    shape = np.array(image.shape, np.int64).tobytes()
    row = ImageRow(
        image=name,
        cell_type=_name_of(features["culture"].names, example["culture"]),
        group=example["group"].decode(),
        image_sha256=hashlib.sha256(shape + image.tobytes()).hexdigest(),
        scene_hash=near_duplicates.scene_hash(image),
        split=split,
    )
    types = features["cells"]["type"].names
    return _RecordedField(
        row,
        tuple(source.decode() for source in example.get("sources", ())),
        collections.Counter(
            UNKNOWN if n == -1 else _name_of(types, n) for n in example["cells"]["type"]
        ),
    )


def _name_of(names: Sequence[str], number: int) -> str:
    return names[number] if 0 <= number < len(names) else f"class {number}"


def _faults(example: dict[str, Any], least: int, types: int) -> Iterator[str]:
    labels, cells = example["labels"][..., 0], example["cells"]
    if labels.shape != example["image"].shape[:2]:
        yield f"the image has {example['image'].shape[:2]} px, its labels {labels.shape}"
    strange = sorted({int(n) for n in cells["type"] if not least <= n < types})
    if strange:
        yield f"cells have the types {strange}, but there are only {least} to {types - 1}"
    areas = np.bincount(labels.ravel(), minlength=1)[1:]
    if len(areas) != len(cells["area_px"]):
        yield f"{len(cells['area_px'])} cells, but {len(areas)} in the label image"
    elif (areas != cells["area_px"]).any():
        cell = int(np.flatnonzero(areas != cells["area_px"])[0])
        yield (
            f"cell {cell + 1} has {cells['area_px'][cell]} px, but {areas[cell]} in the "
            "label image"
        )
    elif len(areas) and areas.all():
        yield from _wrong_boxes(labels.astype(np.int32), cells["box"])


def _wrong_boxes(labels: np.ndarray, boxes: np.ndarray) -> Iterator[str]:
    height, width = labels.shape
    found = Cells.from_labels(labels, ()).boxes_yxyx
    wrong = np.abs(boxes * (height, width, height, width) - found).max(axis=1) > 0.5
    if wrong.any():
        cell = int(np.flatnonzero(wrong)[0])
        yield f"cell {cell + 1} has another box than in the label image"


def _role(split: str) -> str:
    """Returns the split; 'train' for `untyped`, too, since both are trained on."""
    return "train" if split == UNTYPED else split


def _groups_in_two_splits(fields: Sequence[_RecordedField]) -> Iterator[str]:
    by_group: dict[str, dict[str, list[str]]] = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )
    for field in fields:
        if not field.sources and field.row.split != COMPOSED:
            split = _role(field.row.split)
            by_group[field.row.group][split].append(field.row.image)
    for group, by_split in sorted(by_group.items()):
        if len(by_split) > 1:
            where = " and ".join(
                f"{s} ({_some(by_split[s])})" for s in sorted(by_split)
            )
            yield (
                f"Group {group!r} is in the splits {where}. Empty the column split of all "
                "its images in images.csv and prepare the dataset again."
            )


def _names_twice(fields: Sequence[_RecordedField]) -> Iterator[str]:
    splits_of = collections.defaultdict(list)
    for field in fields:
        splits_of[field.row.image].append(field.row.split)
    for name, splits in sorted(splits_of.items()):
        if len(splits) > 1:
            yield (
                f"{name} is in the dataset {len(splits)} times, in "
                f"{' and '.join(splits)}. Prepare the dataset again."
            )


def _near_duplicates(fields: Sequence[_RecordedField]) -> Iterator[str]:
    sources = {field.row.image: field.sources for field in fields}
    split_of = {field.row.image: field.row.split for field in fields}
    pairs = collections.defaultdict(list)
    found = near_duplicates.find_near_duplicates(
        [f.row for f in fields], lambda row: _role(row.split)
    )
    for one, other, why in found:
        # A composed field shows the cells of its sources, which another rule checks.
        made_from = {split_of.get(s) for s in sources[one.image]}
        made_from |= {split_of.get(s) for s in sources[other.image]}
        if not made_from & {one.split, other.split}:
            ends = ((one.split, one.group), (other.split, other.group))
            pairs[ends].append((one, other, why))
    for (one, other, why), *others in pairs.values():
        more = f" (and {len(others)} more pairs of them)" if others else ""
        same = (
            "have the same pixels"
            if why == near_duplicates.SAME_BYTES
            else f"are {why}"
        )
        yield (
            f"{one.image} (split {one.split}, group {one.group!r}) and {other.image} "
            f"(split {other.split}, group {other.group!r}) {same}{more}: they show one "
            "scene. Write rejected into the column verdict of one of them in images.csv, "
            "or empty the column split of both groups, and prepare the dataset again."
        )


def _mixed_elsewhere(fields: Sequence[_RecordedField]) -> Iterator[str]:
    for field in fields:
        row = field.row
        if row.cell_type == MIXED and row.split not in (MIXED, COMPOSED, UNTYPED):
            yield (
                f"{row.image} of group {row.group!r} is a mixed field in the split "
                f"{row.split}. Empty the column split of its group in images.csv and "
                "prepare the dataset again."
            )


def _sources_not_held_out(fields: Sequence[_RecordedField]) -> Iterator[str]:
    splits_of = collections.defaultdict(set)
    for field in fields:
        splits_of[field.row.image].add(field.row.split)
    for field in fields:
        row = field.row
        allowed = _HELD_OUT if row.split == COMPOSED else (row.split,)
        again = "Prepare the dataset again with `cellclass dataset`."
        if row.split == COMPOSED and not field.sources:
            yield f"{row.image} of the split {COMPOSED} names no sources. {again}"
        for source in field.sources:
            strange = sorted(splits_of[source] - set(allowed))
            if strange or not splits_of[source]:
                where = " and ".join(strange) or "no split"
                yield (
                    f"{row.image} of the split {row.split} was made from {source}, which "
                    f"is in {where} and not in {' or '.join(allowed)}. {again}"
                )


def _table(fields: Sequence[_RecordedField], types: Sequence[str]) -> list[Count]:
    table = []
    for split in sorted({field.row.split for field in fields}):
        in_split = [field for field in fields if field.row.split == split]
        names = types
        if split == UNTYPED:
            names = [n for n in types if any(field.cells[n] for field in in_split)]
            names.append(UNKNOWN)
        for cell_type in names:
            of_type = [
                field
                for field in in_split
                if field.row.cell_type == cell_type or field.cells[cell_type]
            ]
            groups = {field.row.group for field in of_type} - {""}
            cells = sum(field.cells[cell_type] for field in of_type)
            table.append(Count(split, cell_type, len(of_type), len(groups), cells))
    return table


def _remarks(table: Iterable[Count]) -> Iterator[str]:
    cells: dict[str, dict[str, int]] = collections.defaultdict(dict)
    for row in table:
        if row.split != UNTYPED:
            cells[row.split][row.cell_type] = row.cells
    for split in ("train", "validation"):
        if split not in cells:
            yield f"There is no split {split}."
    for split, of_split in cells.items():
        for cell_type, number in of_split.items():
            others = [s for s in cells if s != split and cells[s][cell_type]]
            if not number and others:
                yield (
                    f"The split {split} has no cells of {cell_type}, which "
                    f"{' and '.join(others)} have."
                )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(sorted(names)[:_LISTED]) + more
