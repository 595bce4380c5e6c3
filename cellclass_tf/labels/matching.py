"""Matches true and predicted cells by overlap, independently of their types."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse

# Number of pixels that are counted at once, which limits the memory for large fields.
_STRIP_PIXELS = 1 << 22


@dataclasses.dataclass(frozen=True, eq=False)
class Matches:
    """One-to-one pairs of true and predicted cells.

    Attributes:
      pairs: (M, 2) int64, labels (true, predicted), in ascending order.
      ious: (M,) float64, intersection over union of each pair.
      cells_true: number of true cells.
      cells_predicted: number of predicted cells.
    """

    pairs: np.ndarray
    ious: np.ndarray
    cells_true: int
    cells_predicted: int

    @property
    def missed(self) -> np.ndarray:
        """Labels of the true cells without a match (false negatives)."""
        return np.setdiff1d(np.arange(1, self.cells_true + 1), self.pairs[:, 0])

    @property
    def invented(self) -> np.ndarray:
        """Labels of the predicted cells without a match (false positives)."""
        return np.setdiff1d(np.arange(1, self.cells_predicted + 1), self.pairs[:, 1])


def iou_matrix(true: np.ndarray, predicted: np.ndarray) -> sparse.csr_array:
    """Returns the intersection over union of every pair of cells that overlap.

    Args:
      true: (H, W) label image of N cells, labels 1..N.
      predicted: (H, W) label image of M cells, labels 1..M.

    Returns:
      (N, M) sparse float64 array; [i, j] belongs to the labels i + 1 and j + 1.

    Raises:
      ValueError: if the shapes differ.
    """
    overlap = shared_pixels(true, predicted).tocoo()
    rows, columns = overlap.coords
    inside = (rows > 0) & (columns > 0)
    areas_true = np.bincount(rows, overlap.data, minlength=overlap.shape[0])
    areas_predicted = np.bincount(columns, overlap.data, minlength=overlap.shape[1])
    rows, columns, shared = rows[inside], columns[inside], overlap.data[inside]
    union = areas_true[rows] + areas_predicted[columns] - shared
    size = (overlap.shape[0] - 1, overlap.shape[1] - 1)
    return type(overlap)((shared / union, (rows - 1, columns - 1)), shape=size).tocsr()


def match_cells(true: np.ndarray, predicted: np.ndarray, iou: float = 0.5) -> Matches:
    """Matches true and predicted cells one to one, with as many pairs as possible.

    Among all ways with the largest number of pairs, it takes the one with the largest sum
    of IoUs. With IoUs above 0.5 there is only one way, since a cell cannot share more than
    half of its area with two others (Kirillov et al. 2019, doi:10.1109/CVPR.2019.00963).

    Args:
      true: (H, W) label image, labels 1..N.
      predicted: (H, W) label image, labels 1..M.
      iou: smallest IoU, in (0, 1], of cells that match.

    Raises:
      ValueError: if the shapes differ, or `iou` is out of range.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"Expected an IoU above 0 and up to 1; got {iou}.")
    ious = iou_matrix(true, predicted)
    candidates = ious.tocoo()
    near = candidates.data >= iou
    pairs = np.stack(candidates.coords, axis=1)[near].astype(np.int64)
    kept = _one_to_one(pairs, candidates.data[near], ious.shape)
    kept = kept[np.lexsort((pairs[kept, 1], pairs[kept, 0]))]
    return Matches(pairs[kept] + 1, candidates.data[near][kept], *ious.shape)


def threat_score(true: np.ndarray, predicted: np.ndarray, iou: float = 0.5) -> float:
    """Returns TP / (TP + FP + FN) of one field, ignoring types; NaN without any cell.

    StarDist and cellpose call this number average precision (Schmidt et al. 2018,
    doi:10.1007/978-3-030-00934-2_30; `cellpose.metrics.average_precision`). It differs from
    COCO's AP, the area under the precision-recall curve.
    """
    matches = match_cells(true, predicted, iou)
    either = matches.cells_true + matches.cells_predicted - len(matches.pairs)
    return len(matches.pairs) / either if either else float("nan")


def shared_pixels(true: np.ndarray, predicted: np.ndarray) -> sparse.csr_array:
    """Counts the pixels of every pair of labels, background (0) included.

    Args:
      true: (H, W) label image, labels 1..N.
      predicted: (H, W) label image, labels 1..M.

    Returns:
      (N + 1, M + 1) sparse int64.

    Raises:
      ValueError: if the shapes differ.
    """
    from scipy import sparse

    if true.shape != predicted.shape or true.ndim != 2:
        raise ValueError(
            f"Expected two label images of one shape; got {true.shape} and "
            f"{predicted.shape}."
        )
    size = (int(true.max(initial=0)) + 1, int(predicted.max(initial=0)) + 1)
    total = sparse.csr_array(size, dtype=np.int64)
    step = max(1, _STRIP_PIXELS // max(1, true.shape[1]))
    for top in range(0, true.shape[0], step):
        rows = true[top : top + step].ravel().astype(np.int32)
        columns = predicted[top : top + step].ravel().astype(np.int32)
        ones = np.ones(rows.size, np.int64)
        total = total + sparse.coo_array((ones, (rows, columns)), shape=size).tocsr()
    return total


def _one_to_one(
    pairs: np.ndarray, ious: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Returns the indices of the candidate pairs in the best assignment."""
    rivals_true = np.bincount(pairs[:, 0], minlength=size[0])[pairs[:, 0]]
    rivals_predicted = np.bincount(pairs[:, 1], minlength=size[1])[pairs[:, 1]]
    alone = (rivals_true == 1) & (rivals_predicted == 1)
    contested = np.flatnonzero(~alone)
    won = [np.flatnonzero(alone)]
    for group in _rival_groups(pairs[contested], size):
        won.append(_assign(pairs, ious, contested[group]))
    return np.concatenate(won)


def _rival_groups(pairs: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    """Splits pairs into groups without common cells, which are solved separately."""
    from scipy import sparse
    from scipy.sparse import csgraph

    if not len(pairs):
        return []
    nodes = sum(size)
    edges = (np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1] + size[0]))
    graph = sparse.coo_array(edges, shape=(nodes, nodes)).tocsr()
    group = csgraph.connected_components(graph, directed=False)[1][pairs[:, 0]]
    return [np.flatnonzero(group == number) for number in np.unique(group)]


def _assign(pairs: np.ndarray, ious: np.ndarray, group: np.ndarray) -> np.ndarray:
    from scipy import optimize

    _, rows = np.unique(pairs[group, 0], return_inverse=True)
    _, columns = np.unique(pairs[group, 1], return_inverse=True)
    gains = np.zeros((rows.max() + 1, columns.max() + 1))
    which = np.full(gains.shape, -1)
    # One more pair counts more than all the IoUs of the others together.
    gains[rows, columns] = 1 + ious[group] / (2 * min(gains.shape))
    which[rows, columns] = group
    chosen = which[optimize.linear_sum_assignment(gains, maximize=True)]
    return chosen[chosen >= 0]
