"""Fits thresholds and the temperature of a trained network on held-out fields."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from scipy import optimize

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.model_metadata import (
    UNCALIBRATED_SCORE_THRESHOLD,
    CalibrationRecord,
    HeldOutField,
)
from cellclass_tf.labels import matching
from cellclass_tf.maskrcnn import combining, postprocessing
from cellclass_tf.maskrcnn.reliability import Reliability
from cellclass_tf.messages import logger

_TEMPERATURES = (0.25, 8.0)
_THRESHOLDS = (0.25, 0.65)
# Enough to fit two numbers. More fields would only need more memory, and more time for
# the mask threshold, since all cells are drawn again for every value that is tried.
MOST_FIELDS = 100
_FIELDS_FOR_THRESHOLD = 12
# Thresholds count as equally good if their F1 is at most this much below the best.
_EQUAL_F1 = 0.002
# A smaller difference of mean log-likelihoods does not matter, however certain it is.
_EQUAL_LIKELIHOOD = 0.001


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The fitted values, and how well they describe the held-out fields.

    Attributes:
      score_threshold: score with the best F1 at IoU 0.5 between found and true cells.
      temperature: temperature of the types' probabilities; see
        `postprocessing.at_temperature`.
      cells: number of matched cells of known type.
      accuracy: fraction of these whose predicted type is correct.
      fields: number of held-out fields.
      held_out: confusions, missed cells and false positives of each field, without the
        composed fields.
      before: reliability at temperature 1.
      after: reliability at the fitted temperature.
      mask_threshold: mask value at which the median cell is as large as its annotation;
        None if the outlines are not the network's.
    """

    score_threshold: float
    temperature: float
    cells: int
    accuracy: float
    fields: int
    held_out: tuple[HeldOutField, ...]
    before: Reliability
    after: Reliability
    mask_threshold: float | None = None

    def record(self) -> CalibrationRecord:
        """Returns the record that is written to cellclass.json."""
        return CalibrationRecord(
            fields=self.fields,
            cells=self.cells,
            type_accuracy=self.accuracy,
            held_out=self.held_out,
            expected_calibration_error_before=self.before.expected_error,
            expected_calibration_error=self.after.expected_error,
            bins=self.after.bins(),
        )


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a held-out field comes from.

    Attributes:
      group: acquisition group, such as a dish.
      area: area of the field, in squares of the diameter of a median cell.
      is_composed: whether its cells were cut out of other held-out fields.
    """

    group: str = ""
    area: float = 0.0
    is_composed: bool = False


@dataclasses.dataclass(frozen=True)
class Matched:
    """The cells found in one field, matched with the true cells.

    Attributes:
      scores: (F,) scores of the found cells.
      probabilities: (F, K) probabilities of their types, at temperature 1.
      right: (F,) bool, whether the found cell matches a true cell.
      true_ids: (F,) type of the matched cell; 0 if there is none or its type is unknown.
      true_cells: number of true cells.
      true_counts: (K,) number of true cells of each type.
      origin: where the field comes from.
    """

    scores: np.ndarray
    probabilities: np.ndarray
    right: np.ndarray
    true_ids: np.ndarray
    true_cells: int
    true_counts: np.ndarray
    origin: Origin

    @classmethod
    def of(
        cls,
        true: Cells,
        found: Cells,
        pairs: np.ndarray | None = None,
        origin: Origin = Origin(),
    ) -> Matched:
        """Matches found with true cells at IoU 0.5.

        Args:
          true: true cells of a field.
          found: found cells of the same field.
          pairs: (P, 2) labels of matched true and found cells; None to match them here.
          origin: where the field comes from.
        """
        if pairs is None:
            pairs = matching.match_cells(true.labels, found.labels).pairs
        i, j = (pairs - 1).T
        right, ids = np.zeros(len(found), bool), np.zeros(len(found), np.int64)
        right[j], ids[j] = True, true.type_ids[i]
        counts = np.bincount(true.type_ids, minlength=len(true.type_names) + 1)[1:]
        return cls(
            found.scores, found.probabilities, right, ids, len(true), counts, origin
        )

    def outcome(self, least: float) -> HeldOutField:
        """Counts confusions, missed cells and false positives at a score of at least `least`."""
        types, kept = len(self.true_counts), self.scores >= least
        called = self.probabilities.argmax(axis=1)
        known = kept & (self.true_ids > 0)
        confusion = np.zeros((types, types), np.int64)
        np.add.at(confusion, (self.true_ids[known] - 1, called[known]), 1)
        invented = np.bincount(called[kept & ~self.right], minlength=types)
        return HeldOutField(
            tuple(map(tuple, confusion.tolist())),
            tuple((self.true_counts - confusion.sum(axis=1)).tolist()),
            tuple(invented.tolist()),
            round(self.origin.area, 3),
            self.origin.group,
        )


class Calibrator:
    """Collects held-out fields, and fits thresholds and temperature on them."""

    def __init__(self, type_names: Sequence[str]) -> None:
        self._type_names = tuple(type_names)
        self._fields: list[tuple[postprocessing.Detections, Cells]] = []
        self._origins: list[Origin] = []

    def add(
        self,
        detections: postprocessing.Detections,
        true: Cells,
        origin: Origin = Origin(),
    ) -> None:
        """Adds one held-out field; `MOST_FIELDS` fields are enough."""
        self._fields.append((detections, true))
        self._origins.append(origin)

    def fit(self, rename: Callable[[Cells], Cells] | None = None) -> Calibration | None:
        """Fits mask threshold, score threshold and temperature.

        At the mask threshold, the median ratio of a found cell's diameter to the true one
        is 1. The score threshold is the middle of the range in which F1 is best. The
        temperature maximises the likelihood of the true types (Guo et al. 2017,
        arXiv:1706.04599). One pseudo-count per type is added (as in Platt 1999), because
        the likelihood of a network without errors has no maximum.

        Args:
          rename: function that replaces the types and probabilities of the cells found in
            a field before the temperature is fitted. It is called once per field, in the
            order in which the fields were added. None keeps the detector's types.

        Returns:
          The calibration; None if no found cell matches a true cell of known type.
        """
        if not self._fields:
            return None
        threshold = self._mask_threshold()
        matched = self._pairs(self._fields, threshold)
        fields = [
            Matched.of(true, rename(found) if rename else found, pairs, origin)
            for (true, found, pairs), origin in zip(matched, self._origins, strict=True)
        ]
        found = fit_types(fields, best_score_threshold(fields))
        return found and dataclasses.replace(found, mask_threshold=round(threshold, 3))

    def _mask_threshold(self) -> float:
        low, high = _THRESHOLDS
        for _ in range(6):
            middle = (low + high) / 2
            # Cells shrink as the threshold rises.
            if (self._median_ratio(middle) or 0) > 1:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    def _median_ratio(self, threshold: float) -> float | None:
        ratios: list[np.ndarray] = []
        step = -(-len(self._fields) // _FIELDS_FOR_THRESHOLD) or 1
        for true, found, pairs in self._pairs(self._fields[::step], threshold):
            i, j = (pairs - 1).T
            ratios.append(np.sqrt(found.areas_px[j] / true.areas_px[i]))
        every = np.concatenate(ratios) if ratios else np.zeros(0)
        return float(np.median(every)) if every.size else None

    def _pairs(
        self,
        fields: Iterable[tuple[postprocessing.Detections, Cells]],
        threshold: float,
    ) -> Iterator[tuple[Cells, Cells, np.ndarray]]:
        for detections, true in fields:
            found = postprocessing.cells_from_detections(
                detections,
                true.labels.shape,
                self._type_names,
                mask_threshold=threshold,
            )
            yield true, found, matching.match_cells(true.labels, found.labels).pairs


def calibrate_named(fields: Sequence[Matched]) -> Calibration | None:
    """Fits score threshold and temperature for cells in given outlines.

    A person or a program has already decided that there is a cell, so the threshold only
    removes outlines whose score is so low that, on held-out fields, they were usually wrong.

    Returns:
      The calibration; None if no outline matches a true cell of known type.
    """
    if not fields:
        return None
    return fit_types(fields, best_score_threshold(fields, of_network=False))


def fit_types(fields: Sequence[Matched], least: float) -> Calibration | None:
    """Fits the temperature on the cells of known type with a score of `least` or more."""
    kept = [(f.true_ids > 0) & (f.scores >= least) for f in fields]
    matched = [
        (f.probabilities[k], f.true_ids[k]) for f, k in zip(fields, kept, strict=True)
    ]
    probabilities, true_ids = (
        np.concatenate(part) for part in zip(*matched, strict=True)
    )
    if not len(true_ids):
        return None
    temperature = fit_temperature(probabilities, true_ids)
    right = probabilities.argmax(axis=1) + 1 == true_ids
    after = postprocessing.at_temperature(probabilities, temperature)
    return Calibration(
        score_threshold=round(least, 3),
        temperature=round(temperature, 3),
        cells=len(true_ids),
        accuracy=float(right.mean()),
        fields=len(fields),
        held_out=tuple(f.outcome(least) for f in fields if not f.origin.is_composed),
        before=Reliability.of(probabilities.max(axis=1), right),
        after=Reliability.of(after.max(axis=1), right),
    )


def best_score_threshold(
    fields: Sequence[Matched], *, of_network: bool = True
) -> float:
    """Returns the score threshold with the best F1 at IoU 0.5.

    Args:
      fields: found cells, matched with the true cells.
      of_network: whether the network outlined the cells. If so, the result is the middle
        of the best thresholds, and never below `UNCALIBRATED_SCORE_THRESHOLD`: most
        held-out fields are crowded, and a field with more background has more false
        positives. If not, the result is the lowest of the best thresholds.

    Returns:
      The threshold; its lowest possible value if no found cell matches a true cell.
    """
    scores = np.concatenate([field.scores for field in fields])
    right = np.concatenate([field.right for field in fields])
    true = sum(field.true_cells for field in fields)
    lowest = UNCALIBRATED_SCORE_THRESHOLD if of_network else 0.0
    if not right.any():
        return lowest
    least = np.linspace(lowest, 0.9, 61)
    kept = scores[None] >= least[:, None]
    f1 = 2 * (kept & right).sum(axis=1) / (kept.sum(axis=1) + true)
    best = first = last = int(f1.argmax())
    while first and f1[first - 1] >= f1[best] - _EQUAL_F1:
        first -= 1
    while last + 1 < len(f1) and f1[last + 1] >= f1[best] - _EQUAL_F1:
        last += 1
    return float((least[first] + least[last if of_network else first]) / 2)


def fit_temperature(
    probabilities: np.ndarray, true_ids: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Returns the temperature that maximises the likelihood of the true types.

    Args:
      probabilities: (N, K) probabilities of the types.
      true_ids: (N,) true types, counted from 1.
      weights: (N,) weights of the cells; None for equal ones.

    Returns:
      The temperature; 1 for a single type, whose probability is 1 at any temperature.
    """
    count, types = probabilities.shape
    if types == 1:
        return 1.0
    wanted = np.full((count, types), 1 / (count + types))
    wanted[np.arange(count), true_ids - 1] = (count + 1) / (count + types)
    wanted /= wanted.sum(axis=1, keepdims=True)

    def loss(log_temperature: float) -> float:
        scaled = postprocessing.at_temperature(probabilities, np.exp(log_temperature))
        logs = (wanted * np.log(np.maximum(scaled, 1e-12))).sum(axis=1)
        return -float(np.average(logs, weights=weights))

    found = optimize.minimize_scalar(
        loss, bounds=np.log(_TEMPERATURES), method="bounded"
    )
    if np.isclose(np.exp(found.x), _TEMPERATURES, rtol=0.01).any():
        logger.warning(
            "The fitted temperature, %.2f, is at the limit of the range that is searched "
            "(%.2f to %.2f): the probabilities of the types may be poorly calibrated.",
            np.exp(found.x),
            *_TEMPERATURES,
        )
    return float(np.exp(found.x))


def choose_naming(
    found: Mapping[str, np.ndarray], true_ids: np.ndarray, repeats: int = 1
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Chooses the classifiers whose types are used.

    Of the combinations whose likelihood is within one standard error of the greatest, it
    is the one with most classifiers (as the rule of Breiman et al. 1984 for the size of
    trees): smaller differences are chance, and in fields unlike these, several classifiers
    are seldom wrong together. All types have the same weight, as in training, since a
    mixed field can have any proportions.

    Args:
      found: (N, K) probabilities by each classifier, for cells of held-out fields.
      true_ids: (N,) true types, counted from 1; every type occurs.
      repeats: how often each cell occurs among the N.

    Returns:
      The chosen combination, and the mean log-likelihood of every combination, each at its
      own best temperature, by names joined by '+'.
    """
    logs = {}
    weights = 1 / np.bincount(true_ids)[true_ids]
    weights /= weights.sum()
    for count in range(len(found), 0, -1):
        for named_by in itertools.combinations(found, count):
            combined = combining.combine(found, named_by)
            temperature = fit_temperature(combined, true_ids, weights)
            scaled = postprocessing.at_temperature(combined, temperature)
            true = scaled[np.arange(len(true_ids)), true_ids - 1]
            logs[named_by] = np.log(np.maximum(true, 1e-9))
    means = {named_by: float(weights @ values) for named_by, values in logs.items()}
    best = max(means, key=means.__getitem__)

    def error_of(named_by: tuple[str, ...]) -> float:
        """Returns the standard error of the difference from the best combination."""
        off = logs[best] - logs[named_by] - (means[best] - means[named_by])
        return float(np.sqrt(repeats * np.square(weights * off).sum()))

    near = [
        named_by
        for named_by in logs
        if means[best] - means[named_by] <= max(_EQUAL_LIKELIHOOD, error_of(named_by))
    ]
    most = max(map(len, near))
    chosen = max((n for n in near if len(n) == most), key=means.__getitem__)
    told = {"+".join(names): round(value, 5) for names, value in means.items()}
    return chosen, told
