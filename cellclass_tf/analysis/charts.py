"""Draws the charts of the report and of the comparison of conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cellclass_tf.analysis.contrasts import PAIRED
from cellclass_tf.core.model_metadata import Bin
from cellclass_tf.drawing import palette, vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 30
_CONDITION_COLOURS = tuple(map(palette.hex_of, palette.GROUPS_ON_WHITE))


def shares_svg(estimate: Mapping[str, Any]) -> str:
    """Draws each type's proportion with its interval, as counted and as corrected.

    Args:
      estimate: one of the estimates that `mixture` returns.

    Returns:
      The chart as SVG.
    """
    return vector.svg_of(shares_page(estimate, 5.2), "shares")


def shares_page(estimate: Mapping[str, Any], width: float) -> Figure:
    """Draws the chart of `shares_svg` as a Matplotlib figure, `width` inches wide."""
    types = estimate["types"]
    page, axes = _page(width, 0.9 + 0.62 * len(types))
    for row, share in enumerate(types.values()):
        counted = [share[key] for key in ("low", "share", "high")]
        _draw_share(axes, counted, row - 0.14, "0.55", "o", "as counted")
        keys = ("corrected_low", "corrected", "corrected_high")
        corrected = [share[key] for key in keys]
        _draw_share(axes, corrected, row + 0.14, _hex(row + 1), "D", "corrected")
        if share["expected"] is not None:
            ends = [row - 0.35, row + 0.35]
            axes.plot([share["expected"]] * 2, ends, color="black", linestyle=":")
    axes.set(
        xlim=(0, 1), ylim=(len(types) - 0.5, -0.5), xlabel="proportion of the cells"
    )
    axes.set_yticks(range(len(types)), list(types))
    axes.grid(axis="x", color="0.9")
    return page


def _draw_share(
    axes: Axes,
    values: Sequence[float | None],
    y: float,
    colour: str,
    marker: str,
    label: str,
) -> None:
    """Draws a share, [lower end, share, upper end]; nothing if the share is None."""
    low, middle, high = values
    if middle is None:
        return
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=colour, linewidth=3)
    axes.plot(middle, y, marker, color=colour, markeredgecolor="0.2")
    known = [value for value in values if value is not None]
    # To the right of the interval if there is room, else to its left.
    is_left = max(known) > 0.8
    axes.annotate(
        label,
        (min(known) if is_left else max(known), y),
        xytext=(-7 if is_left else 7, -3),
        textcoords="offset points",
        ha="right" if is_left else "left",
        fontsize="small",
        color="0.35",
    )


def histogram_svg(values: Mapping[str, np.ndarray], label: str) -> str:
    """Draws the histogram of a measurement for each type.

    Args:
      values: {type: (N,) float}, without NaN, types in class order.
      label: label of the axis, with the unit.

    Returns:
      The chart as SVG.
    """
    page, axes = _page(3.6, 2.6)
    every = np.concatenate([np.zeros(0), *values.values()])
    if not every.size:
        axes.text(0.5, 0.5, "no cells", ha="center", transform=axes.transAxes)
        return vector.svg_of(page, label)
    low, high = np.percentile(every, [0.5, 99.5])
    edges = np.linspace(low, max(high, low + 1e-6), _BINS + 1)
    for i, (name, found) in enumerate(values.items(), start=1):
        if not found.size:
            continue
        # Values beyond the ends are counted in the outermost bins.
        counts, _ = np.histogram(np.clip(found, edges[0], edges[-1]), edges)
        parts = counts / counts.sum()
        axes.stairs(parts, edges, color=_hex(i), fill=True, alpha=0.25)
        # Line styles differ too, for readers who cannot tell the colours apart.
        dashes = ("-", "--", ":", "-.")[(i - 1) % 4]
        axes.stairs(parts, edges, color=_hex(i), linestyle=dashes, label=name)
    axes.set(xlabel=label, ylabel="fraction of the type's cells")
    axes.legend(fontsize="small", frameon=False)
    return vector.svg_of(page, label)


def reliability_svg(bins: Sequence[Bin]) -> str:
    """Draws the fraction of correct calls against the probability of the calls.

    Args:
      bins: bins of the field `calibration` of a model's metadata.

    Returns:
      The chart as SVG, with 95 % intervals (Wilson).
    """
    from scipy import stats

    page, axes = _page(3.6, 3.2)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--")
    for part in bins:
        right = round(part.right * part.calls)
        ends = stats.binomtest(right, part.calls).proportion_ci(method="wilson")
        axes.plot([part.mean] * 2, [ends.low, ends.high], color="0.5", linewidth=1)
        axes.plot(part.mean, part.right, "o", color=_CONDITION_COLOURS[0])
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="probability of the called type")
    axes.set_ylabel("fraction of correct calls")
    return vector.svg_of(page, "reliability")


class Drawn(NamedTuple):
    """A replicate as it is drawn.

    Attributes:
      condition: name of the condition.
      replicate: name of the replicate.
      shares: proportion of each type.
      by_time: {time point: (K,) proportions}.
    """

    condition: str
    replicate: str
    shares: Mapping[str, float]
    by_time: Mapping[int, np.ndarray]


def conditions_figure(
    result: Mapping[str, Any], replicates: Sequence[Drawn], types: Sequence[str]
) -> dict[str, bytes]:
    """Draws one point per replicate, the means with their intervals, and time courses.

    If conditions were compared by a paired test, lines join the points of each replicate.

    Args:
      result: the result of `compare_conditions`.
      replicates: all replicates.
      types: the types to draw, one panel each.

    Returns:
      {'svg': …, 'pdf': …}: the figure in both formats.
    """
    from matplotlib import figure

    names = [condition["name"] for condition in result["conditions"]]
    has_times = any(one.by_time for one in replicates)
    width = max(2.6, 1.0 + 0.75 * len(names))
    page = figure.Figure(
        figsize=(width * len(types), 5.6 if has_times else 3.2), layout="constrained"
    )
    panels = page.subplots(1 + has_times, len(types), squeeze=False)
    for column, name in enumerate(types):
        place = list(result["types"]).index(name)
        _points(panels[0, column], result, replicates, name, names)
        if has_times:
            _courses(panels[1, column], replicates, place, name, names)
    svg = vector.svg_of(page, "conditions")
    return {"svg": svg.encode(), "pdf": vector.pdf_of(page)}


def _points(
    axes: Axes,
    result: Mapping[str, Any],
    replicates: Sequence[Drawn],
    name: str,
    names: Sequence[str],
) -> None:
    places: dict[tuple[str, str], tuple[float, float]] = {}
    for x, condition in enumerate(result["conditions"]):
        here = [one for one in replicates if one.condition == condition["name"]]
        values = [one.shares[name] for one in here]
        # Points are moved sideways, so that equal values do not hide each other.
        beside = (
            (np.arange(len(values)) - (len(values) - 1) / 2)
            * 0.36
            / max(len(values), 3)
        )
        colour = _CONDITION_COLOURS[x % len(_CONDITION_COLOURS)]
        axes.plot(x + beside, values, "o", color=colour, alpha=0.75, markersize=5)
        for one, at, value in zip(here, x + beside, values, strict=True):
            places[one.condition, one.replicate] = at, value
        mean = condition["types"][name]
        axes.plot(
            [x - 0.22, x + 0.22], [mean["mean"]] * 2, color="black", linewidth=1.5
        )
        if mean["low"] is not None:
            ends = [mean["low"], mean["high"]]
            axes.plot([x, x], ends, color="black", linewidth=1)
    tested = [
        contrast
        for contrast in result["contrasts"]
        if contrast["type"] == name and contrast["p_value"] is not None
    ]
    _join_pairs(axes, tested, places, names)
    top = 1.02
    for contrast in tested if len(tested) <= 3 else ():
        ends = [names.index(contrast["first"]), names.index(contrast["second"])]
        axes.plot(
            [ends[0], *ends, ends[1]],
            [top, top + 0.02, top + 0.02, top],
            color="0.3",
            linewidth=0.8,
        )
        p_value = contrast["p_value" if len(tested) == 1 else "p_adjusted"]
        words = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
        axes.text(sum(ends) / 2, top + 0.03, words, ha="center", fontsize="small")
        top += 0.12
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, max(1.02, top)))
    axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 3 else 0)
    _name_axis(axes, name)


def _join_pairs(
    axes: Axes,
    tested: Sequence[Mapping[str, Any]],
    places: Mapping[tuple[str, str], tuple[float, float]],
    names: Sequence[str],
) -> None:
    """Draws lines between the points of each replicate in adjacent paired conditions."""
    for contrast in tested:
        ends = sorted((contrast["first"], contrast["second"]), key=names.index)
        first, second = map(names.index, ends)
        if contrast["test"] != PAIRED or second - first > 1:
            continue
        for condition, replicate in places:
            if condition == ends[0]:
                line = [places[name, replicate] for name in ends]
                axes.plot(
                    *zip(*line, strict=True), color="0.6", linewidth=0.7, zorder=0
                )


def _courses(
    axes: Axes,
    replicates: Sequence[Drawn],
    place: int,
    name: str,
    names: Sequence[str],
) -> None:
    for number, condition in enumerate(names):
        colour = _CONDITION_COLOURS[number % len(_CONDITION_COLOURS)]
        courses = [one.by_time for one in replicates if one.condition == condition]
        for course in courses:
            values = [shares[place] for shares in course.values()]
            axes.plot(list(course), values, color=colour, linewidth=0.7, alpha=0.5)
        times = sorted({time for course in courses for time in course})
        means = [
            np.mean([course[time][place] for course in courses if time in course])
            for time in times
        ]
        axes.plot(times, means, color=colour, linewidth=2, label=condition)
    axes.set(ylim=(0, 1.02), xlabel="time point")
    _name_axis(axes, name)
    axes.legend(frameon=False, fontsize="small")


def _name_axis(axes: Axes, name: str) -> None:
    """Labels the vertical axis as the percentage of a type."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])
    axes.set_ylabel(f"{name}, % of the cells")


def _page(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib import figure

    page = figure.Figure(figsize=(width, height), layout="constrained")
    axes = page.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return page, axes


def _hex(type_id: int) -> str:
    return palette.hex_of(palette.colour_on_white(type_id))
