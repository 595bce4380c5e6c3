"""Judges fields by what was measured of them, and by their group."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from cellclass_tf.labels import noise
from cellclass_tf.microscopy.quality.figures import Figures

# Laplacian variances (log10) of fields that are just sharp, per pixel and per nucleus of
# 20 px. The first alone would reject what a strong objective enlarges.
_SHARP_PER_PIXEL, _SHARP_PER_NUCLEUS = -2.75, -1.8
_NUCLEUS_PX = 20.0
# A group tells what is usual from this many fields on; so many of its standard
# deviations from its median is unusual.
_FEWEST_OF_GROUP, _UNUSUAL = 10, 5.0


def focus_score(figures: Figures) -> float:
    """How sharp a field is; above 0 it is sharp, by pixels or by nuclei.

    The field gets the better of two marks: its Laplacian variance in pixels, and in
    nuclei, which a strong objective does not lower.
    """
    ratio = figures.focus_laplacian
    per_nucleus = ratio + 4 * np.log10(max(figures.nucleus_px, 1.0) / _NUCLEUS_PX)
    return float(max(ratio - _SHARP_PER_PIXEL, per_nucleus - _SHARP_PER_NUCLEUS))


@dataclasses.dataclass(frozen=True)
class Criterion:
    """One reason for rejection: what is worse is larger.

    Attributes:
      reason: short words.
      value: what of the figures is tested.
      limit: above it a field is rejected.
      doubtful: above it, it is rejected if it is also unusual in its group.
      what: names the value to a person.
      number: writes the value.
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
# Of pixels at the end of 8 bit: not rejected for it, and told.
CLIPPED_SHARE = 0.003
REASONS = tuple(dict.fromkeys(criterion.reason for criterion in CRITERIA))


def is_clipped(figures: Figures) -> bool:
    """Whether a field of 8 bit was clipped, which is a doubt and no reason."""
    return figures.display_clipped_share > CLIPPED_SHARE


def judge(figures: Sequence[Figures]) -> list[str]:
    """Judges the fields of one group against fixed limits and against each other.

    Returns:
      The reason for each field, '' if it is good; several are joined by '; ', and each
      begins with one of REASONS.
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
    # In a field without cells nothing else can be measured.
    return [
        "empty: no nucleus was found" if f.nuclei_estimate == 0 else "; ".join(found)
        for f, found in zip(figures, texts, strict=True)
    ]


def _without_debris_for_nuclei(figures: Sequence[Figures]) -> list[Figures]:
    """Takes a few spots that are small beside the group's nuclei for debris."""
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
    """Orders fields for a person's look, the worst first."""
    # In units of the doubtful range, since shares and sharpness differ in scale.
    over = [
        (criterion.value(figures) - criterion.limit)
        / (criterion.limit - criterion.doubtful)
        for criterion in CRITERIA
        if criterion.limit > criterion.doubtful
    ]
    return 10.0 * bool(reason) + max(over)


def _upper_end_of_usual(values: np.ndarray) -> float:
    """Median and spread (of the median absolute deviation) of a group; inf if small."""
    if len(values) < _FEWEST_OF_GROUP:
        return np.inf
    median = np.median(values)
    return float(median + _UNUSUAL * noise.robust_sd(values - median))
