"""Measures how reliable the probabilities of predicted types are, and draws the result."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
from scipy import stats

from cellclass_tf.core.model_metadata import Bin

_BINS = 10


@dataclasses.dataclass(frozen=True)
class Reliability:
    """The accuracy of predicted types, in bins of equal width of their probability.

    Attributes:
      edges: (B + 1,) edges of the bins.
      counts: (B,) number of cells in each bin.
      confidence: (B,) mean probability of the predicted types; NaN in an empty bin.
      accuracy: (B,) fraction of correct types; NaN in an empty bin.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @classmethod
    def of(cls, probabilities: np.ndarray, right: np.ndarray) -> Reliability:
        """Bins cells by `probabilities` (N,); `right` (N,) bool marks correct types."""
        edges = np.linspace(0, 1, _BINS + 1)
        where = np.clip(np.digitize(probabilities, edges) - 1, 0, _BINS - 1)
        counts = np.bincount(where, minlength=_BINS)
        with np.errstate(invalid="ignore"):
            confidence = np.bincount(where, probabilities, _BINS) / counts
            accuracy = np.bincount(where, right, _BINS) / counts
        return cls(edges, counts, confidence, accuracy)

    @property
    def expected_error(self) -> float:
        """The expected calibration error (Naeini et al. 2015): mean |accuracy - confidence|."""
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float(gaps @ self.counts / self.counts.sum())

    def bins(self) -> tuple[Bin, ...]:
        """Returns the bins that contain cells, as cellclass.json records them."""
        found = zip(
            self.edges[:-1].tolist(),
            self.edges[1:].tolist(),
            self.confidence.tolist(),
            self.accuracy.tolist(),
            self.counts.tolist(),
            strict=True,
        )
        return tuple(
            Bin(low, high, confidence, accuracy, calls)
            for low, high, confidence, accuracy, calls in found
            if calls
        )


def png_of(
    before: Reliability, after: Reliability, *, temperature: float, fields: int
) -> bytes:
    """Draws accuracy against confidence before and after calibration, and the counts.

    Error bars are Wilson's 95 % intervals, so that bins with few cells are recognisable.

    Args:
      before: reliability at temperature 1.
      after: reliability at the fitted temperature, of the same cells.
      temperature: the fitted temperature.
      fields: number of held-out fields.

    Returns:
      The picture as PNG.
    """
    from matplotlib import figure, ticker

    cells = int(after.counts.sum())
    page = figure.Figure(figsize=(5, 5.6), dpi=150, layout="constrained")
    upper, lower = page.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="perfect")
    sides = (
        (before, "#CC79A7", "o", "as trained"),
        (after, "#0072B2", "s", f"at T = {temperature:.2f}"),
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
    upper.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="fraction of correct types")
    upper.set_title(
        f"{cells} matched cells of {fields} held-out fields", fontsize="medium"
    )
    upper.legend(loc="upper left")
    lower.set(
        xlabel="probability of the predicted type", ylabel="cells", yscale="symlog"
    )
    lower.set_ylim(0, 2 * cells)
    lower.yaxis.set_major_formatter(ticker.ScalarFormatter())
    drawn = io.BytesIO()
    page.savefig(drawn, format="png")
    return drawn.getvalue()


def wilson_interval(
    shares: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lower and upper ends of Wilson's 95 % intervals (Wilson 1927), (B,) each."""
    ends = [
        stats.binomtest(round(share * count), int(count)).proportion_ci(method="wilson")
        for share, count in zip(shares, counts, strict=True)
    ]
    return np.array([end.low for end in ends]), np.array([end.high for end in ends])
