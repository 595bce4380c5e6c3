"""Judges fields by their measurements, against fixed limits and against their group."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from cellclass_tf.labels import noise
from cellclass_tf.microscopy.quality.figures import Figures

# Laplacian variances (log10) of fields that are just sharp, per pixel and per nucleus of
# 20 px. The first alone would reject sharp fields of a strong objective.
_SHARP_PER_PIXEL, _SHARP_PER_NUCLEUS = -2.75, -1.8
_NUCLEUS_PX = 20.0
# A group needs this many fields to say what is usual. A value is unusual if it lies more
# than this many robust standard deviations above the group's median.
_FEWEST_OF_GROUP, _UNUSUAL = 10, 5.0


def focus_score(figures: Figures) -> float:
    """Returns a score of sharpness; a field with a score above 0 is sharp.

    It is the better of two scores: the Laplacian variance per pixel, and per nucleus. A
    strong objective lowers only the first.
    """
    ratio = figures.focus_laplacian
    per_nucleus = ratio + 4 * np.log10(max(figures.nucleus_px, 1.0) / _NUCLEUS_PX)
    return float(max(ratio - _SHARP_PER_PIXEL, per_nucleus - _SHARP_PER_NUCLEUS))


@dataclasses.dataclass(frozen=True)
class Criterion:
    """One reason to reject a field; larger values are worse.

    Attributes:
      reason: the reason in short words.
      value: computes the value to test from the figures.
      limit: a field with a larger value is rejected.
      doubtful: a field with a larger value is rejected if the value is also unusual in
        its group.
      what: name of the value in messages.
      number: formats the value.
    """

    reason: str
    value: Callable[[Figures], float]
    limit: float
    doubtful: float
    what: str
    number: Callable[[float], str] = "{:.1%}".format


CRITERIA = (
    Criterion("empty", lambda f: float(f.nuclei_estimate == 0), 0.5, 0.5, "no nucleus"),
    Criterion(
        "out of focus",
        lambda f: -focus_score(f),
        0.0,
        -0.3,
        "sharpness",
        lambda value: f"{0 - value:.2f}",
    ),
    Criterion("saturated", lambda f: f.saturated_share, 0.01, 0.003, "share of pixels"),
    Criterion("debris", lambda f: f.debris_share, 0.05, 0.02, "bright share of pixels"),
    Criterion(
        "debris",
        lambda f: f.specks_per_nucleus,
        1.5,
        1.0,
        "specks for each nucleus",
        "{:.1f}".format,
    ),
    Criterion("glow", lambda f: f.glow_share, 0.4, 0.2, "share of a nucleus's light"),
    Criterion(
        "uneven light", lambda f: f.unevenness, 0.8, 0.65, "lost in the dark part"
    ),
    Criterion(
        "no cytoplasm", lambda f: f.bare_share, 0.5, 0.25, "share of nuclei without"
    ),
    Criterion(
        "one channel twice",
        lambda f: f.channel_likeness,
        0.98,
        0.95,
        "likeness of the channels",
        "{:.3f}".format,
    ),
    Criterion(
        "cut off", lambda f: f.cut_off_share, 0.1, 0.05, "part without one channel"
    ),
    Criterion(
        "scale bar",
        lambda f: float(f.scale_bar_px),
        0.0,
        0.0,
        "length in px",
        "{:.0f}".format,
    ),
)
# Share of pixels at 255 in an 8-bit field above which a warning is given. Such fields are
# not rejected.
CLIPPED_SHARE = 0.003
REASONS = tuple(dict.fromkeys(criterion.reason for criterion in CRITERIA))


def is_clipped(figures: Figures) -> bool:
    """Whether an 8-bit field is clipped, which is worth a warning but no rejection."""
    return figures.display_clipped_share > CLIPPED_SHARE


def judge(figures: Sequence[Figures]) -> list[str]:
    """Judges the fields of one group against fixed limits and against each other.

    Returns:
      The reasons to reject each field, '' if there are none. They are joined by '; ', and
      each begins with one of REASONS.
    """
    figures = _without_debris_for_nuclei(figures)
    texts: list[list[str]] = [[] for _ in figures]
    for criterion in CRITERIA:
        values = np.array([criterion.value(f) for f in figures], float)
        usual = _upper_end_of_usual(values)
        for found, value in zip(texts, values, strict=True):
            against = ""
            if value > criterion.limit:
                against = f"limit {criterion.number(criterion.limit)}"
            elif value > max(criterion.doubtful, usual):
                against = f"its group's bound {criterion.number(usual)}"
            if against:
                number = criterion.number(value)
                found.append(
                    f"{criterion.reason}: {criterion.what} {number} ({against})"
                )
    # Nothing else can be measured in a field without cells.
    return [
        "empty: no nucleus was found" if f.nuclei_estimate == 0 else "; ".join(found)
        for f, found in zip(figures, texts, strict=True)
    ]


def _without_debris_for_nuclei(figures: Sequence[Figures]) -> list[Figures]:
    """Sets the number of nuclei to 0 where the only spots are much too small for nuclei."""
    sizes = [f.nucleus_px for f in figures if f.nuclei_estimate >= 5]
    if len(sizes) < _FEWEST_OF_GROUP:
        return list(figures)
    smallest = 0.5 * np.median(sizes)
    return [
        dataclasses.replace(f, nuclei_estimate=0)
        if f.nuclei_estimate < 5 and f.nucleus_px < smallest
        else f
        for f in figures
    ]


def severity(figures: Figures, reason: str) -> float:
    """Returns how bad a field is, by which contact sheets are sorted."""
    # In units of the doubtful range, since criteria differ in scale.
    over = [
        (criterion.value(figures) - criterion.limit)
        / (criterion.limit - criterion.doubtful)
        for criterion in CRITERIA
        if criterion.limit > criterion.doubtful
    ]
    return 10.0 * bool(reason) + max(over)


def _upper_end_of_usual(values: np.ndarray) -> float:
    """Returns the value above which one is unusual in a group; inf for small groups."""
    if len(values) < _FEWEST_OF_GROUP:
        return np.inf
    median = np.median(values)
    return float(median + _UNUSUAL * noise.robust_sd(values - median))
