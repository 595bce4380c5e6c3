"""Writes corrected fields in the form that cellpose's training reads: a file a piece."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellclass_tf.annotation import changes
from cellclass_tf.annotation.annotators import cellpose_adapter, cellpose_library
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import MIXED, ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.messages import progress_bar
from cellclass_tf.splits import assignment, near_duplicates
from cellclass_tf.storage import atomic

if TYPE_CHECKING:
    import torch

# If no group is left to choose the best round by, this share of each training field, at
# its right side, is kept out of training for that purpose.
_KEPT_OUT = 0.25
# Side of the window around a hand-drawn cell, in units of the cell's longer side.
_WINDOW = 4
# Eight pieces are in memory at once, which limits their size.
_LARGEST_PIECE_PX = 1200

# The files of a piece: its image, and its labels and flows.
_Files = tuple[pathlib.Path, pathlib.Path]


@dataclasses.dataclass(frozen=True)
class Roles:
    """The corrected fields by their use; all fields of a group have the same use.

    Attributes:
      train: fields that cellpose is trained on.
      choose: fields by which the best round is chosen; if empty, the right quarter of the
        training fields is used for that.
      held_out: fields that are used neither for training nor for the choice of a round,
        but only for the verdict.
    """

    train: tuple[ImageRow, ...]
    choose: tuple[ImageRow, ...]
    held_out: tuple[ImageRow, ...]


@dataclasses.dataclass(frozen=True)
class TrainingImage:
    """A pair of files to train on: the image, and its labels and flows.

    Attributes:
      image: TIFF, (C, H, W) float32: cytoplasm, nuclei and for cellpose 4 an empty plane,
        with contrast stretched as cellpose does.
      flows: TIFF, (4, H, W) float32: labels, foreground, and flows in y and x.
      weight: how often it is drawn, relative to the others.
      is_window: whether it is a window around a hand-drawn cell, and not a field or part
        of one.
    """

    image: pathlib.Path
    flows: pathlib.Path
    weight: float
    is_window: bool = False


def roles_of(
    study: Study, corrected: Sequence[ImageRow], every: Sequence[ImageRow]
) -> tuple[Roles, list[ImageRow]]:
    """Assigns corrected fields to their uses by the splits of the dataset.

    Fields of the split train are trained on. Test and mixed fields are held out, and
    validation fields choose the best round; without test and mixed fields, the validation
    fields are held out. If all groups would be in train, one group of each type that has
    no split yet becomes validation.

    Args:
      study: the study.
      corrected: rows of the corrected fields.
      every: rows of all accepted fields, by which the splits of groups are decided.

    Returns:
      The roles, and the corrected rows with their splits, which the dataset uses, too.

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
            f"{len(rows)} field(s) of {len(groups)} group(s), in the splits "
            f"{', '.join(sorted(set(groups.values())))}. Correct fields of another dish, "
            "or change the columns group and split of images.csv."
        )
    return Roles(those("train"), choose, held_out), rows


def _groups_for_validation(
    corrected: Sequence[ImageRow], every: Sequence[ImageRow]
) -> set[str]:
    """Chooses a group without a split for each type that has more than one group.

    A group that shows a scene of another group has to stay in its split.
    """
    fixed, moved = {row.group for row in every if row.split}, set()
    alike = near_duplicates.find_near_duplicates(every, apart=lambda row: row.group)
    fixed |= {row.group for pair in alike for row in (pair.one, pair.other)}
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
    """Writes the pieces to train on into a folder: whole fields, and windows around cells.

    Args:
      study: the study.
      roles: uses of the fields; if there are none to choose by, the right quarter of each
        training field is left out.
      folder: folder to write to.
      hand_weight: how many times as often as other cells a hand-drawn cell is shown; with
        1 there are no windows.
      device: device on which flows are computed.

    Returns:
      The pieces; their weights sum to 1.

    Raises:
      InputError: if the training fields hold no cells.
    """
    fields: list[_Files | None] = []
    windows: list[_Files | None] = []
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
    with_cells = [pair for pair in fields if pair]
    if not with_cells:
        raise InputError(
            f"{study.root}: the corrected fields hold no cells to train on."
        )
    share = 1 / hand_weight if windows else 1.0
    return [
        *_share_weight(with_cells, share),
        *_share_weight([pair for pair in windows if pair], 1 - share, is_window=True),
    ]


def first_kept_out(width: int) -> int:
    """Returns the first column of the part of a field that is kept out of training."""
    return round(width * (1 - _KEPT_OUT))


def stretch_contrast(image: np.ndarray) -> np.ndarray:
    """Returns the planes of a merged image that cellpose trains on, with stretched contrast.

    Contrast is stretched by cellpose's own function, between the 1st and 99th percentile
    of the whole field.

    Returns:
      (2, H, W) float32, cytoplasm and nuclei; for cellpose 4 (3, H, W), the third empty.
    """
    from cellpose import transforms

    planes = cellpose_adapter.installed().planes_of(image)
    return transforms.normalize_img(planes, axis=0)


def _share_weight(
    pairs: Sequence[_Files], share: float, *, is_window: bool = False
) -> list[TrainingImage]:
    return [
        TrainingImage(image, flows, share / len(pairs), is_window)
        for image, flows in pairs
    ]


def _write(
    stem: pathlib.Path, image: np.ndarray, labels: np.ndarray, device: torch.device
) -> _Files | None:
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


def _parts(shape_yx: Sequence[int]) -> list[tuple[slice, slice]]:
    """Cuts a large field into equal parts, since cellpose reads whole pieces."""
    axes = []
    for side in shape_yx:
        count = -(-side // _LARGEST_PIECE_PX)
        edges = [round(side * n / count) for n in range(count + 1)]
        axes.append([slice(a, b) for a, b in itertools.pairwise(edges)])
    return list(itertools.product(*axes))


def _windows(
    cells: Cells, drawn: Sequence[int], shape_yx: Sequence[int]
) -> list[tuple[slice, slice]]:
    """Returns windows around the hand-drawn cells whose middle lies within `shape_yx`."""
    windows = []
    for label in drawn:
        top, left, bottom, right = cells.boxes_yxyx[label - 1].tolist()
        half = max(bottom - top, right - left) * _WINDOW // 2
        y, x = (top + bottom) // 2, (left + right) // 2
        if y < shape_yx[0] and x < shape_yx[1]:
            rows = slice(max(0, y - half), min(shape_yx[0], y + half))
            windows.append((rows, slice(max(0, x - half), min(shape_yx[1], x + half))))
    return windows
