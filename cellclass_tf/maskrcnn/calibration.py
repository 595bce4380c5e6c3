"""How sure a trained network may be: fitted on fields that it did not learn from."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from scipy import optimize, stats

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.model_metadata import (
    BY_BOTH,
    BY_DETECTOR,
    BY_NAMER,
    UNCALIBRATED_SCORE_THRESHOLD,
    Bin,
    CalibrationRecord,
    HeldOutField,
)
from cellclass_tf.labels import matching
from cellclass_tf.maskrcnn import postprocessing
from cellclass_tf.maskrcnn.cell_namer import combining
from cellclass_tf.messages import logger

_BINS = 10
_TEMPERATURES = (0.25, 8.0)
_THRESHOLDS = (0.25, 0.65)
# Enough to fit two numbers; more would only take memory, and time for the threshold,
# with which all cells are drawn again and again.
MOST_FIELDS = 100
_FIELDS_FOR_THRESHOLD = 12
# Scores between which F1 is no worse than this do equally well.
_EQUAL_F1 = 0.002


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Of calls in bins of equal width by their probability, how many were right.

    Attributes:
      edges: (B + 1,) of the bins.
      counts: (B,) calls.
      confidence: (B,) their mean probability; NaN in an empty bin.
      accuracy: (B,) share of right calls; NaN in an empty bin.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @classmethod
    def of(cls, probabilities: np.ndarray, right: np.ndarray) -> Reliability:
        """Bins calls of probability (N,), of which `right` (N,) bool were."""
        edges = np.linspace(0, 1, _BINS + 1)
        where = np.clip(np.digitize(probabilities, edges) - 1, 0, _BINS - 1)
        counts = np.bincount(where, minlength=_BINS)
        with np.errstate(invalid="ignore"):
            confidence = np.bincount(where, probabilities, _BINS) / counts
            accuracy = np.bincount(where, right, _BINS) / counts
        return cls(edges, counts, confidence, accuracy)

    @property
    def expected_error(self) -> float:
        """Expected calibration error (Naeini et al. 2015): mean |accuracy - confidence|."""
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float(gaps @ self.counts / self.counts.sum())


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What was fitted, and how good it is.

    Attributes:
      score_threshold: with it cells missed and cells invented are fewest (F1 at IoU 0.5).
      temperature: of the types' probabilities.
      cells: number of matched cells of known type.
      accuracy: share of these that got their type.
      fields: number of fields.
      held_out: what became of the cells of each field that is no composition.
      before: reliability at temperature 1.
      after: reliability at the fitted one.
      mask_threshold: with it cells are as large, in the median, as the annotated ones;
        None for outlines that are not the network's.
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
        """Returns what cellclass.json holds."""
        after = self.after
        bins = zip(
            after.edges[:-1].tolist(),
            after.edges[1:].tolist(),
            after.confidence.tolist(),
            after.accuracy.tolist(),
            after.counts.tolist(),
            strict=True,
        )
        return CalibrationRecord(
            fields=self.fields,
            cells=self.cells,
            type_accuracy=self.accuracy,
            held_out=self.held_out,
            expected_calibration_error_before=self.before.expected_error,
            expected_calibration_error=self.after.expected_error,
            bins=tuple(
                Bin(low, high, confidence, accuracy, calls)
                for low, high, confidence, accuracy, calls in bins
                if calls
            ),
        )


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the cells of a held-out field are from.

    Attributes:
      group: acquisition group, such as a dish.
      area: of the field, in squares of the diameter of a median cell.
      is_composed: whether its cells were cut out of other held-out fields.
    """

    group: str = ""
    area: float = 0.0
    is_composed: bool = False


@dataclasses.dataclass(frozen=True)
class Matched:
    """The cells found in one field, beside the true ones.

    Attributes:
      scores: (F,) of the found cells.
      probabilities: (F, K) of their types, at temperature 1.
      right: (F,) bool, whether a true cell was found again.
      true_ids: (F,) type of that cell; 0 if it is unknown, or there is none.
      true_cells: number of true cells.
      true_counts: (K,) true cells of each type.
      origin: of the field.
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
        """Matches cells at IoU 0.5, unless (P, 2) pairs of their numbers are given."""
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
        """What became of the true cells, where cells have scores from `least` on."""
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
    """Gathers fields with known cells, and fits what turns masks and scores into cells."""

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
        """Takes in one field, of which `MOST_FIELDS` are enough."""
        self._fields.append((detections, true))
        self._origins.append(origin)

    def fit(self, rename: Callable[[Cells], Cells] | None = None) -> Calibration | None:
        """Fits the three numbers; None if no cell was found again.

        Args:
          rename: names the found cells of a field anew, before calibration; called once
            a field, in the order in which they were added. None keeps the detector's.

        Masks end where the median of the found cells' diameters over their true ones is
        1. The score is the middle of those with which F1 is best. The temperature is
        that of the greatest likelihood of the true types (Guo et al. 2017,
        arXiv:1706.04599), one call more of each outcome added so that a network without
        a mistake does not become boundlessly sure (as in Platt 1999).
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
    """Fits what turns scores of given outlines into cells; None without a match.

    Whoever outlined a cell thought that it is one: only those are left out whose score is
    so low that the held-out fields say otherwise.
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
    """The score below which cells are better left out, by F1 at IoU 0.5.

    Args:
      fields: found cells beside the true ones.
      of_network: whether the network outlined the cells. Then the score is the middle of
        those that do best, and never below `UNCALIBRATED_SCORE_THRESHOLD`: held-out
        fields are mostly crowded, and where there is more empty ground there is more to
        invent. For outlines of others it is the lowest of those that do best.

    Returns:
      A score; the lowest that it can be if no cell was found again.
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


def fit_temperature(probabilities: np.ndarray, true_ids: np.ndarray) -> float:
    """Returns the temperature of the greatest likelihood.

    Args:
      probabilities: (N, K) of each type.
      true_ids: (N,) true types from 1 on.
    """
    count, types = probabilities.shape
    wanted = np.full((count, types), 1 / (count + types))
    wanted[np.arange(count), true_ids - 1] = (count + 1) / (count + types)
    wanted /= wanted.sum(axis=1, keepdims=True)

    def loss(log_temperature: float) -> float:
        scaled = postprocessing.at_temperature(probabilities, np.exp(log_temperature))
        return -float((wanted * np.log(np.maximum(scaled, 1e-12))).sum(axis=1).mean())

    found = optimize.minimize_scalar(
        loss, bounds=np.log(_TEMPERATURES), method="bounded"
    )
    if np.isclose(np.exp(found.x), _TEMPERATURES, rtol=0.01).any():
        logger.warning("The temperature is at its limit: %.2f.", np.exp(found.x))
    return float(np.exp(found.x))


def choose_naming(
    detector: np.ndarray, namer: np.ndarray, true_ids: np.ndarray
) -> tuple[str, dict[str, float]]:
    """Chooses who names the cells: detector, namer, or both together.

    Args:
      detector: (N, K) probabilities of the detector on held-out fields.
      namer: the same of the namer.
      true_ids: (N,) true types from 1 on.

    Returns:
      The one of the greatest likelihood, each at its own best temperature, and the mean
      log-likelihood of each. Both together if they are equal.
    """
    found = {}
    for named_by in (BY_BOTH, BY_NAMER, BY_DETECTOR):
        combined = combining.combine(detector, namer, named_by)
        temperature = fit_temperature(combined, true_ids)
        scaled = postprocessing.at_temperature(combined, temperature)
        true = scaled[np.arange(len(true_ids)), true_ids - 1]
        found[named_by] = round(float(np.log(np.maximum(true, 1e-9)).mean()), 5)
    return max(found, key=found.__getitem__), found


def reliability_png(calibration: Calibration) -> bytes:
    """Draws accuracy against confidence, before and after, and how many calls there are.

    Bars are Wilson's 95 % intervals: a bin of few calls says little.
    """
    from matplotlib import figure, ticker

    page = figure.Figure(figsize=(5, 5.6), dpi=150, layout="constrained")
    upper, lower = page.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="perfect")
    sides = (
        (calibration.before, "#CC79A7", "o", "as trained"),
        (calibration.after, "#0072B2", "s", f"at T = {calibration.temperature:.2f}"),
    )
    for side, colour, marker, name in sides:
        full = side.counts > 0
        low, high = wilson_interval(side.accuracy[full], side.counts[full])
        middle = side.accuracy[full]
        upper.errorbar(
            side.confidence[full],
            middle,
            np.maximum(0, [middle - low, high - middle]),
            marker=marker,
            color=colour,
            elinewidth=0.8,
            label=f"{name}: error {side.expected_error:.3f}",
        )
        lower.stairs(side.counts, side.edges, color=colour)
    upper.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="share of right calls")
    upper.set_title(
        f"{calibration.cells} matched cells of {calibration.fields} held-out fields",
        fontsize="medium",
    )
    upper.legend(loc="upper left")
    lower.set(xlabel="probability of the called type", ylabel="calls", yscale="symlog")
    lower.set_ylim(0, 2 * calibration.cells)
    lower.yaxis.set_major_formatter(ticker.ScalarFormatter())
    drawn = io.BytesIO()
    page.savefig(drawn, format="png")
    return drawn.getvalue()


def wilson_interval(
    shares: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % intervals of shares (B,) of counts (B,) (Wilson 1927): low, high."""
    ends = [
        stats.binomtest(round(share * count), int(count)).proportion_ci(method="wilson")
        for share, count in zip(shares, counts, strict=True)
    ]
    return np.array([end.low for end in ends]), np.array([end.high for end in ends])
