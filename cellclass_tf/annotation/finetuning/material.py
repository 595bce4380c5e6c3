"""Corrected fields as cellpose's own training reads them: from files, one at a time."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellclass_tf.annotation import changes
from cellclass_tf.annotation.annotators import cellpose_adapter, cellpose_library
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import MIXED, ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.messages import progress_bar
from cellclass_tf.splits import assignment
from cellclass_tf.storage import atomic

if TYPE_CHECKING:
    import torch

# Where no group is left to choose the best round by, this share of each training field,
# at its right, is kept out of training for it.
_KEPT_OUT = 0.25
# A window around a cell that was drawn by hand is this many times its longer side wide.
_WINDOW = 4
# Eight pieces are in memory at once.
_LARGEST_PIECE_PX = 1200


@dataclasses.dataclass(frozen=True)
class Roles:
    """What each corrected field is for; no group has two.

    Attributes:
      train: fields that cellpose learns from.
      choose: fields by which the best round is chosen; empty where the right quarter of
        the training fields does that.
      held_out: fields that neither training nor choice has seen, for the verdict.
    """

    train: tuple[ImageRow, ...]
    choose: tuple[ImageRow, ...]
    held_out: tuple[ImageRow, ...]


@dataclasses.dataclass(frozen=True)
class TrainingImage:
    """A file pair that is trained on: the image, and its labels and flows.

    Attributes:
      image: TIFF, (C, H, W) float32, cytoplasm, nuclei and for cellpose 4 an empty
        plane, stretched as cellpose does.
      flows: TIFF, (4, H, W) float32, labels, cell or not, and flows in y and x.
      weight: how often it is drawn, in relation to the others.
      is_window: whether it surrounds a hand-drawn cell, and is no field or part of one.
    """

    image: pathlib.Path
    flows: pathlib.Path
    weight: float
    is_window: bool = False


def roles_of(
    study: Study, corrected: Sequence[ImageRow], every: Sequence[ImageRow]
) -> tuple[Roles, list[ImageRow]]:
    """Shares corrected fields out by the splits of the dataset.

    Train is trained on. Test and mixed fields are held out, and validation chooses the
    best round; without test and mixed fields, validation is held out. Where all groups
    would be for training, one of those that have no split yet becomes validation.

    Args:
      study: the study.
      corrected: rows of the fields to share out.
      every: rows of all accepted fields, since a group's split is that of all of them.

    Returns:
      The roles, and the corrected rows with their splits, which are the dataset's too.

    Raises:
      InputError: if a hand-made split leaks, or no group can be held out.
    """
    rows = assignment.with_splits(corrected, every, study.manifest_path)
    if all(row.split == "train" for row in rows):
        moved = _groups_for_validation(corrected, every)
        rows = [
            dataclasses.replace(row, split="validation") if row.group in moved else row
            for row in rows
        ]

    def those(*names: str) -> tuple[ImageRow, ...]:
        return tuple(row for row in rows if row.split in names)

    held_out, choose = those("test", MIXED), those("validation")
    if not held_out:
        held_out, choose = choose, ()
    if not those("train") or not held_out:
        groups = {row.group: row.split for row in rows}
        raise InputError(
            f"{study.root}: expected corrected fields to train on and, of another "
            "acquisition group, corrected fields to judge by; got "
            f"{len(rows)} field(s) of {len(groups)} group(s), of the splits "
            f"{', '.join(sorted(set(groups.values())))}. Correct fields of another dish, "
            "or see the columns group and split of images.csv."
        )
    return Roles(those("train"), choose, held_out), rows


def _groups_for_validation(
    corrected: Sequence[ImageRow], every: Sequence[ImageRow]
) -> set[str]:
    """One group of each type that has no split yet, if others of the type remain."""
    fixed, moved = {row.group for row in every if row.split}, set()
    for cell_type in sorted({row.cell_type for row in corrected}):
        groups = sorted({row.group for row in corrected if row.cell_type == cell_type})
        free = [group for group in groups if group not in fixed]
        if free and len(groups) > 1:
            moved.add(free[-1])
    return moved


def prepare(
    study: Study,
    roles: Roles,
    folder: pathlib.Path,
    hand_weight: float,
    device: torch.device,
) -> list[TrainingImage]:
    """Writes what is trained on into a folder, whole fields and windows around cells.

    Args:
      study: the study.
      roles: which fields; without fields to choose by, a quarter of each is left out.
      folder: to write to.
      hand_weight: how many times as often as by chance alone a hand-drawn cell is seen;
        with 1 there are no windows.
      device: on which flows are computed.

    Returns:
      The pieces; weights sum to 1.
    """
    fields, windows = [], []
    for number, row in enumerate(progress_bar(roles.train, "flows")):
        image, cells = stretch_contrast(study.read_image(row)), study.read_cells(row)
        labels = cells.labels
        if not roles.choose:
            edge = first_kept_out(labels.shape[1])
            image, labels = image[..., :edge], labels[:, :edge]
        for part, window in enumerate(_parts(labels.shape)):
            name = folder / f"{number:05d}_{part:04d}"
            cut = (image[(slice(None), *window)], labels[window])
            fields.append(_write(name, *cut, device))
        if hand_weight > 1:
            drawn = changes.labels_of(row.by_hand, len(cells))
            for window in _windows(cells, drawn, labels.shape):
                name = folder / f"{number:05d}_hand_{len(windows):06d}"
                cut = (image[(slice(None), *window)], labels[window])
                windows.append(_write(name, *cut, device))
    fields = [pair for pair in fields if pair]
    if not fields:
        raise InputError(
            f"{study.root}: the corrected fields hold no cells to train on."
        )
    share = 1 / hand_weight if windows else 1.0
    return [
        *_share_weight(fields, share),
        *_share_weight([pair for pair in windows if pair], 1 - share, is_window=True),
    ]


def first_kept_out(width: int) -> int:
    """Returns the first column of the part of a field that is kept out of training."""
    return round(width * (1 - _KEPT_OUT))


def stretch_contrast(image: np.ndarray) -> np.ndarray:
    """Returns the planes of a merged image that cellpose trains on, stretched.

    (2, H, W) float32, cytoplasm and nuclei; for cellpose 4 (3, H, W), the third empty.
    By cellpose's own function, between the 1st and 99th percentile of the whole field.
    """
    from cellpose import transforms

    planes = cellpose_adapter.installed().planes_of(image)
    return transforms.normalize_img(planes, axis=0)


def _share_weight(
    pairs: Sequence[tuple], share: float, *, is_window: bool = False
) -> Iterable[TrainingImage]:
    return [TrainingImage(*pair, share / len(pairs), is_window) for pair in pairs]


def _write(
    stem: pathlib.Path, image: np.ndarray, labels: np.ndarray, device: torch.device
) -> tuple[pathlib.Path, pathlib.Path] | None:
    """Writes a piece; returns None if it holds no cell."""
    import tifffile
    from cellpose import dynamics

    if not labels.any():
        return None
    paths = stem.with_suffix(".tif"), stem.with_name(f"{stem.name}_flows.tif")
    if not paths[1].exists():
        with cellpose_library.contain_effects():
            flows = dynamics.labels_to_flows([labels.astype(np.int32)], device=device)
        for path, content in zip(paths, (image, flows[0]), strict=True):
            with atomic.atomic_path(path) as temporary:
                # Without photometric, tifffile takes four planes for the colours RGBA.
                tifffile.imwrite(temporary, content, photometric="minisblack")
    return paths


def _parts(shape_yx: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Cuts a large field into parts of equal size, since cellpose reads pieces whole."""
    axes = []
    for side in shape_yx:
        count = -(-side // _LARGEST_PIECE_PX)
        edges = [round(side * n / count) for n in range(count + 1)]
        axes.append([slice(a, b) for a, b in itertools.pairwise(edges)])
    return list(itertools.product(*axes))


def _windows(
    cells: Cells, drawn: Sequence[int], shape_yx: tuple[int, int]
) -> list[tuple[slice, slice]]:
    """Windows around hand-drawn cells whose middle lies in the field's first `shape`."""
    windows = []
    for label in drawn:
        top, left, bottom, right = cells.boxes_yxyx[label - 1].tolist()
        half = max(bottom - top, right - left) * _WINDOW // 2
        y, x = (top + bottom) // 2, (left + right) // 2
        if y < shape_yx[0] and x < shape_yx[1]:
            rows = slice(max(0, y - half), min(shape_yx[0], y + half))
            windows.append((rows, slice(max(0, x - half), min(shape_yx[1], x + half))))
    return windows
